"""The feed against a loopback venue over real sockets: captured, mended, refused."""

from contextlib import asynccontextmanager

import anyio
import pytest

from ssmd_core.clock import ReceiptClock, SystemClock
from ssmd_core.errors import CredentialsRefused
from ssmd_core.feed import FeedContext
from ssmd_core.feed.host import FeedHost
from ssmd_core.feed.ports import HostParts
from ssmd_core.metrics import Metrics
from ssmd_core.records import BookDelta, BookSnapshot, Side
from ssmd_core.testing import LoopbackVenue, Recording, until
from ssmd_kalshi.config import KalshiConfig
from ssmd_kalshi.messages import parse
from ssmd_kalshi.plugin import open_feed
from ssmd_kalshi.venue import KalshiFace, market_names, new_key, session

pytestmark = pytest.mark.anyio

KEY = new_key()
MARKETS = market_names(6)
FRAMES = list(session(7, MARKETS, 3000))
BOOKS = ["orderbook_delta"]


@pytest.fixture
def anyio_backend():
    return "asyncio"


class Kept:
    """The pipeline's place: keeps what the host hands over."""

    def __init__(self):
        self.parsed, self.events, self.faults = [], [], []

    def deliver(self, batch, parsed):
        self.parsed += parsed

    def report(self, event, *, session, conn, **fields):
        self.events.append((event, conn, fields))

    def place(self):
        return {}

    def fault(self, batch, index, parsed):
        self.faults.append(parsed.fault)

    def records(self):
        return [record for parsed in self.parsed for record in parsed.records]

    def of(self, event):
        return [fields for word, _, fields in self.events if word == event]


@asynccontextmanager
async def captured(venue, **settings):
    """Capture from a venue that begins to play once everything is subscribed to."""
    kept = Kept()
    context = FeedContext(
        name="kalshi", environment="test", endpoint=venue.url, version={}, environ=KEY.environ
    )
    clock = SystemClock()
    parts = HostParts(intake=kept, receipt=ReceiptClock(clock), clock=clock, metrics=Metrics())
    feed = open_feed(context, KalshiConfig.model_validate(settings))
    host = FeedHost(feed, parts)
    channels = sum(len(plan.channels) for plan in feed.connections())
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(host.run)
        await until(lambda: len(kept.of("subscribed")) == channels)
        yield kept
        host.stop()
        await host.close(1.0)
        tasks.cancel_scope.cancel()


def venue_of(frames=FRAMES, **options):
    face = KalshiFace({KEY.key_id: KEY.public}, **options)
    return LoopbackVenue(Recording(list(frames)), face, silent=True)


def everything_sent(venue, kept):
    return len(kept.parsed) == sum(client.sent_count for client in venue.clients)


def books_of(records):
    """Rebuild the books as a consumer would; price → size of each side."""
    books = {}
    for record in records:
        match record:
            case BookSnapshot():
                books[record.ticker] = {
                    Side.BUY: {level.price_e9: level.size_e9 for level in record.bids},
                    Side.SELL: {level.price_e9: level.size_e9 for level in record.asks},
                }
            case BookDelta():
                levels = books[record.ticker][record.side]
                size = levels.pop(record.price_e9, 0) + record.change_e9
                if size > 0:
                    levels[record.price_e9] = size
    return books


async def test_every_channel_is_captured_without_fault_or_gap():
    async with (
        venue_of() as venue,
        captured(
            venue,
            channels=["ticker", "trade", "orderbook_delta", "market_lifecycle_v2"],
            market_tickers=MARKETS,
            book_markets_per_connection=4,
        ) as kept,
    ):
        venue.play()
        await venue.finished()
        await until(lambda: everything_sent(venue, kept))
    assert len(venue.clients) == 3
    assert kept.faults == kept.of("gap") == kept.of("refused") == []
    sent = [record for frame in FRAMES for record in parse(frame).records]
    for kind in ("trade", "ticker", "lifecycle"):
        got = [record for record in kept.records() if record.kind == kind]
        wanted = [record for record in sent if record.kind == kind]
        assert [(r.ticker, r.venue_ns) for r in got] == [(r.ticker, r.venue_ns) for r in wanted]
    assert books_of(kept.records()) == books_of(sent)


async def test_books_are_right_again_after_a_gap_on_the_same_connection():
    async with (
        venue_of() as venue,
        captured(venue, channels=BOOKS, market_tickers=MARKETS) as kept,
    ):
        venue.skip(5, matching=b'"orderbook_delta"')
        venue.play()
        await venue.finished()
        await until(lambda: len(kept.of("gap")) >= 1)
        await until(lambda: everything_sent(venue, kept))
    (client,) = venue.clients
    assert sum(b"get_snapshot" in command for command in client.commands) >= 1
    assert client.withheld
    sent = [record for frame in FRAMES for record in parse(frame).records]
    assert books_of(kept.records()) == books_of(sent)


async def test_a_subscription_that_the_venue_ended_goes_on_under_a_new_sid():
    async with (
        venue_of(FRAMES[:200]) as venue,
        captured(venue, channels=BOOKS, market_tickers=MARKETS) as kept,
    ):
        (client,) = venue.clients
        venue.inject(venue.face.end_subscription(client, 1))
        await until(lambda: len(kept.of("subscribed")) == 2)
        venue.play()
        await venue.finished()
        await until(lambda: everything_sent(venue, kept))
    assert len(venue.clients) == 1
    assert [fields["sid"] for fields in kept.of("subscribed")] == [1, 2]
    assert books_of(kept.records()).keys() == set(MARKETS)


async def test_an_end_that_the_venue_does_not_answer_costs_no_other_channel():
    async with (
        venue_of(FRAMES[:400]) as venue,
        captured(venue, channels=["ticker", "trade"]) as kept,
    ):
        (client,) = venue.clients
        venue.lose_replies(1)
        venue.inject(venue.face.end_subscription(client, 1))
        venue.play()
        await until(lambda: len(kept.of("subscribed")) == 3)
        await venue.finished()
        await until(lambda: everything_sent(venue, kept))
    assert len(venue.clients) == 1
    assert [fields["sid"] for fields in kept.of("subscribed")] == [1, 2, 3]
    assert sum(b'"unsubscribe"' in command for command in client.commands) == 1
    sent = [record for frame in FRAMES[:400] for record in parse(frame).records]
    trades = [record.venue_ns for record in kept.records() if record.kind == "trade"]
    assert trades == [record.venue_ns for record in sent if record.kind == "trade"]
    assert {fields["channel"] for fields in kept.of("gap")} == {"ticker"}


async def test_markets_beyond_the_venues_cap_are_on_record_as_refused():
    async with (
        venue_of(FRAMES[:50], max_markets=4) as venue,
        captured(venue, channels=BOOKS, market_tickers=MARKETS) as kept,
    ):
        await until(lambda: len(kept.of("subscribed")) == 1)
    assert {fields["code"] for fields in kept.of("refused")} == {26}


async def test_a_key_that_the_venue_does_not_know_ends_the_run():
    stranger = new_key(ed25519_key=True)
    with pytest.RaisesGroup(CredentialsRefused, allow_unwrapped=True):
        async with (
            LoopbackVenue(Recording([]), KalshiFace.for_key(stranger)) as venue,
            captured(venue),
        ):
            pass
