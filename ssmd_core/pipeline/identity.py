"""Decides what a connector is called in the ids of its messages."""

from __future__ import annotations

import re
import secrets

import msgspec

from ssmd_core.errors import StorageFailed
from ssmd_core.log import get_logger
from ssmd_core.pipeline.ledger import INTRODUCTIONS
from ssmd_core.pipeline.recovery import ledger_beginnings
from ssmd_core.sink import Storage

__all__ = ["connector_id", "new_id"]

_NAME = "connector"
_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")
_log = get_logger("ssmd.identity")


def new_id() -> str:
    """Return an id that nobody has: for a process without an archive."""
    return secrets.token_hex(8)


async def connector_id(storage: Storage, last_ts: int) -> str:
    """Return the id made at the first start and kept with the archive.

    One that is gone or damaged is looked up in the ledger: under another id the bus would
    take what it has for something new.

    Args:
        storage: opened.
        last_ts: where the archive ends; 0 where it is empty.

    Raises:
        StorageFailed: the archive holds one that cannot be read.
    """
    kept = storage.load(_NAME)
    name = (kept or b"").decode(errors="replace").strip()
    if _ID.fullmatch(name):
        return name
    told = await _last_told(storage, last_ts) if last_ts else ""
    if kept is not None or told:
        what = "found in the ledger" if told else "made anew"
        _log.warning(f"the connector's id is damaged or gone: {what}")
    name = told or new_id()
    try:
        storage.save(_NAME, name.encode() + b"\n")
    except StorageFailed as error:
        _log.warning("the connector's id could not be kept", why=str(error))
    return name


async def _last_told(storage: Storage, last_ts: int) -> str:
    """Return the id that the ledger named last; empty where it names none."""
    for after in ledger_beginnings(last_ts):
        told = ""
        try:
            async for _, line in storage.notes(after, last_ts):
                told = _id_in(line) or told
        except Exception as error:  # noqa: BLE001  a stranger's storage, too
            _log.warning("the ledger cannot be read back", why=str(error) or repr(error))
        if told:
            return told
    return ""


def _id_in(line: bytes) -> str:
    try:
        said = msgspec.json.decode(line)
        name = said["connector"] if said["event"] in INTRODUCTIONS else ""
        return name if _ID.fullmatch(name) else ""
    except (msgspec.DecodeError, UnicodeError, LookupError, TypeError):
        return ""
