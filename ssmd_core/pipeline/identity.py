"""Decides what a connector is called in the ids of its messages."""

from __future__ import annotations

import re
import secrets

import structlog

from ssmd_core.errors import StorageFailed
from ssmd_core.sink import Storage

__all__ = ["connector_id"]

_NAME = "connector"
_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")
_log = structlog.get_logger("ssmd.identity")


def connector_id(storage: Storage | None) -> str:
    """Return the id made at the first start and kept with the archive.

    Without an archive it lives as long as the process.

    Raises:
        StorageFailed: the archive holds one that cannot be read.
    """
    kept = storage.load(_NAME) if storage is not None else None
    if kept is not None:
        name = kept.decode(errors="replace").strip()
        if _ID.fullmatch(name):
            return name
        _log.warning("the connector's id is damaged, a new one is made")
    made = secrets.token_hex(8)
    if storage is not None:
        try:
            storage.save(_NAME, made.encode() + b"\n")
        except StorageFailed as error:
            _log.warning("the connector's id could not be kept", why=str(error))
    return made
