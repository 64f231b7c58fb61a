"""Appends to the archive, and keeps frames in bounded memory while it refuses."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

from ssmd_core.clock import iso
from ssmd_core.errors import StorageFailed
from ssmd_core.metrics import Metrics
from ssmd_core.records import Batch
from ssmd_core.sink import Storage

__all__ = ["Archiver"]

_FRAME_COST = 64
"""Bytes that a frame held in memory costs beside its data."""
_SLACK = 4
"""Where reading pauses at the bound, a quarter more is kept: what was on its way still comes."""
_AWAY = "the archive refused frames for longer than memory holds"
_STOPPED = "the archive refused frames until the stop, and memory ends with it"


class Archiver:
    """Batches go to the storage in order, whole, or wait their turn.

    Args:
        storage: where they go.
        metrics: where they are counted.
        report: the ledger.
        acknowledged: says how many frames of a batch the bus has, whatever the archive lacks.
        held_limit_bytes: how much may wait; past it the oldest are dropped and declared.
        pauses: past the bound reading is to pause, so that nothing need be dropped.
    """

    def __init__(
        self,
        storage: Storage,
        metrics: Metrics,
        report: Callable[..., Any],
        *,
        acknowledged: Callable[[Batch], int],
        held_limit_bytes: int = 16 * 1024 * 1024,
        pauses: bool = False,
    ) -> None:
        self._storage = storage
        self._metrics = metrics
        self._report = report
        self._acknowledged = acknowledged
        self._miss: Callable[[int, int], None] = _nothing
        self._carry: Callable[[], None] = _nothing
        self._limit = held_limit_bytes
        self._pauses = pauses
        self._held: deque[Batch] = deque()
        self._held_bytes = 0
        self._failed = ""
        self._sync_failed = ""
        self.head_ts = 0
        """Receipt time of the last frame in the archive."""
        self.lost = 0
        """Frames dropped from memory: not archived, and not acknowledged by the bus then. And
        those that the archive took and somebody removed."""
        self._dropped_from = 0
        self._dropped_to = 0
        self._dropped = 0
        self._dropped_acknowledged = 0

    def attach(self, *, miss: Callable[[int, int], None], carry: Callable[[], None]) -> None:
        """Tell who brings back what was dropped, and who introduces sessions once more.

        An archive that takes frames again may have lost the ledger that introduced them.
        """
        self._miss, self._carry = miss, carry

    @property
    def failing(self) -> str:
        """Why the archive does not take frames, or does not make them durable, or empty."""
        return self._failed or self._sync_failed

    @property
    def held(self) -> int:
        """How many frames wait in memory."""
        return sum(len(batch.frames) for batch in self._held)

    @property
    def waiting_ts(self) -> int | None:
        """Receipt time of the first frame that waits in memory."""
        return self._held[0].first_ts if self._held else None

    def wants_pause(self, *, paused: bool) -> bool:
        """Say whether reading should pause: what waits has reached the bound, or still waits."""
        if not self._held or not self._pauses:
            return False
        return paused or self._held_bytes >= self._limit

    def append(self, batch: Batch) -> bool:
        """Archive a batch, behind what waits; say whether any wait."""
        if not self._held and self._try(batch):
            return False
        self._hold(batch)
        return True

    def retry(self) -> None:
        """Try again what waits. Called on a timer."""
        while self._held:
            if not self._try(self._held[0]):
                return
            self._held_bytes -= _cost(self._held.popleft())
            # At once: frames stand behind the hole now, whatever becomes of the rest.
            self._declare_dropped(_AWAY)
        if self._failed:
            self._failed = ""
            self._recovered()

    def close(self) -> None:
        """Give up what still waits: it is lost, and said so."""
        self.retry()
        self._declare_dropped(_AWAY)
        while self._held:
            self._drop_oldest()
        self._declare_dropped(_STOPPED)

    def lose(self, frames: int, from_ts: int, to_ts: int, reason: str) -> None:
        """Declare frames that the archive took, and that are gone from it."""
        self.lost += frames
        self._metrics.dropped.add("archive_removed", frames)
        self._report(
            "dropped",
            sink="storage",
            reason=reason,
            frames=frames,
            from_ts=iso(from_ts),
            to_ts=iso(to_ts),
        )
        self._miss(from_ts, to_ts)

    def note_sync(self, failure: str = "") -> None:
        """Tell of a sync: each spell of failures stands in the ledger once."""
        if failure and not self._sync_failed:
            self._report("sink_failed", sink="storage", reason=failure)
        elif self._sync_failed and not failure:
            self._recovered()
        self._sync_failed = failure

    def _try(self, batch: Batch) -> bool:
        try:
            self._storage.append(batch)
        except Exception as error:  # noqa: BLE001  also a stranger's storage gets its retry
            if not self._failed:
                self._failed = str(error) if isinstance(error, StorageFailed) else repr(error)
                self._report("sink_failed", sink="storage", reason=self._failed)
            return False
        self.head_ts = batch.last_ts
        return True

    def _hold(self, batch: Batch) -> None:
        self._held.append(batch)
        self._held_bytes += _cost(batch)
        limit = self._limit + self._limit // _SLACK if self._pauses else self._limit
        while self._held_bytes > limit and len(self._held) > 1:
            self._drop_oldest()

    def _drop_oldest(self) -> None:
        batch = self._held.popleft()
        self._held_bytes -= _cost(batch)
        self._dropped_from = self._dropped_from or batch.first_ts
        self._dropped_to = batch.last_ts
        self._dropped += len(batch.frames)
        acknowledged = self._acknowledged(batch)
        self._dropped_acknowledged += acknowledged
        self.lost += len(batch.frames) - acknowledged
        self._metrics.dropped.add("archive_failed", len(batch.frames))

    def _recovered(self) -> None:
        self._report("sink_recovered", sink="storage")
        self._carry()

    def _declare_dropped(self, reason: str) -> None:
        if self._dropped:
            self._report(
                "dropped",
                sink="storage",
                reason=reason,
                frames=self._dropped,
                acknowledged=self._dropped_acknowledged,
                from_ts=iso(self._dropped_from),
                to_ts=iso(self._dropped_to),
            )
            self._miss(self._dropped_from, self._dropped_to)
            self._dropped = self._dropped_from = self._dropped_to = 0
            self._dropped_acknowledged = 0


def _nothing(*_: int) -> None:
    """Leave it: no feed is attached yet."""


def _cost(batch: Batch) -> int:
    return sum(map(len, batch.frames)) + _FRAME_COST * len(batch.frames)
