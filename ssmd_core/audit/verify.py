"""Decides whether an archive holds what was received, less what its ledger declares as lost.

One pass over the frames of each day, in order. Held in memory: the ledger lines of two
days, and the sessions that are open; never frames.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

from ssmd_core.audit.coverage import Coverage
from ssmd_core.audit.declared import Declared
from ssmd_core.audit.events import DAY_NS, Event, day_start
from ssmd_core.audit.files import Rotations
from ssmd_core.audit.findings import Finding, Findings, Kind
from ssmd_core.audit.frames import FrameReader, Watcher
from ssmd_core.audit.judge import (
    fate_of,
    judge_closed,
    judge_confirmed,
    judge_drops,
    judge_holes,
    judge_open,
)
from ssmd_core.audit.ledger import LedgerReader
from ssmd_core.audit.parsers import Parsers
from ssmd_core.audit.scope import Scope
from ssmd_core.audit.sessions import SessionBook
from ssmd_core.audit.totals import DayTotals
from ssmd_core.clock import iso
from ssmd_core.sink.archive import Archive, Content

__all__ = ["BusWatcher", "FeedAudit"]


class BusWatcher(Watcher, Protocol):
    """What compares the archive with a bus while it is read."""

    def on_line(self, event: Event) -> None:
        """Take a ledger line of the days that are judged, in order."""
        ...


class FeedAudit:
    """The conservation check over one feed of an archive. ``run`` it once."""

    def __init__(
        self,
        archive: Archive,
        scope: Scope,
        parsers: Parsers,
        findings: Findings,
        bus: BusWatcher | None = None,
        *,
        is_live: bool | None = None,
    ) -> None:
        """``is_live``: a connector was at work before ``scope.upto``; None: nobody can tell."""
        feed = self._feed = scope.feed
        self._archive = archive
        self._scope = scope
        self._findings = findings
        self._is_live = is_live
        self._bus = bus
        self._book = SessionBook(scope.from_ts)
        self.declared = Declared()
        """What the ledger declares, once ``run`` is through."""
        self._coverage = Coverage()
        self._rotations = Rotations(archive, feed)
        self._ledger = LedgerReader(archive, feed, scope.upto)
        self._frames = FrameReader(
            archive, feed, self._book, lambda plugin: parsers.parser(feed, plugin), bus
        )
        self._unread: set[str] = set()
        self._fetched = False

    @property
    def unread(self) -> bool:
        """Whether no plugin could read some of the frames."""
        return bool(self._unread)

    def run(self) -> Iterator[DayTotals]:
        """Read everything; yield the totals of each day when it is done. Then all is found."""
        days = self._scope.days
        if self._scope.before is not None:
            # It only sets the scene: what is wrong with it is not asked for.
            self._follow(self._ledger.read(self._scope.before, Findings()))
            self._frames.read_fetched(self._scope.before, self._scope.upto)
        following = self._read_ledger(days[0])
        for place, day in enumerate(days):
            events = following
            # What ended badly is closed by the next start, which may be on another day.
            if place + 1 < len(days):
                following = self._read_ledger(days[place + 1])
            elif self._scope.after is not None:
                self._follow(self._ledger.read(self._scope.after, Findings()))
            yield self._day(day, events)
        self._finish()

    def _read_ledger(self, day: str) -> list[Event]:
        events = self._ledger.read(day, self._findings)
        self._follow(events)
        if self._bus is not None:
            for event in events:
                self._bus.on_line(event)
        return events

    def _follow(self, events: list[Event]) -> None:
        for event in events:
            self._book.take(event)
            self.declared.take(event)
            self._coverage.take(event)
            self._rotations.take(event)
            self._frames.refetched.take_line(event)

    # ── a day ────────────────────────────────────────────────────────────────────

    def _day(self, day: str, events: list[Event]) -> DayTotals:
        start = day_start(day)
        end = start + DAY_NS
        totals = DayTotals(day, self._feed)
        totals.sessions = self._book.ran_between(start, min(end - 1, self._scope.upto))
        totals.add_events(events)
        counts = self._frames.read(day, self._scope.upto, self._findings)
        totals.frames, totals.fetched = counts[Content.LIVE], counts[Content.REST]
        self._fetched = self._fetched or totals.fetched > 0
        for channel, count in self._frames.take_counts().items():
            held = totals.channel(channel)
            held.frames = (held.frames or 0) + count
        totals.add_coverage(self._coverage.day(day, self._scope.upto))
        totals.torn_bytes = self._archive.torn_bytes(self._feed, day)
        self._note(day, events, totals.torn_bytes)
        self._judge_holes(end)
        self._judge_channels(end)
        self._judge_sessions(end)
        return totals

    def _judge_holes(self, end_ts: int) -> None:
        gaps = [
            gap
            for gap in self.declared.take_gaps(end_ts)
            if gap.to_ts >= self._scope.from_ts and gap.session not in self._frames.unread
        ]
        sessions = {session.id: session for session in self._book.left()}
        found = self._frames.take_holes()
        for finding in judge_holes(found, gaps, self.declared, sessions, self._feed):
            self._findings.add(finding)

    def _judge_channels(self, end_ts: int) -> None:
        scope, declared = self._scope, self.declared
        for finding in self._frames.refetched.judge(scope.from_ts, end_ts, declared):
            self._findings.add(finding)
        found = self._frames.take_confirmed()
        for finding in judge_confirmed(found, declared, self._feed, upto=scope.upto):
            self._findings.add(finding)

    def _judge_sessions(self, end_ts: int) -> None:
        for why in set(self._frames.unread.values()) - self._unread:
            self._unread.add(why)
            text = f"sequences are not checked: {why}"
            self._tell(Kind.SEQUENCE_UNCHECKED, end_ts - 1, text)
        for session in self._book.take_closed(end_ts):
            self._frames.forget(session)
            if (session.closed_ts or 0) >= self._scope.from_ts:
                finding = judge_closed(
                    session, self.declared, self._feed, end_ts=self._scope.end_ts
                )
                if finding is not None:
                    self._findings.add(finding)

    def _note(self, day: str, events: list[Event], torn_bytes: int) -> None:
        """Tell what is on record by itself."""
        if torn_bytes:
            text = f"{torn_bytes:,} bytes of partial lines were set aside after crashes"
            self._tell(Kind.TORN, day_start(day), text)
        for event in events:
            if event.word == "clock_stepped":
                seconds = event.fields.get("back_seconds")
                text = f"the wall clock stepped back by {seconds} s at {iso(event.ts)}"
                self._tell(Kind.CLOCK_STEPPED, event.ts, text)

    def _tell(self, kind: Kind, ts: int, text: str) -> None:
        self._findings.add(
            Finding(
                kind=kind,
                explained=True,
                day=iso(ts)[:10],
                feed=self._feed,
                text=text,
                from_ts=ts,
                to_ts=ts,
            )
        )

    # ── the end ──────────────────────────────────────────────────────────────────

    def _finish(self) -> None:
        scope = self._scope
        for session in self._book.left():
            if session.opened_ts >= scope.end_ts:
                continue  # of the day after
            if not (session.opened_ts or session.carried_ts or session.lines):
                continue  # only mentioned
            if session.closed_ts is None:
                fate = fate_of(session, scope, is_live=self._is_live)
                self._findings.add(judge_open(session, self.declared, self._feed, fate))
                continue
            finding = judge_closed(session, self.declared, self._feed, end_ts=scope.end_ts)
            if finding is not None:
                self._findings.add(finding)
        for finding in judge_drops(self.declared.drops, self._feed):
            # A body that was fetched may have been among them, and nobody counts these.
            if not self._fetched and scope.from_ts <= (finding.from_ts or 0) < scope.end_ts:
                self._findings.add(finding)
        for finding in self._rotations.check(scope):
            self._findings.add(finding)
