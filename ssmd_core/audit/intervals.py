"""Decides what intervals of time have in common: sorted, disjoint, half open."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

__all__ = ["Interval", "intersect", "subtract", "total_ns", "union"]


class Interval(NamedTuple):
    """Receipt times ``from_ts <= ts < to_ts``."""

    from_ts: int
    to_ts: int

    @property
    def length_ns(self) -> int:
        """How long it is."""
        return self.to_ts - self.from_ts


def union(intervals: Iterable[Interval]) -> list[Interval]:
    """Return what any of the intervals covers."""
    out: list[Interval] = []
    for interval in sorted(intervals):
        if interval.to_ts <= interval.from_ts:
            continue
        if out and interval.from_ts <= out[-1].to_ts:
            out[-1] = Interval(out[-1].from_ts, max(out[-1].to_ts, interval.to_ts))
        else:
            out.append(interval)
    return out


def subtract(whole: Iterable[Interval], taken: Iterable[Interval]) -> list[Interval]:
    """Return what ``whole`` covers and ``taken`` does not."""
    away = union(taken)
    out: list[Interval] = []
    first = 0
    for interval in union(whole):
        start = interval.from_ts
        while first < len(away) and away[first].to_ts <= start:
            first += 1
        at = first
        while at < len(away) and away[at].from_ts < interval.to_ts:
            if away[at].from_ts > start:
                out.append(Interval(start, away[at].from_ts))
            start = max(start, away[at].to_ts)
            at += 1
        if start < interval.to_ts:
            out.append(Interval(start, interval.to_ts))
    return out


def intersect(one: Sequence[Interval], other: Sequence[Interval]) -> list[Interval]:
    """Return what both cover."""
    return subtract(one, subtract(one, other))


def total_ns(intervals: Iterable[Interval]) -> int:
    """Return how long disjoint intervals are together."""
    return sum(interval.length_ns for interval in intervals)
