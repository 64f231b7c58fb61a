"""Decides what a channel had on one day: what was covered, what was not, and why."""

from __future__ import annotations

import enum
from bisect import bisect_left
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from ssmd_core.audit.intervals import Interval, intersect, subtract, total_ns

__all__ = ["ChannelDay", "Hole", "Key", "Lost", "Repair", "channel_day"]

_MOST_REASONS = 3
_NEAR_NS = 1_000_000_000
"""A repair ends with the venue's confirmation, a hole with the ledger line that tells of it."""


class Key(NamedTuple):
    """A channel of a connection."""

    conn: int
    channel: str


class Repair(enum.Enum):
    """How much of a hole was brought back."""

    WHOLE = "whole"
    PART = "part"
    NONE = "none"


class Hole(NamedTuple):
    """A time in which a channel was not covered."""

    interval: Interval
    why: str
    repair: Repair


@dataclass(frozen=True, slots=True, kw_only=True)
class ChannelDay:
    """One channel of one connection on one day."""

    key: Key
    span: Interval
    """From when on it was wanted that day, and until when."""
    covered: Sequence[Interval]
    repaired: Sequence[Interval]
    holes: Sequence[Hole]

    @property
    def covered_seconds(self) -> float:
        """How long it was covered."""
        return total_ns(self.covered) / 1e9

    @property
    def repaired_seconds(self) -> float:
        """How much of its holes was brought back."""
        return total_ns(self.repaired) / 1e9


@dataclass(slots=True)
class Lost:
    """A time in which something was lost, in a word or two."""

    interval: Interval
    why: str


def channel_day(
    key: Key,
    span: Interval,
    received: Iterable[Interval],
    lost: Sequence[Lost],
    *,
    repaired: Sequence[Interval],
    marks: Sequence[Lost],
    ended: str,
) -> ChannelDay:
    """Return what a channel had within ``span``.

    Args:
        key: the channel.
        span: when it was wanted.
        received: when it was subscribed.
        lost: what is declared as lost of that.
        repaired: what was brought back.
        marks: further reasons why something is missing.
        ended: why it was not covered when the span began, where that is so.
    """
    covered = subtract(intersect(list(received), [span]), (each.interval for each in lost))
    missing = subtract([span], covered)
    repaired = intersect(missing, [*repaired, *_tails(missing, repaired)])
    whys = list(_whys(missing, [*lost, *marks]))
    if missing and missing[0].from_ts == span.from_ts and not whys[0]:
        whys[0] = ended
    backs = _within(missing, repaired)
    holes = [
        Hole(gone, why or "not subscribed", _repair(gone, back))
        for gone, why, back in zip(missing, whys, backs, strict=True)
    ]
    return ChannelDay(key=key, span=span, covered=covered, repaired=repaired, holes=holes)


def _whys(holes: Iterable[Interval], lost: Iterable[Lost]) -> Iterator[str]:
    """Yield why each hole is there, of holes in order; empty where nothing says so."""
    waiting = deque(sorted(lost, key=lambda each: each.interval))
    active: list[Lost] = []
    for hole in holes:
        while waiting and waiting[0].interval.from_ts < hole.to_ts:
            active.append(waiting.popleft())
        active = [each for each in active if each.interval.to_ts > hole.from_ts]
        yield ", ".join(list(dict.fromkeys(each.why for each in active))[:_MOST_REASONS])


def _within(holes: Iterable[Interval], repaired: Sequence[Interval]) -> Iterator[int]:
    """Yield how much of each hole was brought back; both are in order and disjoint."""
    waiting = deque(repaired)
    for hole in holes:
        back = 0
        while waiting and waiting[0].from_ts < hole.to_ts:
            back += waiting.popleft().length_ns
        yield back


def _repair(hole: Interval, back_ns: int) -> Repair:
    if back_ns == 0:
        return Repair.NONE
    return Repair.WHOLE if back_ns == hole.length_ns else Repair.PART


def _tails(holes: Iterable[Interval], repaired: Iterable[Interval]) -> Iterator[Interval]:
    """Yield what lies between the end of a repair and that of its hole, where that is nothing."""
    ends = sorted(each.to_ts for each in repaired)
    for hole in holes:
        place = bisect_left(ends, hole.to_ts)
        end = ends[place - 1] if place else 0
        if hole.from_ts < end and hole.to_ts <= end + _NEAR_NS:
            yield Interval(end, hole.to_ts)
