"""Registers the local archive. Light: opens nothing, imports no file or thread machinery."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from ssmd_core.plugins import StorageType, hookimpl
from ssmd_sink_file.config import LocalConfig

if TYPE_CHECKING:
    from ssmd_core.sink import Storage, StorageContext


def _open(context: StorageContext, config: LocalConfig) -> Storage:
    from ssmd_sink_file.sink import LocalStorage  # noqa: PLC0415  a plugin module stays light

    return LocalStorage(context, config)


@hookimpl
def ssmd_storages() -> Iterator[StorageType]:
    """Yield the archive on local disk."""
    yield StorageType(
        name="local",
        api_version=1,
        config=LocalConfig,
        open=_open,
        summary="JSON lines in day directories on local disk",
        stability="beta",
    )
