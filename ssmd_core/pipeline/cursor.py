"""Remembers how far the bus has acknowledged the log, beside the archive."""

from __future__ import annotations

import anyio.to_thread
import structlog

from ssmd_core.sink import Storage

__all__ = ["Cursor"]

_NAME = "cursor"
_log = structlog.get_logger("ssmd.cursor")


class Cursor:
    """A receipt time: every frame up to it is acknowledged by the bus."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage
        self._kept = 0

    def load(self, head_ts: int) -> int | None:
        """Return how far the bus had come when the last run ended; None at the first start.

        Args:
            head_ts: where the archive ends; a cursor beyond it is brought back to it.

        Raises:
            StorageFailed: it is there and cannot be read.
            ValueError: it holds no time.
        """
        kept = self._storage.load(_NAME)
        if kept is None:
            return None
        self._kept = min(int(kept), head_ts)
        return self._kept

    async def save(self, position: int) -> None:
        """Keep a position; one that did not move is not written again."""
        if position <= self._kept:
            return
        try:
            await anyio.to_thread.run_sync(self._storage.save, _NAME, str(position).encode())
        except Exception as error:  # noqa: BLE001  also a stranger's storage is asked again
            _log.warning("the cursor could not be kept", why=str(error) or repr(error))
            return
        self._kept = position
