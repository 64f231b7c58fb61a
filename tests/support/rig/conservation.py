"""The judge of every fault: received = archived + declared lost, archived = on the bus.

It reads files, ledger and stream with code of its own, so that a fault of the program
cannot hide in its own reader.
"""

import base64
import gzip
import io
import json
import re
from collections import defaultdict
from datetime import datetime
from itertools import pairwise
from typing import NamedTuple

import zstandard

_LINE = re.compile(
    rb'\{"ts":"([0-9T:.+-]{35})","feed":"([a-z0-9_-]+)",(?:"conn":([0-9]+),)?"(data|raw)":(.*)\}'
)


def nanoseconds(text):
    """Return Unix nanoseconds of a time as the archive writes it."""
    whole, _, rest = text.partition(".")
    second = int(datetime.fromisoformat(whole + "+00:00").timestamp())
    return second * 10**9 + int(rest[:9])


class Line(NamedTuple):
    ts: int
    conn: int
    data: bytes
    """The frame as it came."""
    file: str
    raw: bool = False
    """It was no valid JSON, and stands encoded."""


class Session(NamedTuple):
    """One connection as the ledger tells it."""

    id: str
    conn: int
    opened: int
    closed: int
    cause: str
    frames: int | None
    lines: list


def _plain(path):
    data = path.read_bytes()
    if path.suffix == ".zst":
        return (
            zstandard.ZstdDecompressor()
            .stream_reader(io.BytesIO(data), read_across_frames=True)
            .read()
        )
    return gzip.decompress(data) if path.suffix == ".gz" else data


class Books:
    """What an archive holds and what its ledger says, after the run has ended."""

    def __init__(self, path, feed="kalshi"):
        self.path = path
        self.feed = feed
        self.lines = self._lines("")
        self.rest = self._lines(".rest")
        self.ledger = [
            json.loads(line)
            for file in sorted(path.glob(f"*/{feed}.coverage.jsonl"))
            for line in file.read_bytes().splitlines()
        ]

    def _lines(self, suffix):
        found = []
        for day in sorted(each for each in self.path.iterdir() if each.is_dir()):
            for ending in (".zst", ".gz", ""):
                file = day / f"{self.feed}{suffix}.jsonl{ending}"
                if not file.exists():
                    continue
                text = _plain(file)
                assert text.endswith(b"\n") or not text, f"{file} ends in a torn line"
                found += [self._line(line, f"{day.name}/{file.name}") for line in text.splitlines()]
        return found

    def _line(self, line, file):
        match = _LINE.fullmatch(line)
        assert match, f"{file}: not a line of an archive: {line[:200]!r}"
        ts = nanoseconds(match[1].decode())
        assert file[:10] == match[1][:10].decode(), f"{file} holds a frame of another day"
        raw = match[4] == b"raw"
        data = base64.b64decode(match[5].strip(b'"')) if raw else match[5]
        return Line(ts, int(match[3] or 0), data, file, raw=raw)

    def events(self, *names):
        return [each for each in self.ledger if each["event"] in names]

    def sessions(self):
        """Return the sessions in order of opening, each with its lines."""
        ends = {each["session"]: each for each in self.events("session_closed")}
        found = []
        for opened in self.events("session_opened"):
            end = ends.get(opened["session"])
            begin = nanoseconds(opened["ts"])
            upto = nanoseconds(end["ts"]) if end else 2**63
            conn = opened["conn"] or 0
            lines = [each for each in self.lines if each.conn == conn and begin < each.ts < upto]
            cause, frames = (end["cause"], end["frames"]) if end else ("open", None)
            found.append(Session(opened["session"], conn, begin, upto, cause, frames, lines))
        return found

    def dropped(self, sink, begin=0, upto=2**63):
        """Return how many frames or messages are declared as given up in an interval."""
        return sum(
            each.get("frames", each.get("messages", 0))
            for each in self.events("dropped")
            if each.get("sink") == sink
            and begin <= nanoseconds(each["from_ts"])
            and nanoseconds(each["to_ts"]) <= upto
        )


def judge_archive(path, venue=None, *, crashes=0, feed="kalshi"):
    """Check that what was received is archived or declared lost, in order and verbatim.

    Args:
        path: root of the archive; the program must have ended.
        venue: the loopback venue, whose clients are the sessions in order.
        crashes: how many sessions may have ended without a count of frames.
    """
    books = Books(path, feed)
    times = [line.ts for line in books.lines]
    assert times == sorted(set(times)), "receipt times do not strictly increase"
    notes = [nanoseconds(each["ts"]) for each in books.ledger]
    assert notes == sorted(set(notes)), "the ledger is out of order"
    sessions = books.sessions()
    housed = sum(len(session.lines) for session in sessions)
    assert housed == len(books.lines), "frames stand outside every session"
    uncounted = [session for session in sessions if session.frames is None]
    assert len(uncounted) <= crashes, f"sessions without an end: {uncounted}"
    assert all(session.cause == "crashed" for session in uncounted), "a crash is not declared"
    for session in sessions:
        if session.frames is not None:
            lost = books.dropped("storage", session.opened, session.closed)
            assert len(session.lines) + lost == session.frames, f"{session.id} does not add up"
    if venue is not None:
        _judge_verbatim(sessions, venue)
    return books


def _judge_verbatim(sessions, venue):
    """Each session holds what its client was sent, in order; all of it up to a cut."""
    clients = list(venue.clients)
    assert len(sessions) <= len(clients), "more sessions than the venue had clients"
    unmatched = list(clients)
    # Connections that are dialled together come to the venue in any order. The longest ones
    # choose first: what is short may be the beginning of several.
    in_order = len({session.conn for session in sessions}) <= 1
    for session in sorted(sessions, key=lambda each: 0 if in_order else -len(each.lines)):
        kept = [line.data for line in session.lines]
        for place, client in enumerate(unmatched):
            if _is_subsequence(kept, client.sent):
                unmatched = unmatched[place + 1 :] if in_order else _without(unmatched, place)
                break
        else:
            raise AssertionError(f"session {session.id} holds what no client was sent in order")
        if session.frames == len(kept):
            assert kept == client.sent[: len(kept)], f"{session.id} has a hole that no line tells"


def _without(items, place):
    return items[:place] + items[place + 1 :]


def _is_subsequence(part, whole):
    rest = iter(whole)
    return all(each in rest for each in part)


def expected_ids(books, kinds=("trade", "ticker")):
    """Return (subject tail, id) of each record the archive holds, in order, each id once."""
    connector = (books.path / f".{books.feed}.connector").read_text().strip()
    seen, found = set(), []
    for line in books.lines:
        body = None if line.raw else json.loads(line.data)
        if not isinstance(body, dict) or body.get("type") not in kinds:
            continue
        message = body.get("msg", {})
        if body["type"] == "trade":
            name = f"{books.feed}:trade:{message['trade_id']}"
        else:
            name = f"{books.feed}:{connector}:{line.ts}"
        if name not in seen:
            seen.add(name)
            found.append((f"{body['type']}.{message['market_ticker']}", name))
    return found


def backfilled_ids(books):
    """Return the ids of the trades that came over REST."""
    rows = (row for line in books.rest for row in json.loads(line.data).get("trades", ()))
    return {f"{books.feed}:trade:{row['trade_id']}" for row in rows}


def judge_bus(books, messages, *, root="prod.kalshi", missing=frozenset(), window=0):
    """Check that the stream holds each archived record once, and in order per subject.

    Args:
        books: what the archive holds.
        messages: every stored message, in order of storing (nats-py messages).
        root: first tokens of the subjects.
        missing: ids that need not be there.
        window: so many records may have been on the way together when the bus refused one
            of them: only among these one may stand before another that came earlier.
    """
    records = [m for m in messages if m.subject != f"{root}.status"]
    stored = [m.headers["Nats-Msg-Id"] for m in records]
    twice = [name for name in set(stored) if stored.count(name) > 1] if _repeat(stored) else []
    assert not twice, f"stored twice: {twice[:5]} and {len(twice)} in all"
    expected = expected_ids(books)
    wanted = {name for _, name in expected} - set(missing)
    extra = set(stored) - {name for _, name in expected} - backfilled_ids(books)
    assert not extra, f"on the bus, not in the archive: {sorted(extra)[:5]}, {len(extra)} in all"
    absent = wanted - set(stored)
    assert not absent, f"archived, not on the bus: {sorted(absent)[:5]}, {len(absent)} in all"
    _judge_order(expected, records, root, window)


def _repeat(names):
    return len(set(names)) != len(names)


def _judge_order(expected, records, root, window):
    repaired = {m.headers["Nats-Msg-Id"] for m in records if _origin(m) == "backfill"}
    want, got = defaultdict(list), defaultdict(list)
    there = {m.headers["Nats-Msg-Id"] for m in records}
    for subject, name in expected:
        if name in there and name not in repaired:
            want[subject].append(name)
    for message in records:
        name = message.headers["Nats-Msg-Id"]
        if name not in repaired:
            got[message.subject.removeprefix(f"{root}.")].append(name)
    place = {name: number for number, (_, name) in enumerate(expected)}
    for subject, names in want.items():
        stored = [place[name] for name in got[subject]]
        assert sorted(stored) == [place[name] for name in names]
        back = max((before - after for before, after in pairwise(stored)), default=0)
        assert back <= window, f"{subject} is stored in another order than it was received"


def _origin(message):
    return message.headers.get("Ssmd-Origin", "")
