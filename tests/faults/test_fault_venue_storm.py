"""One fault of the venue after the other, in an order that a seed decides, under load."""

import random

import anyio
import pytest

from rig.scenes import judge, rest, started, venue_for
from rig.truth import TruthfulFace, judge_books, judge_gaps
from rig.venues import watched
from ssmd_core.testing import Garbage
from ssmd_kalshi.venue import market_names

pytestmark = pytest.mark.anyio

soak = [pytest.mark.soak, pytest.mark.timeout(1_800)]
LENGTHS = [(249, 6), pytest.param((2, 40), marks=soak), pytest.param((3, 40), marks=soak)]
LIMIT_BYTES = 128 * 1024 * 1024
MARKETS = 6
CHANNELS = ("ticker", "trade", "orderbook_delta")


class Storm:
    """The faults. Each leaves the venue whole again, and the connector with the consequences."""

    def __init__(self, seed, venue, face, run):
        self.rng = random.Random(seed)
        self.venue, self.face, self.run = venue, face, run
        self.kills = 0
        self.faults = [
            self.cut,
            self.close,
            self.half_open,
            self.go_down,
            self.refuse,
            self.skip,
            self.end,
            self.late_replies,
            self.lost_replies,
            self.rest_fails,
            self.rest_is_slow,
            self.garbage,
            self.oversize,
            self.flood,
            self.silence,
            self.kill,
        ]

    async def break_out(self, count):
        """Let so many faults happen, each kind before any comes again."""
        due = []
        for _ in range(count):
            due = due or self.rng.sample(self.faults, len(self.faults))
            await due.pop()()
            # Some come while the one before is still being mended.
            await anyio.sleep(self.rng.uniform(0.0, 1.5))
            await self.run.ready(90)

    def some_client(self):
        return self.rng.choice([client for client in self.venue.clients if client.open])

    async def cut(self):
        self.venue.cut(mid_frame=self.rng.random() < 0.5, client=self.some_client())

    async def close(self):
        self.venue.close(self.rng.choice([1000, 1001, 1011, 1012, 1013]))

    async def half_open(self):
        self.venue.half_open(client=self.some_client())
        await self.run.says("stale", 30)
        self.venue.resume()

    async def go_down(self):
        self.venue.go_down()
        await anyio.sleep(self.rng.uniform(0.2, 1.5))
        await self.venue.come_back()

    async def refuse(self):
        self.venue.refuse(503)
        self.venue.cut()
        await self.run.says("HTTP 503", 30)
        self.venue.resume()

    async def skip(self):
        client = self.some_client()
        self.venue.skip(self.rng.randrange(1, 40), b'"seq"', client=client)

    async def end(self):
        client = self.some_client()
        subscriptions = list(client.state.by_channel.values())
        if subscriptions:
            sid = self.rng.choice(subscriptions).sid
            error = self.face.end_subscription(client, sid, self.rng.choice([10, 25]))
            self.venue.inject(error, client=client)

    async def late_replies(self):
        self.venue.delay_replies(self.rng.uniform(0.3, 1.5))
        self.venue.cut()
        await self.run.says("waiting for the venue to confirm", 30)
        await self.run.ready(60)
        self.venue.resume()

    async def lost_replies(self):
        self.venue.lose_replies(self.rng.randrange(1, 4))
        self.venue.cut()
        await self.run.says("no reply to subscribe", 60)

    async def rest_fails(self):
        self.venue.fail_requests(self.rng.choice([429, 500, 503]), 2)
        self.venue.cut_requests(1)
        self.venue.cut()

    async def rest_is_slow(self):
        self.venue.delay_requests(0.5)
        self.venue.cut()
        await anyio.sleep(3)
        self.venue.delay_requests(0.0)

    async def garbage(self):
        for kind in Garbage:
            self.venue.garble(kind)

    async def oversize(self):
        self.venue.oversize(5 * 1024 * 1024, client=self.some_client())

    async def flood(self):
        self.venue.flood(5_000)

    async def silence(self):
        self.venue.silence()
        await anyio.sleep(1)
        self.venue.play()

    async def kill(self):
        self.run.kill()
        self.kills += 1
        await anyio.sleep(self.rng.uniform(0.0, 1.0))
        self.run.start()


@pytest.mark.parametrize("length", LENGTHS, ids=lambda each: f"seed {each[0]}, {each[1]} faults")
async def test_a_storm_of_faults_leaves_every_trade_kept_published_and_every_hole_told(
    length, program, archive, yaml, key, bus
):
    seed, count = length
    face = TruthfulFace.for_key(key)
    async with venue_for(face, rate=1_000, markets=MARKETS, ping_seconds=0.5) as venue:
        run = program()
        values = {"channels": CHANNELS, "market_tickers": market_names(MARKETS)}
        await started(run, venue, yaml, archive, bus, stale_seconds=3.0, **values)
        storm = Storm(seed, venue, face, run)
        async with watched(run) as reasons:
            await storm.break_out(count)
            played = venue.played
            await venue_goes_on(venue, played + 1_000)
            await rest(run, venue, archive)
        peak = run.peak_bytes()
        assert await run.stop() == 0, run.log()
    assert not [each for each in reasons if each.startswith("archive")]
    assert peak < LIMIT_BYTES
    books = await judge(run, archive, bus, venue, face, crashes=2 * storm.kills)
    judge_gaps(books)
    judge_books(books, face)


async def venue_goes_on(venue, upto):
    """Wait until the numbers after the last hole were sent."""
    while venue.played < upto:
        await anyio.sleep(0.05)
