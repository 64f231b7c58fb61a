"""A host over real sockets: what it missed while it was away, it fetches."""

import json
from contextlib import asynccontextmanager
from itertools import pairwise
from urllib.parse import parse_qs, urlsplit

import anyio
import pytest

from ssmd_core.clock import ReceiptClock, SystemClock, iso
from ssmd_core.feed import Feed, Parsed
from ssmd_core.feed.host import FeedHost
from ssmd_core.feed.policy import Backoff
from ssmd_core.feed.ports import HostParts
from ssmd_core.feed.reading import read_fetched
from ssmd_core.records import Stream
from ssmd_core.testing import Answer, Face, LoopbackVenue, Recording, until

pytestmark = pytest.mark.anyio

TRADE = b'{"t":"trade","c":1,"n":@,"m":"A","p":50}'


class PastFace(Face):
    """Confirms what is asked for, numbers trades, and has a past of three pages."""

    path = "/toy"

    def new_state(self):
        return {"subscribed": False, "n": 0}

    def answer(self, command, client):
        client.state["subscribed"] = True
        body = json.loads(command)
        return [json.dumps({"t": "ok", "id": body["id"], "c": 1, "ch": body["sub"]}).encode()]

    def listening(self, client):
        return client.state["subscribed"]

    def render(self, item, client):
        client.state["n"] += 1
        return item.replace(b"@", str(client.state["n"]).encode())

    def serve(self, request):
        number = int(parse_qs(urlsplit(request.path).query)["page"][0])
        more = number + 1 if number < 3 else None
        return Answer(json.dumps({"past": [number, number], "more": more}).encode())


@pytest.fixture
async def venue():
    recording = Recording([TRADE], rate=500, loop=True)
    async with LoopbackVenue(recording, PastFace()) as serving:
        yield serving


@pytest.fixture
def hosting(history, intake, metrics, monkeypatch, venue):
    """Run a host with short waits against the venue."""
    monkeypatch.setattr(Backoff, "next_seconds", lambda *_: 0.01)

    @asynccontextmanager
    async def start(**covered_until):
        clock = SystemClock()
        parts = HostParts(intake=intake, receipt=ReceiptClock(clock), clock=clock, metrics=metrics)
        feed = history(venue.url)
        feed.base = f"http://127.0.0.1:{venue.port}"
        host = FeedHost(feed, parts, covered_until) if covered_until else FeedHost(feed, parts)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(host.run)
            await until(lambda: len(intake.frames) > 5)
            yield host
            host.stop()
            await host.close(1.0)
            tasks.cancel_scope.cancel()

    return start


def rest(intake):
    return [batch for batch in intake.batches if batch.stream is Stream.REST]


async def test_after_a_reconnect_what_was_missed_is_fetched(hosting, venue, intake, metrics):
    async with hosting():
        venue.cut()
        await until(lambda: intake.of("repaired"))
    (told,) = intake.of("repaired")
    assert (told["channel"], told["pages"], told["records"]) == ("trades", 3, 6)
    assert len(rest(intake)) == 3
    words = [word for word in intake.words() if word in {"session_closed", "repaired"}]
    assert words[:2] == ["session_closed", "repaired"]
    assert metrics.reconnects == {"cut": 1}


async def test_after_a_restart_what_was_missed_is_fetched(hosting, intake):
    async with hosting(trades=1_000_000_000, tickers=5):
        await until(lambda: intake.of("repaired"))
    (told,) = intake.of("repaired")
    assert told["from_ts"] == "1970-01-01T00:00:01.000000000+00:00"


async def test_a_first_start_fetches_nothing(hosting, venue, intake):
    async with hosting():
        seen = len(intake.frames)
        await until(lambda: len(intake.frames) > seen + 50)
    assert len(venue.requests) == 0
    assert rest(intake) == []


async def test_a_gap_is_fetched_while_the_socket_goes_on(hosting, venue, intake):
    async with hosting():
        venue.skip(3)
        await until(lambda: intake.of("repaired"))
        seen = len(intake.frames)
        await until(lambda: len(intake.frames) > seen + 5)
    (gap,), (told,) = intake.of("gap"), intake.of("repaired")
    assert (gap["from_ts"], gap["to_ts"]) == (told["from_ts"], told["to_ts"])
    assert len(venue.clients) == 1


async def test_what_no_disk_took_is_fetched_while_the_session_lives(hosting, venue, intake):
    async with hosting() as host:
        batch = intake.batches[-1]
        host.miss(batch.first_ts, batch.last_ts)
        await until(lambda: intake.of("repaired"))
    (told,) = intake.of("repaired")
    assert (told["channel"], told["pages"]) == ("trades", 3)
    assert told["from_ts"] <= iso(batch.first_ts)
    assert told["to_ts"] == iso(batch.last_ts)
    assert len(intake.of("session_opened")) == 1


async def test_what_no_disk_took_is_fetched_while_the_venue_is_away(hosting, venue, intake):
    async with hosting(trades=1_000_000_000) as host:
        await until(lambda: intake.of("repaired"))
        venue.refuse(503)
        venue.cut()
        await until(lambda: not host.connected())
        host.miss(5_000_000_000, 6_000_000_000)
        await until(lambda: len(intake.of("repaired")) == 2)
    assert intake.of("repaired")[1]["to_ts"] == iso(6_000_000_000)


async def test_a_failing_rest_is_never_an_outage(hosting, venue, intake, metrics):
    async with hosting() as host:
        venue.fail_requests(404)
        venue.skip(3)
        await until(lambda: intake.of("unrepaired"))
        assert host.connected()
        assert list(host.reasons()) == list(host.degraded()) == []
        venue.fail_requests(503, 3)
        venue.skip(1)
        await until(lambda: intake.of("repaired"))
    assert (metrics.repairs, metrics.repairs_failed) == (1, 1)
    assert metrics.reconnects == {}


async def test_what_is_fetched_moves_no_sequence_and_counts_for_no_session(hosting, venue, intake):
    async with hosting():
        venue.skip(3)
        await until(lambda: intake.of("repaired"))
        live = sum(len(batch.frames) for batch in intake.batches if batch.stream is Stream.LIVE)
    (closed,) = intake.of("session_closed")
    assert len(intake.of("gap")) == 1
    assert closed["frames"] >= live


async def test_stopping_while_the_venue_keeps_us_waiting_takes_no_time(hosting, venue, intake):
    async with hosting() as host:
        venue.delay_requests(60)
        venue.skip(3)
        await until(lambda: venue.requests)
        with anyio.fail_after(5):
            host.stop()
            await anyio.lowlevel.checkpoint()
    (told,) = intake.of("unrepaired")
    assert (told["reason"], told["pages"]) == ("stopped", 0)


async def test_receipt_times_of_both_streams_never_repeat(hosting, venue, intake):
    async with hosting():
        venue.cut()
        await until(lambda: intake.of("repaired"))
    ends = [(batch.first_ts, batch.last_ts) for batch in intake.batches]
    assert all(last < first for (_, last), (first, _) in pairwise(ends))


def test_bodies_read_back_say_the_same_as_when_they_came(history):
    bodies = [b'{"past":[1],"more":null}', b"<html>", b"\xff", b"[]"]
    parsed, raw = read_fetched(history(), bodies)
    assert [said.label for said in parsed] == ["past", "malformed", "not_text", "malformed"]
    assert raw == {1, 2}


def test_what_a_feed_wrongly_returns_is_malformed_and_not_a_crash(history):
    feed = history()
    feed.parse_fetched = lambda data: None
    ((said,), _) = read_fetched(feed, [b"{}"])
    assert "parse_fetched" in said.fault


def test_a_feed_that_does_its_own_input_has_no_bodies_of_ours():
    class Own(Feed):
        async def run(self, out):
            """Do nothing."""

        def parse(self, data, session):
            return Parsed("x")

    ((said,), raw) = read_fetched(Own(), [b"{}"])
    assert said.label == "malformed"
    assert raw == frozenset()
