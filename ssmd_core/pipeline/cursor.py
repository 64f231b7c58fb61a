"""Remembers how far the bus has acknowledged the log, beside the archive."""

from __future__ import annotations

import re

import anyio
import anyio.to_thread

from ssmd_core.clock import NS
from ssmd_core.log import get_logger
from ssmd_core.sink import Storage

__all__ = ["Cursor"]

_NAME = "cursor"
_DAMAGED = "cursor-damaged"
_VALUE = re.compile(rb"([0-9]{19})(\??)\n?")
"""Nanoseconds since 1970 have 19 digits from 2001 to 2286: fewer are a torn value.

With a question mark it is no cursor yet: the bus is owed what comes after, and was not
asked yet what it has of before.
"""
_BEFORE_ALL = 10**18
"""The least of them."""
_log = get_logger("ssmd.cursor")


class Cursor:
    """A receipt time: every frame up to it is acknowledged by the bus."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage
        self._saving = anyio.Lock()
        self._failing = False
        self.kept = 0
        """What stands beside the archive."""
        self.owed_from = 0
        """Where the archive ended when it was first found without a cursor; 0: it has one."""

    def load(self, head_ts: int) -> int | None:
        """Return how far the bus had come when the last run ended; None where nothing says.

        Args:
            head_ts: where the archive ends; 0 where it is empty.

        Raises:
            StorageFailed: it is there and cannot be read.
            ValueError: it does not tell. It holds no time, and what it holds is kept as
                ``cursor-damaged``; or one beyond the archive, whose end a power cut took,
                or which was never true.
        """
        found = self._storage.load(_NAME)
        if found is None:
            return None
        value = _VALUE.fullmatch(found)
        if value is None:
            self._set_aside(found)
            raise ValueError("the cursor is damaged, its bytes are kept as cursor-damaged")
        position = int(value[1])
        if position > head_ts > 0:
            ahead_seconds = (position - head_ts) / NS
            raise ValueError(f"the cursor is {ahead_seconds:.3f} s ahead of the archive's end")
        position = min(position, head_ts)
        if value[2]:
            self.owed_from = position
            return None
        self.kept = position
        return position

    async def begin(self, head_ts: int) -> None:
        """Keep that the bus is to have what comes from here on, before any of it is archived.

        A first run that is killed before it kept a position owes the bus what it archived.

        Args:
            head_ts: where the archive ends; 0: nowhere, and the bus is owed all of it.
        """
        if not head_ts:
            await self.save(_BEFORE_ALL)
        elif not self.owed_from:
            self.owed_from = head_ts
            async with self._saving:
                await self._put(f"{head_ts}?".encode())

    async def save(self, position: int) -> None:
        """Keep a position; one that did not move is not written again."""
        async with self._saving:
            if position > self.kept and await self._put(str(position).encode()):
                self.kept = position

    async def _put(self, value: bytes) -> bool:
        """Write a value; say whether that went well. A spell of failures is told once."""
        try:
            await anyio.to_thread.run_sync(self._storage.save, _NAME, value)
        except Exception as error:  # noqa: BLE001  also a stranger's storage is asked again
            if not self._failing:
                _log.warning("the cursor could not be kept", why=str(error) or repr(error))
            self._failing = True
            return False
        self._failing = False
        return True

    def _set_aside(self, found: bytes) -> None:
        try:
            self._storage.save(_DAMAGED, found)
        except Exception as error:  # noqa: BLE001  it only helps to understand what happened
            _log.warning("the damaged cursor could not be set aside", why=str(error) or repr(error))
