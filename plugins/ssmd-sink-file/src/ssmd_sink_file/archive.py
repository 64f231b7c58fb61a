"""Decides where an archive that is to be read lies: in a directory, or behind a URL."""

from __future__ import annotations

from collections.abc import Mapping

from ssmd_core.sink.archive import Archive

__all__ = ["open_archive"]

_DIRECTORY_SCHEMES = frozenset({"file", "local"})


def open_archive(place: str, environ: Mapping[str, str]) -> Archive:
    """Open what lies at a path or a URL, for reading.

    Args:
        place: root of an archive, one of its days, or a URL of either; a URL may end in
            ``?endpoint_url=…``, the address of a store that is not the cloud's own.
        environ: the process environment: credentials and address of the store.

    Raises:
        StorageFailed: there is no archive, or it cannot be reached.
    """
    scheme, separator, rest = place.partition("://")
    if not separator:
        from ssmd_sink_file.reading.local import open_local  # noqa: PLC0415  one of two

        return open_local(place)
    if scheme.lower() in _DIRECTORY_SCHEMES:
        from ssmd_sink_file.reading.local import open_local  # noqa: PLC0415  as above

        return open_local(rest)
    from ssmd_sink_file.reading.objects import open_objects  # noqa: PLC0415  as above

    return open_objects(place, environ)
