"""Registers archives on disk and in object storage. Light: opens nothing, imports no machinery."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from ssmd_core.plugins import StorageType, hookimpl
from ssmd_sink_file.config import LocalConfig
from ssmd_sink_file.objects.config import AbfsConfig, AnyConfig, GsConfig, ObjectConfig, S3Config

if TYPE_CHECKING:
    from ssmd_core.sink import Storage, StorageContext
    from ssmd_core.sink.archive import Archive


def _open(context: StorageContext, config: LocalConfig | ObjectConfig) -> Storage:
    if isinstance(config, ObjectConfig):
        from ssmd_sink_file.objects.sink import ObjectStorage  # noqa: PLC0415  a plugin stays light

        return ObjectStorage(context, config)
    from ssmd_sink_file.local.sink import LocalStorage  # noqa: PLC0415  a plugin module stays light

    return LocalStorage(context, config)


def _archive(place: str, environ: Mapping[str, str]) -> Archive:
    from ssmd_sink_file.archive import open_archive  # noqa: PLC0415  a plugin stays light

    return open_archive(place, environ)


@hookimpl
def ssmd_storages() -> Iterator[StorageType]:
    """Yield the archive on local disk, and those in object storage."""
    yield StorageType(
        name="local",
        api_version=1,
        config=AnyConfig,
        open=_open,
        archive=_archive,
        summary="JSON lines in day directories on local disk",
        stability="beta",
    )
    yield StorageType(
        name="s3",
        api_version=1,
        config=S3Config,
        open=_open,
        archive=_archive,
        summary="Compressed parts in S3 or a store that speaks its language",
        stability="beta",
    )
    yield StorageType(
        name="gs",
        api_version=1,
        config=GsConfig,
        open=_open,
        archive=_archive,
        summary="Compressed parts in Google Cloud Storage",
        stability="beta",
    )
    yield StorageType(
        name="abfs",
        api_version=1,
        config=AbfsConfig,
        open=_open,
        archive=_archive,
        summary="Compressed parts in Azure Blob Storage",
        stability="beta",
    )
