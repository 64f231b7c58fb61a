"""Makes the archive durable, and keeps beside it how far the bus came: off everybody's way.

Both wait for the disk. One that hangs holds up neither the capture nor the clockwork.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import anyio

from ssmd_core.log import get_logger
from ssmd_core.pipeline.archiver import Archiver
from ssmd_core.pipeline.cursor import Cursor
from ssmd_core.sink import Storage

__all__ = ["Durability"]

_PLACE_SECONDS = 0.25
_SLOW_SECONDS = 5.0
"""A sync that takes longer is told to operators while it lasts."""
_log = get_logger("ssmd.durability")


class Place(Protocol):
    """How far sinks came."""

    def acknowledged_ts(self) -> int | None:
        """Return the receipt time up to which the bus has all; None while it is not known."""
        ...

    @property
    def head_ts(self) -> int:
        """Receipt time up to which the archive holds all."""
        ...


class Durability:
    """One archive's syncs, and the cursor of one transport where there is one."""

    def __init__(
        self,
        storage: Storage,
        archiver: Archiver,
        cursor: Cursor | None,
        place: Place,
        *,
        monotonic: Callable[[], float],
    ) -> None:
        self._storage = storage
        self._archiver = archiver
        self._cursor = cursor
        self._place = place
        self._monotonic = monotonic
        self._syncing_since: float | None = None
        self._release_failed = False

    async def run(self) -> None:
        """Sync and keep the place until cancelled."""
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._keep_syncing)
            tasks.start_soon(self._keep_place)

    async def sync(self) -> None:
        """Make the archive durable; a failure stands in the ledger."""
        if self._syncing_since is None:
            self._syncing_since = self._monotonic()
        try:
            await self._storage.sync()
        except Exception as error:  # noqa: BLE001  also a stranger's storage is asked again
            self._archiver.note_sync(str(error) or repr(error))
        else:
            self._archiver.note_sync()
        self._syncing_since = None

    async def save_place(self) -> None:
        """Keep how far the bus came, and let the storage go of what is behind it."""
        upto = self._place.head_ts
        if self._cursor is not None:
            acknowledged = self._place.acknowledged_ts()
            if acknowledged is not None:
                await self._cursor.save(acknowledged)
            upto = self._cursor.kept
        try:
            self._storage.release(upto)
        except Exception:  # noqa: BLE001  also a stranger's storage is told again
            if not self._release_failed:
                _log.exception("the storage failed to let go of what the bus has")
            self._release_failed = True

    def hanging(self) -> str:
        """Say for how long a sync has not come back, when that is long; else nothing."""
        if self._syncing_since is None:
            return ""
        seconds = self._monotonic() - self._syncing_since
        return f"a sync has been running for {seconds:.0f} s" if seconds > _SLOW_SECONDS else ""

    async def _keep_syncing(self) -> None:
        while True:
            await anyio.sleep(self._storage.sync_seconds)
            await self.sync()

    async def _keep_place(self) -> None:
        while True:
            await anyio.sleep(_PLACE_SECONDS)
            await self.save_place()
