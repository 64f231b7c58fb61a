"""Decides whether what was repaired stands in the archive: each page, and what is in it."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import NamedTuple

from ssmd_core.audit.declared import Declared
from ssmd_core.audit.events import Event
from ssmd_core.audit.findings import Finding, Kind, counted
from ssmd_core.clock import day_of

__all__ = ["Refetched"]

_ENDS = frozenset({"repaired", "unrepaired"})


class _Page(NamedTuple):
    """One body of the REST file."""

    ts: int
    records: int | None
    """None where no plugin could tell."""


class Refetched:
    """Is told of the ledger lines and of the bodies of one feed, each in order.

    Repairs of a feed follow one another, so the pages of one stand between the line that
    ended the repair before it and its own. A crash leaves pages without a line.
    """

    def __init__(self, feed: str) -> None:
        self._feed = feed
        self._pages: deque[_Page] = deque()
        self._lines: deque[Event] = deque()
        self._since = 0
        """Of the line that ended the repair before."""
        self._begun_ts = 0
        """When a session began first: what came before may not be in what is read."""

    def take_line(self, event: Event) -> None:
        """Follow a ledger line."""
        if event.word in _ENDS:
            self._lines.append(event)
        elif event.word == "session_opened":
            self._begun_ts = self._begun_ts or event.ts

    def take_page(self, ts: int, records: int | None) -> None:
        """Follow a body and how many records it holds."""
        self._pages.append(_Page(ts, records))

    def judge(self, from_ts: int, before_ts: int, declared: Declared) -> Iterator[Finding]:
        """Yield which repairs that ended between two times are not wholly in the archive."""
        while self._lines and self._lines[0].ts < before_ts:
            line = self._lines.popleft()
            pages: list[_Page] = []
            while self._pages and self._pages[0].ts <= line.ts:
                pages.append(self._pages.popleft())
            since, self._since = self._since, line.ts
            if line.word != "repaired" or line.ts < from_ts:
                continue
            if not since and not 0 < self._begun_ts <= line.ts:
                continue  # it may have begun on a day that is not here
            text = _what_lacks(line, pages)
            if text:
                why = _excuse(declared, since, line.ts)
                yield self._finding(line, text + (f": {why}" if why else ""), explained=bool(why))

    def _finding(self, line: Event, text: str, *, explained: bool) -> Finding:
        return Finding(
            kind=Kind.REPAIR_MISSING,
            explained=explained,
            day=day_of(line.ts),
            feed=self._feed,
            text=text,
            channel=line.text("channel") or None,
            from_ts=line.time("from_ts"),
            to_ts=line.time("to_ts"),
        )


def _what_lacks(line: Event, pages: list[_Page]) -> str:
    """Say what a repair brought and the archive does not hold; empty for nothing."""
    said, said_records = line.number("pages") or 0, line.number("records") or 0
    head = f"{line.text('channel')} was repaired with"
    if len(pages) < said:
        return f"{head} {counted(said, 'page')}, {len(pages):,} in the archive"
    records = [page.records for page in pages[len(pages) - said :]]
    held = sum(count for count in records if count is not None)
    if None not in records and held < said_records:
        return f"{head} {counted(said_records, 'record')}, {held:,} in the archive"
    return ""


def _excuse(declared: Declared, from_ts: int, to_ts: int) -> str:
    if any(drop.from_ts <= to_ts and drop.to_ts >= from_ts for drop in declared.drops):
        return "frames declared as dropped"
    if to_ts >= declared.failing_since:
        return "they wait for a disk that takes them"
    return ""
