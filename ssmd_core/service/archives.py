"""Decides which plugin reads what lies at a path or URL."""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import urlsplit

from ssmd_core.errors import StorageFailed, StorageUnusable, UsageError
from ssmd_core.plugins.registry import Registry
from ssmd_core.sink.archive import Archive

__all__ = ["open_archive"]

_LOCAL = "local"
_SPELLINGS = {"": _LOCAL, "file": _LOCAL}


def open_archive(place: str, registry: Registry, environ: Mapping[str, str]) -> Archive:
    """Open the archive at a path, or at a URL whose scheme is a storage type, for reading.

    Raises:
        UsageError: that type of storage cannot be read afterwards.
        PluginError: nobody provides the type.
        StorageUnusable: there is no archive, or it cannot be reached.
    """
    scheme = urlsplit(place).scheme if "://" in place else ""
    storage = registry.storage(_SPELLINGS.get(scheme, scheme))
    if storage.archive is None:
        origin = registry.origin(storage).origin
        raise UsageError(f"{origin}: archives of type {storage.name} cannot be read afterwards")
    try:
        return storage.archive(place, environ)
    except StorageFailed as error:
        raise StorageUnusable(str(error)) from error
