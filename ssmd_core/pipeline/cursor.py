"""Remembers how far the bus has acknowledged the log, beside the archive."""

from __future__ import annotations

import re

import anyio
import anyio.to_thread
import structlog

from ssmd_core.sink import Storage

__all__ = ["Cursor"]

_NAME = "cursor"
_DAMAGED = "cursor-damaged"
_VALUE = re.compile(rb"[0-9]{19}\n?")
"""Nanoseconds since 1970 have 19 digits from 2001 to 2286: fewer are a torn value."""
_BEFORE_ALL = 10**18
"""The least of them."""
_log = structlog.get_logger("ssmd.cursor")


class Cursor:
    """A receipt time: every frame up to it is acknowledged by the bus."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage
        self._saving = anyio.Lock()
        self.kept = 0
        """What stands beside the archive."""

    def load(self, head_ts: int) -> int | None:
        """Return how far the bus had come when the last run ended; None at the first start.

        Args:
            head_ts: where the archive ends; a cursor beyond it is brought back to it.

        Raises:
            StorageFailed: it is there and cannot be read.
            ValueError: it holds no time; what it holds is kept as ``cursor-damaged``.
        """
        found = self._storage.load(_NAME)
        if found is None:
            return None
        if not _VALUE.fullmatch(found):
            self._set_aside(found)
            raise ValueError(f"the cursor holds {len(found)} bytes that are no time")
        self.kept = min(int(found), head_ts)
        return self.kept

    async def begin(self, head_ts: int) -> None:
        """Keep that the bus is to have what comes from here on, before any of it is archived.

        A first run that is killed before it kept a position owes the bus what it archived.

        Args:
            head_ts: where the archive ends, written by a connector without a bus; 0: nowhere.
        """
        await self.save(max(head_ts, _BEFORE_ALL))

    async def save(self, position: int) -> None:
        """Keep a position; one that did not move is not written again."""
        async with self._saving:
            if position <= self.kept:
                return
            try:
                await anyio.to_thread.run_sync(self._storage.save, _NAME, str(position).encode())
            except Exception as error:  # noqa: BLE001  also a stranger's storage is asked again
                _log.warning("the cursor could not be kept", why=str(error) or repr(error))
                return
            self.kept = position

    def _set_aside(self, found: bytes) -> None:
        try:
            self._storage.save(_DAMAGED, found)
        except Exception as error:  # noqa: BLE001  it only helps to understand what happened
            _log.warning("the damaged cursor could not be set aside", why=str(error) or repr(error))
