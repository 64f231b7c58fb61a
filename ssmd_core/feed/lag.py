"""Decides how late frames are read: what is lost behind one happened before its receipt."""

from __future__ import annotations

from collections.abc import Sequence

from ssmd_core.clock import NS
from ssmd_core.feed.contract import Parsed

__all__ = ["Lag"]

_MOST_NS = 86_400 * NS
"""A venue time further back says something else than how late we are."""


class Lag:
    """How far the venue's time of the newest record lies behind its receipt, in nanoseconds.

    A connector that was held up reads what waits in the socket long after it was sent. If
    the connection ends then, the hole begins where the venue was, not when we read.
    """

    __slots__ = ("_last_ns", "_newest_ns", "ns")

    def __init__(self) -> None:
        self.ns = 0
        """The larger one of the last two wake-ups: a hole lies between two frames."""
        self._last_ns = 0
        self._newest_ns = 0

    def note(self, first_ts: int, parsed: Sequence[Parsed]) -> None:
        """Take the frames of a wake-up, the first of which was received at ``first_ts``."""
        for index in range(len(parsed) - 1, -1, -1):
            records = parsed[index].records
            if records:
                self._note(first_ts + index, records[-1].venue_ns)
                return

    def _note(self, ts: int, venue_ns: int) -> None:
        if venue_ns <= 0:
            return
        # The newest one: a first quote of a quiet market may be hours old. None from
        # the future: a venue's clock that is ahead must not hide what comes after.
        self._newest_ns = max(self._newest_ns, min(venue_ns, ts))
        lag = ts - self._newest_ns
        lag = lag if lag <= _MOST_NS else 0
        self.ns = max(self._last_ns, lag)
        self._last_ns = lag
