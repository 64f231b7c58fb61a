"""Decides which days of a feed are read, and up to which receipt time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ssmd_core.audit.events import DAY_NS, day_start
from ssmd_core.errors import UsageError

__all__ = ["Scope", "choose_days", "refuse_date"]

_MOST_DAYS = 7


@dataclass(frozen=True, slots=True, kw_only=True)
class Scope:
    """Days of one feed whose frames are judged, and the neighbours that explain them."""

    feed: str
    days: tuple[str, ...]
    before: str | None = None
    """The day before them that has files: its ledger says which sessions are open."""
    after: str | None = None
    """The day after them that has files: what ended badly is closed by the next start."""
    upto: int
    """What is newer is left out: it may be half written."""

    @property
    def is_growing(self) -> bool:
        """Whether the last of the days is not over, and nothing follows it."""
        return self.after is None and self.upto < day_start(self.days[-1]) + DAY_NS

    @property
    def from_ts(self) -> int:
        """First nanosecond of the first day."""
        return day_start(self.days[0])

    @property
    def end_ts(self) -> int:
        """First nanosecond after the last day."""
        return day_start(self.days[-1]) + DAY_NS


def choose_days(feed: str, known: Sequence[str], date: str | None, upto: int) -> Scope | None:
    """Return what is read of a feed; None where it has nothing on the date.

    Args:
        feed: its name.
        known: its days, oldest first.
        date: one day, or None for all.
        upto: receipt time now.
    """
    if date is None:
        return Scope(feed=feed, days=tuple(known), upto=upto) if known else None
    if date not in known:
        return None
    place = known.index(date)
    return Scope(
        feed=feed,
        days=(date,),
        before=known[place - 1] if place else None,
        after=known[place + 1] if place + 1 < len(known) else None,
        upto=upto,
    )


def refuse_date(date: str, known: Sequence[str], place: str) -> UsageError:
    """Return what is said of a date without files."""
    shown = ", ".join(known) if len(known) <= _MOST_DAYS else f"{known[0]} to {known[-1]}"
    return UsageError(f"{place} has nothing of {date}; it has {shown or 'no days'}")
