"""Numbers that the venue skips, replies that it loses, subscriptions that it ends, floods."""

import json

import pytest

from rig.scenes import causes, judge, only_the_venue, rest, started, venue_for
from rig.truth import TruthfulFace, judge_books, judge_gaps
from rig.venues import watched
from ssmd_core.testing import until
from ssmd_kalshi.venue import market_names

pytestmark = pytest.mark.anyio

LIMIT_BYTES = 128 * 1024 * 1024
BOOK = "orderbook_delta"
BOOKS = {"channels": ["ticker", "trade", BOOK], "market_tickers": market_names(6)}


@pytest.fixture
def face(key):
    return TruthfulFace.for_key(key)


def subscribed_to(venue, channel):
    """Return the open client that holds a channel, and its channel id."""
    for client in venue.clients:
        if client.open and channel in client.state.by_channel:
            return client, client.state.by_channel[channel].sid
    raise LookupError(channel)


async def test_numbers_that_the_venue_skips_are_told_with_their_bounds_and_mended(
    program, archive, yaml, face, bus
):
    async with venue_for(face, markets=6) as venue:
        run = program()
        await started(run, venue, yaml, archive, bus, **BOOKS)
        async with watched(run) as reasons:
            for count, channel in [(1, "trade"), (7, BOOK), (30, "trade"), (1, BOOK)]:
                client, _ = subscribed_to(venue, channel)
                wanted = len(client.withheld) + count
                venue.skip(count, f'"type":"{channel}"'.encode(), client=client)
                await until(lambda c=client, wanted=wanted: len(c.withheld) == wanted)
                # A hole shows in the number after it.
                await until(lambda upto=venue.played + 200: venue.played >= upto)
            await rest(run, venue, archive)
        assert reasons == {}, "a hole that is being mended is no reason to send data elsewhere"
        asked = [c for client in venue.clients for c in client.commands if b"get_snapshot" in c]
        assert await run.stop() == 0, run.log()
    books = await judge(run, archive, bus, venue, face)
    assert judge_gaps(books) == {"trade": 31, BOOK: 8}
    assert 1 <= len(asked) <= 2, "one request mends all books of a connection"
    judge_books(books, face)
    assert causes(books) == []


async def test_subscriptions_that_the_venue_ends_are_taken_up_again_and_their_time_is_told(
    program, archive, yaml, face, bus
):
    async with venue_for(face, markets=6) as venue:
        run = program()
        await started(run, venue, yaml, archive, bus, **BOOKS)
        async with watched(run) as reasons:
            for code, channel in [(25, "trade"), (10, "trade"), (25, BOOK)]:
                client, sid = subscribed_to(venue, channel)
                venue.inject(face.end_subscription(client, sid, code), client=client)
                await until(lambda sid=sid, c=channel: subscribed_to_another(venue, c, sid))
            await rest(run, venue, archive)
        only_the_venue(reasons)
        assert any("trade: the venue ended the subscription" in each for each in reasons), reasons
        assert await run.stop() == 0, run.log()
    books = await judge(run, archive, bus, venue, face)
    # The venue knows nothing any more of what we end to be sure, and says 7.
    ended = [each for each in books.events("refused") if each["code"] != 7]
    gaps = [each for each in books.events("gap") if each["first"] is None]
    again = books.events("subscribed")[len(BOOKS["channels"]) :]
    for channel, codes in {"trade": [25, 10], BOOK: [25]}.items():
        ends, holes, begins = (of(channel, each) for each in (ended, gaps, again))
        assert [each["code"] for each in ends] == codes
        for end, hole, begin in zip(ends, holes, begins, strict=True):
            assert hole["from_ts"] < end["ts"] < hole["to_ts"] < begin["ts"]
    assert not judge_gaps(books)
    judge_books(books, face)
    assert causes(books) == []


def of(channel, events):
    return [each for each in events if each["channel"] == channel]


def subscribed_to_another(venue, channel, sid):
    try:
        return subscribed_to(venue, channel)[1] != sid
    except LookupError:
        return False


async def test_replies_that_come_late_are_waited_for_and_lost_ones_asked_for_anew(
    program, archive, yaml, face, bus
):
    async with venue_for(face) as venue:
        run = program()
        await started(run, venue, yaml, archive, bus)
        async with watched(run) as reasons:
            venue.delay_replies(1.5)
            venue.cut()
            await run.says("waiting for the venue to confirm subscriptions")
            await run.ready()
            venue.resume()
            venue.lose_replies(2)
            venue.cut()
            await run.says("reset: no reply to subscribe")
            await run.ready()
            before = await run.metric("archived_total")
            await run.counts("archived_total", before + 200)
            await rest(run, venue, archive)
        only_the_venue(reasons)
        assert await run.stop() == 0, run.log()
    books = await judge(run, archive, bus, venue, face)
    assert causes(books) == [("cut", 1006), ("cut", 1006), ("reset", None)]
    unconfirmed = books.sessions()[2]
    assert any(json.loads(line.data)["type"] == "trade" for line in unconfirmed.lines)


async def test_a_flood_is_taken_whole_within_bounded_memory(program, archive, yaml, face, bus):
    async with venue_for(face) as venue:
        run = program()
        await started(run, venue, yaml, archive, bus)
        async with watched(run) as reasons:
            for _ in range(3):
                played = venue.played
                venue.flood(15_000)
                await until(lambda played=played: venue.played >= played + 15_000, 60)
            await rest(run, venue, archive)
        peak = run.peak_bytes()
        assert await run.stop() == 0, run.log()
    assert reasons == {}
    assert peak < LIMIT_BYTES
    books = await judge(run, archive, bus, venue, face)
    assert len(books.lines) == venue.clients[0].sent_count
    assert causes(books) == []
    assert not judge_gaps(books)
