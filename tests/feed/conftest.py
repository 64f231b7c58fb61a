import json
from collections.abc import Iterable

import pytest

from ssmd_core.clock import ReceiptClock
from ssmd_core.errors import ParseError
from ssmd_core.feed import (
    Action,
    ConnectionPlan,
    Endpoint,
    Fact,
    FrameKind,
    Parsed,
    Refused,
    Send,
    Session,
    Subscribed,
    WebSocketFeed,
)
from ssmd_core.feed.repair import Fetch
from ssmd_core.metrics import Metrics
from ssmd_core.records import Batch, Side, Trade
from ssmd_core.testing.fakes import ManualClock


@pytest.fixture
def anyio_backend():
    return "asyncio"


class ToyFeed(WebSocketFeed):
    """`{"t":"trade","c":sid,"n":seq,"m":ticker,"p":cents}`, `{"t":"ok","id":..}`, `{"t":"no"}`."""

    kinds = frozenset({"trade"})
    first_sequence = 1

    def __init__(self, url="ws://127.0.0.1:1/", plan=None, channels=("trades",)):
        self.url = url
        self.plan = plan or ConnectionPlan()
        self.wanted = channels
        self.facts: list[Fact] = []
        self.answers: dict[type, Iterable[Action]] = {}

    def connections(self):
        return (self.plan,)

    def endpoint(self, plan):
        return Endpoint(url=self.url, headers={"X-Toy": "1"}, max_frame_bytes=1 << 20)

    def on_open(self, session: Session):
        for channel in self.wanted:
            request = session.next_id()
            yield Send(
                data=json.dumps({"id": request, "sub": channel}).encode(),
                request=request,
                subscribes=channel,
            )

    def on_event(self, event, session):
        self.facts.append(event)
        return self.answers.get(type(event)) or super().on_event(event, session)

    def parse(self, data, session):
        try:
            body = json.loads(data)
            kind = body["t"]
        except (ValueError, KeyError, TypeError) as error:
            raise ParseError(f"not a toy frame: {error}") from error
        seq = body.get("n")
        match kind:
            case "trade":
                record = Trade(
                    body["m"], body.get("at", 1), body["p"] * 10_000_000, 10**9, Side.BUY
                )
                return Parsed("trade", (record,), sid=body["c"], first_seq=seq, last_seq=seq)
            case "ok":
                event = Subscribed(request=body["id"], channel=body["ch"], sid=body["c"])
                return Parsed("ok", kind=FrameKind.REPLY, event=event)
            case "no":
                event = Refused(
                    request=body.get("id"),
                    code=body["code"],
                    reason="refused",
                    sid=body.get("c"),
                    ends_sid=body.get("ends", False),
                )
                return Parsed(
                    "no", kind=FrameKind.REPLY, event=event, sid=body.get("c"), first_seq=seq
                )
            case _:
                return Parsed(kind, kind=FrameKind.UNKNOWN)


class HistoryFeed(ToyFeed):
    """Its past: `{"past":[cents,…],"more":page}` at `/past?page=N`."""

    covers_from = 0
    base = "http://venue"

    def backfill(self, missed):
        if missed.channel != "trades":
            return None
        return Fetch(url=f"{self.base}/past?page=1", covers_from=self.covers_from)

    def next_fetch(self, fetch, data):
        more = json.loads(data)["more"]
        return Fetch(url=f"{self.base}/past?page={more}") if more else None

    def parse_fetched(self, data):
        try:
            past = json.loads(data)["past"]
        except (ValueError, KeyError, TypeError) as error:
            raise ParseError(f"not a toy page: {error}") from error
        records = tuple(
            Trade("A", 1, cents * 10_000_000, 10**9, Side.BUY) for cents in past if cents
        )
        return Parsed("past", records, fault="" if all(past) else "a row without a price")


class ListIntake:
    """Keeps what a session hands over."""

    def __init__(self):
        self.batches: list[Batch] = []
        self.parsed: list[Parsed] = []
        self.events: list[dict] = []
        self.faults: list[str] = []

    def deliver(self, batch, parsed):
        self.batches.append(batch)
        self.parsed += parsed

    def report(self, event, *, session, conn, **fields):
        self.events.append({"event": event, "session": session, "conn": conn, **fields})

    def place(self):
        return {"file": "f", "offset": 7}

    def fault(self, batch, index, parsed):
        self.faults.append(parsed.fault)

    def words(self):
        return [event["event"] for event in self.events]

    def of(self, word):
        return [event for event in self.events if event["event"] == word]

    @property
    def frames(self):
        return [data for batch in self.batches for data in batch.frames]


@pytest.fixture
def clock():
    return ManualClock()


@pytest.fixture
def intake():
    return ListIntake()


@pytest.fixture
def metrics():
    return Metrics()


@pytest.fixture
def receipt(clock):
    return ReceiptClock(clock)


@pytest.fixture
def toy():
    return ToyFeed


@pytest.fixture
def history():
    return HistoryFeed


def trade(number, sid=1, ticker="A", at=1):
    said = {"t": "trade", "c": sid, "n": number, "m": ticker, "p": 50, "at": at}
    return json.dumps(said).encode()


@pytest.fixture(name="trade")
def trade_frame():
    return trade
