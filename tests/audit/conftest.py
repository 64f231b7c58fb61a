"""An archive in memory, written as a connector would, and read by a feed of the tests' own."""

import json
from collections import defaultdict

import pytest

from ssmd_core.audit.coverage import Coverage
from ssmd_core.audit.events import day_start, read_event
from ssmd_core.audit.findings import Findings
from ssmd_core.audit.parsers import Parser
from ssmd_core.audit.scope import choose_days
from ssmd_core.audit.verify import FeedAudit
from ssmd_core.clock import NS, day_of, iso
from ssmd_core.errors import ParseError
from ssmd_core.feed import (
    Endpoint,
    FrameKind,
    Parsed,
    Refused,
    Subscribed,
    Unsubscribed,
    WebSocketFeed,
)
from ssmd_core.records import Batch, Side, Stream, Trade
from ssmd_core.sink.archive import Archive, ArchiveFile, Content, Digest

DAY = "2026-11-22"
NEXT = "2026-11-23"
START = day_start(DAY) + 6 * 3600 * NS
_ENDS = {Content.LIVE: ".jsonl", Content.REST: ".rest.jsonl", Content.LEDGER: ".coverage.jsonl"}


def _read(data):
    try:
        return json.loads(data)
    except ValueError as error:
        raise ParseError(str(error)) from error


class PlainFeed(WebSocketFeed):
    """Reads what ``frame`` of the tests writes."""

    kinds = frozenset({"trade"})
    first_sequence = 1

    def endpoint(self, plan):
        return Endpoint(url="ws://127.0.0.1/")

    def on_open(self, session):
        return ()

    def parse(self, data, session):
        body = _read(data)
        sid, seq, event = body.get("sid"), body.get("seq"), None
        match body.get("is"):
            case "subscribed":
                event = Subscribed(request=1, channel=body["channel"], sid=sid)
            case "unsubscribed":
                event = Unsubscribed(request=1, sid=sid)
            case "ended":
                event = Refused(request=None, code=25, reason="slow", sid=sid, ends_sid=True)
        records = tuple(
            Trade("GOLD", 1, 5, 5, Side.BUY, trade_id=name) for name in body.get("trades", ())
        )
        return Parsed("plain", records, FrameKind.DATA, sid, seq, seq, event)

    def parse_fetched(self, data):
        return self.parse(data, None)


class MemoryArchive(Archive):
    """Files by name, each with the items that it yields."""

    place = "memory"

    def __init__(self):
        self.held = defaultdict(list)
        self.listed = {}
        self.digests = {}
        self.values = {}
        self.torn = {}

    def put(self, feed, day, content, item):
        name = f"{day}/{feed}{_ENDS[content]}"
        self.listed.setdefault(name, ArchiveFile(name=name, feed=feed, day=day, content=content))
        self.held[name].append(item)

    def feeds(self):
        return sorted({file.feed for file in self.listed.values()})

    def days(self, feed):
        return sorted({file.day for file in self.listed.values() if file.feed == feed})

    def files(self, feed, day):
        return [f for f in self.listed.values() if (f.feed, f.day) == (feed, day)]

    def frames(self, file):
        yield from list(self.held[file.name])

    def notes(self, file):
        yield from list(self.held[file.name])

    def digest(self, file):
        return self.digests[file.name]

    def torn_bytes(self, feed, day):
        return self.torn.get(day, 0)

    def load(self, feed, name):
        return self.values.get(name)


class Capture:
    """Writes an archive as a connector does; every step takes a second."""

    def __init__(self, feed="plain", at=START):
        self.feed = feed
        self.archive = MemoryArchive()
        self.now = at
        self.received = defaultdict(int)
        self.conns = {}

    def wait(self, seconds=1.0):
        self.now += round(seconds * NS)
        return self.now

    def note(self, event, *, session=None, conn=None, into=None, **fields):
        ts = self.wait()
        conn = self.conns.get(session) if conn is None else conn
        line = {"ts": iso(ts), "session": session, "conn": conn, "event": event, **fields}
        item = (ts, json.dumps(line).encode())
        self.archive.put(self.feed, into or day_of(ts), Content.LEDGER, item)
        return ts

    def open(self, session="s1", conn=0, **fields):
        self.conns[session] = conn
        return self.note("session_opened", session=session, conn=conn, **fields)

    def close(self, session="s1", cause="stopped", **fields):
        said = {"frames": self.received[session], **fields}
        return self.note("session_closed", session=session, cause=cause, **said)

    def carry(self, session="s1", **fields):
        return self.note("session_carried", session=session, **fields)

    def frames(self, *bodies, session="s1", day=None, archived=True):
        """Receive frames in one wake-up; return the ts of the last."""
        first = self.wait()
        data = [json.dumps(body).encode() for body in bodies]
        self.now += len(data) - 1
        self.received[session] += len(data)
        if archived:
            batch = Batch(first, data, self.conns.get(session, 0))
            self.archive.put(self.feed, day or day_of(first), Content.LIVE, batch)
        return self.now

    def numbered(self, *numbers, sid=1, session="s1", archived=True):
        """Receive one frame a number, each in a wake-up of its own; return its ts by number."""
        return {
            n: self.frames({"sid": sid, "seq": n}, session=session, archived=archived)
            for n in numbers
        }

    def subscribed(self, channel="trade", sid=1, session="s1", *, noted=True):
        ts = self.frames({"is": "subscribed", "sid": sid, "channel": channel}, session=session)
        if noted:
            self.note("subscribed", session=session, channel=channel, sid=sid)
        return ts

    def gap(self, first, last, from_ts, to_ts, *, channel="trade", session="s1"):
        self.note(
            "gap",
            session=session,
            channel=channel,
            first=first,
            last=last,
            from_ts=iso(from_ts),
            to_ts=iso(to_ts),
        )

    def fetched(self, *bodies, archived=True):
        first = self.wait()
        data = [json.dumps(body).encode() for body in bodies]
        if archived:
            batch = Batch(first, data, stream=Stream.REST)
            self.archive.put(self.feed, day_of(first), Content.REST, batch)
        return first

    def repaired(self, pages, records, channel="trade"):
        start, end = iso(self.now - NS), iso(self.now)
        told = {"from_ts": start, "to_ts": end, "pages": pages, "records": records}
        self.note("repaired", channel=channel, **told)

    def live(self):
        """Return the batches of the first day."""
        return self.archive.held[f"{DAY}/{self.feed}.jsonl"]

    def until(self, day):
        """Let time pass until a day begins."""
        self.now = max(self.now, day_start(day))


class Outcome:
    """What an audit found."""

    def __init__(self, totals, findings, audit):
        self.totals = totals
        self.findings = findings
        self.audit = audit

    @property
    def faults(self):
        return [finding.kind.value for finding in self.findings if not finding.explained]

    @property
    def notes(self):
        return [finding.kind.value for finding in self.findings if finding.explained]

    def text(self, kind):
        (finding,) = [each for each in self.findings if each.kind.value == kind]
        return finding.text


class PlainParsers:
    """Knows the feed of the tests, unless told otherwise."""

    def __init__(self, why_not=""):
        self.why_not = why_not

    def parser(self, feed, plugin=""):
        return Parser(None, self.why_not) if self.why_not else Parser(PlainFeed())


@pytest.fixture
def capture():
    return Capture()


@pytest.fixture
def audit():
    """Check an archive that a Capture wrote."""

    def run(capture, *, date=None, upto=None, parsers=None, bus=None, is_live=None):
        known = capture.archive.days(capture.feed)
        upto = upto or capture.now + NS
        scope = choose_days(capture.feed, known, date, upto)
        findings = Findings()
        parsers = parsers or PlainParsers()
        audit = FeedAudit(capture.archive, scope, parsers, findings, bus, is_live=is_live)
        return Outcome(list(audit.run()), findings, audit)

    return run


@pytest.fixture
def unread():
    return PlainParsers("nobody provides it")


@pytest.fixture
def covered():
    """Follow the ledger that a Capture wrote; return the channels of a day by name."""

    def run(capture, day=DAY, upto=None):
        fold = Coverage()
        for name, items in sorted(capture.archive.held.items()):
            if name.endswith(_ENDS[Content.LEDGER]):
                for ts, line in items:
                    fold.take(read_event(ts, line))
        days = {each.key.channel: each for each in fold.day(day, upto or capture.now + NS)}
        return days if len(days) != 1 else next(iter(days.values()))

    return run


@pytest.fixture
def digest():
    return Digest(3, 100, "ab" * 32)
