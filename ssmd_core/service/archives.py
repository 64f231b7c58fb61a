"""Decides which plugin reads what lies at a path or URL."""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import urlsplit

from ssmd_core.errors import UsageError
from ssmd_core.plugins.registry import Registry
from ssmd_core.sink.archive import Archive

__all__ = ["open_archive"]

_LOCAL = "local"


def open_archive(place: str, registry: Registry, environ: Mapping[str, str]) -> Archive:
    """Open the archive at a path, or at a URL whose scheme is a storage type, for reading.

    Raises:
        UsageError: that type of storage cannot be read afterwards.
        PluginError: nobody provides the type.
        StartError: there is no archive.
    """
    scheme = urlsplit(place).scheme if "://" in place else _LOCAL
    storage = registry.storage(scheme)
    if storage.archive is None:
        origin = registry.origin(storage).origin
        raise UsageError(f"{origin}: archives of type {scheme} cannot be read afterwards")
    return storage.archive(place, environ)
