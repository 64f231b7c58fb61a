"""Decides which differences between archive, ledger and bus are on record, and which are not."""

from __future__ import annotations

import enum
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

__all__ = ["Finding", "Findings", "Kind", "counted"]

_SHOWN = 50
"""So many of one kind and day are told one by one; all are counted."""


def counted(count: int, noun: str) -> str:
    """Return a number with its noun."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


class Kind(enum.Enum):
    """What differs. The values stand in the JSON."""

    FRAMES_MISSING = "frames_missing"
    """A session received more than the archive holds of it."""
    FRAMES_EXTRA = "frames_extra"
    """The archive holds more of a session than it received."""
    OUTSIDE_SESSION = "outside_session"
    NOT_COUNTED = "not_counted"
    """A session that ended without a count, runs, or is not wholly in what was read."""
    NEVER_OPENED = "never_opened"
    NEVER_CLOSED = "never_closed"
    DROPPED_NOT_MISSING = "dropped_not_missing"
    HOLE_UNDECLARED = "hole_undeclared"
    HOLE_DECLARED = "hole_declared"
    """A hole that the ledger explains otherwise than by its own ``gap`` line."""
    GAP_NOT_THERE = "gap_not_there"
    SEQUENCE_UNCHECKED = "sequence_unchecked"
    CONFIRMED_UNDECLARED = "confirmed_undeclared"
    """A channel that the venue confirmed, and no ``subscribed`` line says so."""
    REPAIR_MISSING = "repair_missing"
    """A repair brought more than the archive holds of it."""
    NOT_JSON = "not_json"
    """A frame that is not JSON, and does not stand as ``raw``."""
    OUT_OF_ORDER = "out_of_order"
    WRONG_DAY = "wrong_day"
    DIGEST_DIFFERS = "digest_differs"
    FILE_MISSING = "file_missing"
    FILE_EXPIRED = "file_expired"
    DAMAGED = "damaged"
    UNREADABLE = "unreadable"
    TORN = "torn"
    CLOCK_STEPPED = "clock_stepped"
    BUS_MISSING = "bus_missing"
    BUS_DECLARED = "bus_declared"
    """Missing on the bus, and declared as dropped."""
    BUS_EXTRA = "bus_extra"
    BUS_DUPLICATE = "bus_duplicate"
    BUS_DISORDER = "bus_disorder"
    BUS_FOREIGN = "bus_foreign"
    """Another connector publishes there, too."""
    BUS_OLDER = "bus_older"
    """Archived before the first message that the bus still holds."""
    BUS_BEHIND = "bus_behind"
    BUS_AHEAD = "bus_ahead"
    """Published, and in no part that was uploaded so far."""
    BUS_UNCHECKED = "bus_unchecked"


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One difference, in words, with where it is. ``explained``: it is on record, or harmless."""

    kind: Kind
    explained: bool
    day: str
    feed: str
    text: str
    conn: int | None = None
    channel: str | None = None
    session: str | None = None
    from_ts: int | None = None
    to_ts: int | None = None


class Findings:
    """What was found: every one counted, so many of a kind and day kept."""

    def __init__(self) -> None:
        self._kept: list[Finding] = []
        self._counts: Counter[tuple[str, str, Kind, bool]] = Counter()
        self._by_channel: Counter[tuple[str, str, str | None]] = Counter()

    def add(self, finding: Finding) -> None:
        """Take a finding."""
        key = (finding.feed, finding.day, finding.kind, finding.explained)
        self._counts[key] += 1
        if not finding.explained:
            self._by_channel[finding.feed, finding.day, finding.channel] += 1
        if self._counts[key] <= _SHOWN:
            self._kept.append(finding)

    def __iter__(self) -> Iterator[Finding]:
        """Yield what was kept, in the order in which it was found."""
        return iter(self._kept)

    @property
    def omitted(self) -> int:
        """How many were counted and not kept."""
        return sum(self._counts.values()) - len(self._kept)

    def unexplained(self, feed: str | None = None, day: str | None = None) -> int:
        """Return how many are unexplained: of all, of a feed, of a day."""
        return sum(
            count
            for (of_feed, of_day, _, explained), count in self._counts.items()
            if not explained and feed in {None, of_feed} and day in {None, of_day}
        )

    def unexplained_of(self, feed: str, day: str, channel: str | None) -> int:
        """Return how many are unexplained of one channel; None: of no channel in particular."""
        return self._by_channel[feed, day, channel]
