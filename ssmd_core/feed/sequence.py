"""Decides what is missing: sequence numbers per channel id of one connection."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ssmd_core.feed.contract import Parsed

__all__ = ["Gap", "SequenceTracker"]


@dataclass(frozen=True, slots=True)
class Gap:
    """Numbers ``first``..``last`` did not come between two receipt times."""

    sid: Hashable
    first: int
    last: int
    from_ts: int
    to_ts: int

    @property
    def missing(self) -> int:
        """How many numbers did not come."""
        return self.last - self.first + 1


class _Place:
    """Where one channel stands. Mutable, because it moves once a frame."""

    __slots__ = ("next", "ts")

    def __init__(self, following: int, ts: int) -> None:
        self.next = following
        self.ts = ts


class SequenceTracker:
    """Follow every channel of one connection. Never moves back.

    Args:
        start: the number a new channel begins with, None to accept any.
    """

    def __init__(self, start: int | None = None) -> None:
        self._start = start
        self._places: dict[Hashable, _Place] = {}
        self._ended: dict[Hashable, _Place] = {}
        self.regressed = 0
        """Frames that carried a number already passed, since the host took note of them."""

    def check(self, sid: Hashable, first: int, last: int, ts: int) -> Gap | None:
        """Take the numbers ``first``..``last`` of a frame received at ``ts``."""
        place = self._places.get(sid)
        if place is None:
            if sid in self._ended:
                return None  # an afterthought of a channel that is over
            begin = first if self._start is None else min(self._start, first)
            place = self._places[sid] = _Place(begin, ts)
        if first == place.next:
            place.next = last + 1
            place.ts = ts
            return None
        if last < place.next:
            self.regressed += 1
            return None
        gap = None
        if first > place.next:
            gap = Gap(sid, place.next, first - 1, place.ts, ts)
        place.next = last + 1
        place.ts = ts
        return gap

    def follow(self, stamped: Iterable[tuple[int, Parsed]]) -> list[Gap]:
        """Take frames in order, each with its receipt time; the hot call."""
        gaps: list[Gap] = []
        places = self._places
        for ts, said in stamped:
            first, last = said.first_seq, said.last_seq
            if first is None:
                continue
            place = places.get(said.sid)
            # Nearly always one number, and the one that is due.
            if place is not None and place.next == first and last == first:
                place.next, place.ts = first + 1, ts
                continue
            gap = self.check(said.sid, first, first if last is None else last, ts)
            if gap is not None:
                gaps.append(gap)
        return gaps

    def open(self, sid: Hashable, ts: int) -> None:
        """Begin a channel: a confirmed subscription starts its own count.

        Data that came ahead of the confirmation has begun it already.
        """
        self._ended.pop(sid, None)
        if self._start is not None and sid not in self._places:
            self._places[sid] = _Place(self._start, ts)

    def end(self, sid: Hashable) -> int:
        """End a channel; return the receipt time of its last numbered frame, or 0."""
        place = self._places.pop(sid, None)
        if place is None:
            return 0
        self._ended[sid] = place
        # One that was only opened is no frame: some channels never carry a number.
        return 0 if place.next == self._start else place.ts

    def numbered_until(self) -> Mapping[Hashable, int]:
        """Return the receipt time of the last number of each channel that numbers its frames.

        What came after it nobody can tell from what should have come.
        """
        places = self._places.items()
        return {sid: place.ts for sid, place in places if place.next != self._start}

    def last_numbers(self) -> Mapping[Hashable, int]:
        """Return the last number seen of each channel that numbers its frames."""
        known = {**self._ended, **self._places}
        return {sid: place.next - 1 for sid, place in known.items() if place.next != self._start}
