"""Trades that the socket did not bring come back over REST, every one, over real sockets."""

import json
import time
from contextlib import asynccontextmanager

import anyio
import pytest

from ssmd_core.clock import NS, ReceiptClock, SystemClock
from ssmd_core.feed import FeedContext
from ssmd_core.feed.host import FeedHost
from ssmd_core.feed.policy import Backoff
from ssmd_core.feed.ports import HostParts
from ssmd_core.metrics import Metrics
from ssmd_core.records import Stream
from ssmd_core.testing import LoopbackVenue, Recording, until
from ssmd_kalshi.config import KalshiConfig
from ssmd_kalshi.plugin import open_feed
from ssmd_kalshi.venue import KalshiFace, market_names, new_key, session

pytestmark = pytest.mark.anyio

KEY = new_key(ed25519_key=True)
MARKETS = market_names(6)
TRADES = [frame for frame in session(7, MARKETS, 30_000) if b'"type":"trade"' in frame]
IDS = [json.loads(frame)["msg"]["trade_id"] for frame in TRADES]


@pytest.fixture
def anyio_backend():
    return "asyncio"


class Kept:
    """The pipeline's place: keeps what the host hands over."""

    def __init__(self):
        self.live, self.rest, self.bodies, self.events, self.faults = [], [], [], [], []

    def deliver(self, batch, parsed):
        records = [record for said in parsed for record in said.records]
        if batch.stream is Stream.REST:
            self.rest += records
            self.bodies += batch.frames
        else:
            self.live += records

    def report(self, event, *, session, conn, **fields):
        self.events.append({"event": event, **fields})

    def place(self):
        return {}

    def fault(self, batch, index, parsed):
        self.faults.append(parsed.fault)

    def of(self, event):
        return [told for told in self.events if told["event"] == event]

    def ids(self):
        return {record.trade_id for record in self.live + self.rest}


@pytest.fixture
async def venue():
    face = KalshiFace.for_key(KEY)
    async with LoopbackVenue(Recording(TRADES, rate=1), face, waits=False) as serving:
        yield serving


@pytest.fixture
def capturing(venue, monkeypatch):
    monkeypatch.setattr("ssmd_core.feed.backfill._FIRST_WAIT_SECONDS", 0.01)

    @asynccontextmanager
    async def start(covered_until=None, **settings):
        kept = Kept()
        context = FeedContext(
            name="kalshi", environment="test", endpoint=venue.url, version={}, environ=KEY.environ
        )
        clock = SystemClock()
        parts = HostParts(intake=kept, receipt=ReceiptClock(clock), clock=clock, metrics=Metrics())
        config = KalshiConfig.model_validate({"channels": ["trade"], **settings})
        host = FeedHost(open_feed(context, config), parts, covered_until or {})
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(host.run)
            await until(lambda: kept.of("subscribed"))
            yield kept
            host.stop()
            await host.close(1.0)
            tasks.cancel_scope.cancel()

    return start


async def hear(venue, kept, count):
    """Play trades, and wait until the feed has them."""
    heard = len(kept.live) + count
    venue.flood(count)
    await until(lambda: len(kept.live) >= heard)


async def miss(venue, count):
    """Lose the connection, and play trades before the feed is back."""
    played = venue.played + count
    venue.cut()
    await venue.until(lambda: not any(client.open for client in venue.clients))
    venue.flood(count)
    await until(lambda: venue.played >= played)


async def test_every_trade_between_two_connections_is_captured(venue, capturing, monkeypatch):
    monkeypatch.setattr(Backoff, "next_seconds", lambda *_: 1.0)
    async with capturing() as kept:
        await hear(venue, kept, 50)
        await miss(venue, 2500)
        await until(lambda: kept.of("repaired"))
        await hear(venue, kept, 50)
    assert len(kept.live) < 2500
    assert kept.ids() == set(IDS[: venue.played])
    (told,) = kept.of("repaired")
    assert told["pages"] == len(venue.requests) >= 3
    assert told["records"] == len(kept.rest)
    assert kept.faults == []


async def test_every_trade_that_was_skipped_is_captured(venue, capturing):
    async with capturing() as kept:
        await hear(venue, kept, 20)
        venue.skip(7)
        venue.flood(20)
        await until(lambda: kept.of("repaired"))
    (gap,) = kept.of("gap")
    assert gap["last"] - gap["first"] + 1 == 7
    assert len(venue.clients[0].withheld) == 7
    assert kept.ids() == set(IDS[: venue.played])


async def test_every_trade_of_a_dead_subscription_is_captured(venue, capturing):
    async with capturing() as kept:
        await hear(venue, kept, 20)
        venue.inject(venue.face.end_subscription(venue.clients[0], 1))
        venue.flood(30)
        await until(lambda: kept.of("repaired"))
        await hear(venue, kept, 5)
    assert len(venue.clients) == 1
    assert kept.ids() == set(IDS[: venue.played])


async def test_every_trade_since_the_last_run_is_captured(venue, capturing):
    async with capturing() as kept:
        await hear(venue, kept, 20)
    covered = {"trade": time.time_ns()}
    first = kept.ids()
    venue.flood(40)
    await until(lambda: venue.played >= 60)
    async with capturing(covered) as kept:
        await until(lambda: kept.of("repaired"))
    assert first | kept.ids() == set(IDS[: venue.played])


async def test_markets_are_fetched_one_by_one_and_no_others(venue, capturing):
    wanted = MARKETS[:3]
    async with capturing({"trade": time.time_ns() - NS}, market_tickers=wanted) as kept:
        await until(lambda: kept.of("repaired"))
        venue.flood(40)
        await until(lambda: kept.live)
        venue.skip(5)
        venue.flood(60)
        await until(lambda: len(kept.of("repaired")) == 2)
    assert {record.ticker for record in kept.rest} <= set(wanted)
    captured = {i for i, frame in zip(IDS, TRADES, strict=True) if named(frame) in wanted}
    assert kept.ids() == captured & set(IDS[: venue.played])
    assert kept.of("repaired")[-1]["tickers"] == wanted


def named(frame):
    return json.loads(frame)["msg"]["market_ticker"]


async def test_rest_in_trouble_is_asked_again_until_all_is_there(venue, capturing):
    async with capturing() as kept:
        await hear(venue, kept, 20)
        venue.skip(3)
        venue.fail_requests(429, 3)
        venue.fail_requests(500)
        venue.cut_requests()
        venue.flood(20)
        await until(lambda: kept.of("repaired"))
    assert len(venue.requests) == 6
    assert kept.ids() == set(IDS[: venue.played])


async def test_empty_pages_do_not_end_a_repair_too_early(venue, capturing):
    venue.face.history.empty_pages = 2
    async with capturing() as kept:
        await hear(venue, kept, 20)
        venue.skip(3)
        venue.flood(20)
        await until(lambda: kept.of("repaired"))
    assert kept.of("repaired")[0]["pages"] == 3
    assert kept.ids() == set(IDS[: venue.played])


async def test_a_page_that_makes_no_sense_is_kept_and_the_hole_stays_declared(venue, capturing):
    async with capturing() as kept:
        await hear(venue, kept, 20)
        venue.skip(3)
        venue.garble_requests()
        venue.flood(20)
        await until(lambda: kept.of("unrepaired"))
    assert len(kept.bodies) == 1
    assert len(kept.faults) == 1
    assert "not a page" in kept.of("unrepaired")[0]["reason"]


async def test_requests_carry_no_credentials(venue, capturing):
    async with capturing({"trade": time.time_ns()}) as kept:
        await until(lambda: kept.of("repaired"))
    (request,) = venue.requests
    assert not any("kalshi" in name.lower() for name in request.headers)
