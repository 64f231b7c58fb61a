"""Decides which holes wait for repair: those that overlap are one, and they never grow many."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from ssmd_core.feed.repair import Missed

__all__ = ["Holes"]


class Holes:
    """Holes in the order in which they were found.

    Args:
        limit: how many wait at most. Past it a new one is joined with the nearest of its
            channel and markets: to fetch what lies between is better than to lose one.
    """

    def __init__(self, limit: int = 256) -> None:
        self._limit = limit
        self._waiting: list[Missed] = []

    def add(self, hole: Missed) -> Missed | None:
        """Take a hole in; return the oldest if it has to go for this one."""
        alike = [other for other in self._waiting if _alike(other, hole)]
        touched = [other for other in alike if _distance(other, hole) == 0]
        full = len(self._waiting) >= self._limit
        if full and alike and not touched:
            touched = [min(alike, key=lambda other: _distance(other, hole))]
        if touched:
            self._join(touched, hole)
            return None
        self._waiting.append(hole)
        return self._waiting.pop(0) if full else None

    def take(self) -> Missed | None:
        """Take out the hole whose turn it is."""
        return self._waiting.pop(0) if self._waiting else None

    def __iter__(self) -> Iterator[Missed]:
        return iter(self._waiting)

    def __len__(self) -> int:
        return len(self._waiting)

    def _join(self, touched: list[Missed], hole: Missed) -> None:
        """Put one hole in the place of several; it waits as long as the first of them."""
        whole = replace(
            hole,
            from_ts=min(hole.from_ts, *(other.from_ts for other in touched)),
            to_ts=max(hole.to_ts, *(other.to_ts for other in touched)),
        )
        self._waiting[self._waiting.index(touched[0])] = whole
        for other in touched[1:]:
            self._waiting.remove(other)


def _alike(one: Missed, other: Missed) -> bool:
    return (one.channel, one.markets) == (other.channel, other.markets)


def _distance(one: Missed, other: Missed) -> int:
    """Return how far two holes are apart, 0 where they overlap or touch."""
    return max(0, one.from_ts - other.to_ts, other.from_ts - one.to_ts)
