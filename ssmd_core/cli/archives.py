"""Decides which feeds and days of an archive a command reads, and up to which moment."""

from __future__ import annotations

import re
import time
from collections.abc import Sequence

from ssmd_core.audit.events import DAY_NS, day_start
from ssmd_core.audit.scope import Scope, choose_days, refuse_date
from ssmd_core.clock import day_of
from ssmd_core.errors import UsageError
from ssmd_core.sink.archive import Archive, Content, Damaged

__all__ = ["choose_feeds", "choose_scopes", "read_up_to"]

_DATE = re.compile(r"\d{4}-\d\d-\d\d")
_SETTLE_SECONDS = 0.25
"""A frame is in the archive that long after its receipt, unless the disk refuses it."""


def choose_feeds(archive: Archive, feed: str | None) -> Sequence[str]:
    """Return the feeds that are asked for.

    Raises:
        UsageError: there is none, or not this one.
    """
    found = archive.feeds()
    if not found:
        raise UsageError(f"{archive.place} holds no archive of any feed")
    if feed is None:
        return found
    if feed not in found:
        raise UsageError(f"{archive.place} has no feed `{feed}`; it has {', '.join(found)}")
    return [feed]


def choose_scopes(
    archive: Archive, feeds: Sequence[str], date: str | None, upto: int
) -> list[Scope]:
    """Return which days of which feeds are read.

    Raises:
        UsageError: the date is none, or no feed has anything of it.
    """
    if date is not None and not _DATE.fullmatch(date):
        raise UsageError(f"--date `{date}` is no date; write it as 2026-11-22 (UTC)")
    days = {feed: archive.days(feed) for feed in feeds}
    scopes = [choose_days(feed, known, date, upto) for feed, known in days.items()]
    found = [scope for scope in scopes if scope is not None]
    if not found:
        known = sorted({day for each in days.values() for day in each})
        raise refuse_date(date or "any day", known, archive.place)
    return found


def read_up_to(archive: Archive, feeds: Sequence[str]) -> int:
    """Return the receipt time up to which everything lies in the archive by now."""
    now_ns = time.time_ns()
    today = day_of(now_ns)
    newest = max((day for feed in feeds for day in archive.days(feed)), default="")
    if newest > today:
        # Its clock is ahead of ours, which then says nothing of what is whole.
        return day_start(newest) + DAY_NS - 1
    if not any(archive.is_live(feed) is not False for feed in feeds):
        # Nothing is added any more. Receipt time goes on where the wall clock was set back.
        return max(now_ns, *(_last_note(archive, feed) for feed in feeds))
    if newest == today:
        # Ledger and frames are read one after the other: what comes in between is left out.
        time.sleep(_SETTLE_SECONDS)
    return now_ns


def _last_note(archive: Archive, feed: str) -> int:
    """Return the receipt time of the last ledger line of a feed's newest day, 0 without one."""
    days = archive.days(feed)
    files = archive.files(feed, days[-1]) if days else ()
    ledgers = (file for file in files if file.content is Content.LEDGER)
    notes = (note for file in ledgers for note in archive.notes(file))
    return max((note[0] for note in notes if not isinstance(note, Damaged)), default=0)
