"""Stand-ins for clock and sinks that keep everything in memory and fail when told to."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence

import anyio

from ssmd_core.clock import NS, day_of
from ssmd_core.errors import StorageFailed
from ssmd_core.records import Batch
from ssmd_core.sink import Health, Mark, Message, Storage, Stored, Transport
from ssmd_core.sink.origin import Origin

__all__ = ["ManualClock", "MemoryStorage", "WindowTransport"]


class ManualClock:
    """A clock that stands still until it is moved. Starts at 2026-11-22T06:00:00Z."""

    def __init__(self, wall_ns: int = 1_795_327_200 * NS) -> None:
        self._wall_ns = wall_ns
        self._monotonic_ns = 1_000 * NS

    def wall_ns(self) -> int:
        """Unix nanoseconds."""
        return self._wall_ns

    def monotonic_ns(self) -> int:
        """Nanoseconds that never go back."""
        return self._monotonic_ns

    def advance(self, seconds: float) -> None:
        """Let time pass."""
        step = round(seconds * NS)
        self._wall_ns += step
        self._monotonic_ns += step

    def step_wall(self, seconds: float) -> None:
        """Set the wall clock forwards or back; no time passes."""
        self._wall_ns += round(seconds * NS)


class MemoryStorage(Storage):
    """An archive in a list. ``failing`` makes appends and notes raise."""

    sync_seconds = 0.01

    def __init__(self) -> None:
        self.batches: list[Batch] = []
        self.notes_kept: list[tuple[int, bytes]] = []
        self.values: dict[str, bytes] = {}
        self.failing = ""
        self.syncs = 0
        self.released = 0
        self.closed = False

    async def open(self) -> int:
        """Return the last ``ts`` kept."""
        ends = [batch.last_ts for batch in self.batches] + [ts for ts, _ in self.notes_kept]
        return max(ends, default=0)

    def append(self, batch: Batch) -> None:
        """Keep a batch."""
        self._check()
        self.batches.append(batch)

    def note(self, ts: int, line: bytes) -> None:
        """Keep a ledger line."""
        self._check()
        self.notes_kept.append((ts, line))

    async def sync(self) -> None:
        """Count a sync."""
        self._check()
        self.syncs += 1

    async def read(self, after: int, upto: int) -> AsyncIterator[Batch]:
        """Yield the frames in between, one batch a frame."""
        for batch in sorted(self.batches, key=lambda batch: batch.first_ts):
            for index, data in enumerate(batch.frames):
                ts = batch.first_ts + index
                if after < ts <= upto:
                    raw = frozenset({0}) if index in batch.raw else frozenset()
                    await anyio.lowlevel.checkpoint()
                    yield Batch(ts, [data], batch.conn, raw, batch.stream)

    async def notes(self, after: int, upto: int) -> AsyncIterator[tuple[int, bytes]]:
        """Yield the ledger lines in between."""
        for ts, line in list(self.notes_kept):
            if after < ts <= upto:
                await anyio.lowlevel.checkpoint()
                yield ts, line

    def release(self, upto: int) -> None:
        """Note what is let go of."""
        self.released = upto

    def mark(self) -> Mark:
        """Return the number of frames as the offset."""
        last = self.batches[-1].last_ts if self.batches else 0
        return Mark(f"{day_of(last)}/memory", len(self.frames))

    def load(self, name: str) -> bytes | None:
        """Return a kept value."""
        return self.values.get(name)

    def save(self, name: str, value: bytes) -> None:
        """Keep a value."""
        self._check()
        self.values[name] = value

    def health(self) -> Health:
        """Say whether it fails."""
        return Health(ok=not self.failing, reason=self.failing)

    async def aclose(self) -> None:
        """Note that it was closed."""
        self.closed = True

    @property
    def frames(self) -> list[bytes]:
        """Every frame kept, in order."""
        return [data for batch in self.batches for data in batch.frames]

    def _check(self) -> None:
        if self.failing:
            raise StorageFailed(self.failing)


class WindowTransport(Transport):
    """A bus whose acknowledgements come when ``acknowledge`` is called.

    ``window`` bounds what is unacknowledged; ``online`` False is a bus that is away.
    ``held`` is what it holds of earlier runs: None where it cannot tell.
    """

    def __init__(self, window: int = 1_000_000) -> None:
        self.window = window
        self.online = True
        self.held: list[Message] | None = None
        self.taken: list[Message] = []
        self._acknowledged = 0

    def room(self) -> int:
        """Return what is left of the window."""
        unacked = len(self.taken) - self._acknowledged
        return max(0, self.window - unacked) if self.online else 0

    def publish(self, messages: Sequence[Message]) -> None:
        """Take messages; more than ``room`` is a fault of the caller."""
        if len(messages) > self.room():
            raise ValueError(f"{len(messages)} messages for a room of {self.room()}")
        self.taken += messages

    def acknowledge(self, count: int | None = None) -> None:
        """Acknowledge the next ``count`` messages, or all."""
        left = len(self.taken) - self._acknowledged
        self._acknowledged += left if count is None else min(count, left)

    def oldest_unacked(self) -> int | None:
        """Return the least ``ts`` that is not acknowledged."""
        return min((m.ts for m in self.taken[self._acknowledged :]), default=None)

    def connected(self) -> bool:
        """Say whether the bus is there."""
        return self.online

    def health(self) -> Health:
        """Say whether the bus is there."""
        return Health(ok=self.online, reason="" if self.online else "the bus is away")

    async def stored(self, after: int | None) -> Stored | None:
        """Return what is held above a ``ts``; without one, of the last second."""
        if self.held is None:
            return None
        last_ts = max(
            (m.ts for m in self.held if m.origin in {Origin.LIVE, Origin.CATCHUP}), default=0
        )
        least = last_ts - NS if after is None else after
        return Stored(last_ts, frozenset(m.msg_id for m in self.held if m.ts > least))

    async def flush(self) -> None:
        """Acknowledge everything."""
        self.acknowledge()
