"""An archive and a bus that are lists, and a feed that only parses, for what reads afterwards."""

import json

from ssmd_core.clock import day_of
from ssmd_core.feed import Parsed, WebSocketFeed
from ssmd_core.records import SCALE, BookDelta, Side, Stream, Ticker, Trade
from ssmd_core.sink.archive import Archive, ArchiveFile, Content, Damaged, Digest
from ssmd_core.sink.bus import BusReader, StoredMessage

__all__ = ["ListArchive", "ListBus", "TinyFeed", "a_book", "a_ticker", "a_trade"]

_CONTENTS = {Stream.LIVE: Content.LIVE, Stream.REST: Content.REST}


class ListArchive(Archive):
    """Batches, ledger lines and damage, in the order given; a day's frames are two files."""

    def __init__(self, batches=(), notes=(), feed="tiny", **values):
        self._feed = feed
        self.batches = list(batches)
        self._notes = [(ts, json.dumps(line).encode()) for ts, line in notes]
        self._values = values
        self.read = []
        """Names of the files that were read."""

    @property
    def place(self):
        return "list"

    def feeds(self):
        return [self._feed]

    def days(self, feed):
        if feed != self._feed:
            return []
        times = [found.first_ts for found in self.batches if not isinstance(found, Damaged)]
        return sorted({day_of(ts) for ts in times} | {day_of(ts) for ts, _ in self._notes})

    def files(self, feed, day):
        return [
            ArchiveFile(name=f"{day}/{n}.{content.value}", feed=feed, day=day, content=content)
            for content in (Content.LIVE, Content.REST, Content.LEDGER)
            for n in range(2)
        ]

    def frames(self, file):
        self.read.append(file.name)
        found = [f for f in self.batches if self._belongs(f, file)]
        middle = len(found) // 2
        yield from found[middle:] if "/1." in file.name else found[:middle]

    def _belongs(self, found, file):
        if isinstance(found, Damaged):
            return file.content is Content.LIVE and found.file == file.day
        return _CONTENTS[found.stream] is file.content and day_of(found.first_ts) == file.day

    def notes(self, file):
        if "/0." in file.name:
            yield from [note for note in self._notes if day_of(note[0]) == file.day]

    def digest(self, file):
        return Digest(0, 0, "")

    def torn_bytes(self, feed, day):
        return 0

    def load(self, feed, name):
        return self._values.get(name)


class ListBus(BusReader):
    """Stored messages, a few a page."""

    def __init__(self, messages=()):
        self.stored = list(messages)

    @classmethod
    def holding(cls, messages, environment="lab", feed="tiny", origin=None):
        """Return a bus that holds what was published."""
        return cls(
            StoredMessage(
                place,
                f"{environment}.{feed}.{m.kind}.{m.ticker}",
                m.msg_id,
                m.ts,
                m.origin if origin is None else origin,
                m.schema,
                m.payload,
            )
            for place, m in enumerate(messages, 1)
        )

    async def environments(self, feed):
        return sorted({message.subject.split(".")[0] for message in self.stored})

    async def messages(self, environment, feed, *, after=0, payloads=False):
        prefix = f"{environment}.{feed}."
        found = [m for m in self.stored if m.subject.startswith(prefix) and m.place > after]
        found = found if payloads else [m._replace(payload=b"") for m in found]
        for start in range(0, len(found), 7):
            yield found[start : start + 7]


class TinyFeed(WebSocketFeed):
    """Reads what ``a_trade``, ``a_ticker`` and ``a_book`` write."""

    kinds = frozenset({"trade", "ticker", "orderbook"})

    def endpoint(self, plan):
        raise NotImplementedError

    def on_open(self, session):
        raise NotImplementedError

    def parse(self, data, session):
        body = json.loads(data)
        return Parsed(label=body["kind"], records=(_record(body),))

    def parse_fetched(self, data):
        return Parsed(label="page", records=tuple(_record(body) for body in json.loads(data)))


def _record(body):
    match body["kind"]:
        case "trade":
            return Trade(body["on"], 7, SCALE // 2, SCALE, Side.BUY, body["id"])
        case "ticker":
            return Ticker(body["on"], 7, body["bid"], None, None, 0, 0)
        case "book":
            return BookDelta(body["on"], 7, Side.BUY, 1, 1)


def a_trade(identity, on="KX"):
    return json.dumps({"kind": "trade", "on": on, "id": str(identity)}).encode()


def a_ticker(bid, on="KX"):
    return json.dumps({"kind": "ticker", "on": on, "bid": bid}).encode()


def a_book(on="KX"):
    return json.dumps({"kind": "book", "on": on}).encode()
