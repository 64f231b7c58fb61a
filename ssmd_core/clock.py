"""Wall and monotonic time behind one Protocol, and the receipt times made from them."""

from __future__ import annotations

import time
from typing import Protocol

__all__ = ["NS", "Clock", "ReceiptClock", "SystemClock", "day_of", "iso"]

NS = 1_000_000_000
_DAY = 86_400 * NS
_STEP_NS = 10_000_000
"""A backward difference from here on is a step worth a ledger line, below it is jitter."""


class Clock(Protocol):
    """Where time comes from; tests pass their own."""

    def wall_ns(self) -> int:
        """Unix nanoseconds; may jump."""
        ...

    def monotonic_ns(self) -> int:
        """Nanoseconds that never go back."""
        ...


class SystemClock:
    """The machine's clocks."""

    # Not wrapped: every wake-up asks for both.
    wall_ns = staticmethod(time.time_ns)
    monotonic_ns = staticmethod(time.monotonic_ns)


class ReceiptClock:
    """Hand out receipt times: strictly increasing, near the wall clock, unique.

    A wall clock that runs ahead is followed at once. One that steps back is slewed:
    receipt time runs at half speed until the wall clock has caught up, and
    ``take_step`` reports the step once.
    """

    def __init__(self, clock: Clock, floor_ns: int = 0) -> None:
        """``floor_ns`` is the last receipt time already in the archive."""
        self._clock = clock
        self._mono = clock.monotonic_ns()
        self._last = floor_ns
        self._now = max(clock.wall_ns(), floor_ns)
        self._behind = False
        self._step_ns = 0
        if self._now - clock.wall_ns() > _STEP_NS:
            self._note_behind(self._now - clock.wall_ns())

    def stamp(self, count: int = 1) -> int:
        """Reserve ``count`` consecutive nanoseconds and return the first."""
        first = self.now_ns()
        if first <= self._last:
            first = self._last + 1
        self._last = first + count - 1
        return first

    def now_ns(self) -> int:
        """Receipt time now, without reserving it."""
        wall, mono = self._clock.wall_ns(), self._clock.monotonic_ns()
        elapsed, self._mono = mono - self._mono, mono
        expected = self._now + elapsed
        if wall >= expected - _STEP_NS and not self._behind:
            self._now = max(wall, self._now)
        elif wall >= self._now + elapsed // 2:
            self._now, self._behind = wall, False
        else:
            if not self._behind:
                self._note_behind(expected - wall)
            self._now += elapsed // 2
        return self._now

    @property
    def offset_ns(self) -> int:
        """How far receipt time is ahead of the wall clock."""
        return max(self._now, self._last) - self._clock.wall_ns()

    def take_step(self) -> int:
        """Return the size of a backward step not yet reported, else 0."""
        step, self._step_ns = self._step_ns, 0
        return step

    def _note_behind(self, by_ns: int) -> None:
        self._behind = True
        self._step_ns = by_ns


def day_of(ts_ns: int) -> str:
    """Return the UTC day of a time, ``YYYY-MM-DD``."""
    return time.strftime("%Y-%m-%d", time.gmtime(ts_ns // _DAY * 86_400))


def iso(ts_ns: int) -> str:
    """Return RFC 3339 with nine digits and ``+00:00``, as the archive writes it."""
    seconds, nanos = divmod(ts_ns, NS)
    return f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(seconds))}.{nanos:09d}+00:00"
