"""What is fetched after a hole, how often, and what the ledger and the intake are told."""

import json
from contextlib import asynccontextmanager

import anyio
import pytest

from ssmd_core.clock import NS, iso
from ssmd_core.errors import FetchFailed, ParseError
from ssmd_core.feed.backfill import Backfiller
from ssmd_core.feed.policy import Backoff
from ssmd_core.feed.ports import HostParts
from ssmd_core.feed.repair import Fetch, Missed
from ssmd_core.records import Stream
from ssmd_core.testing import until

pytestmark = pytest.mark.anyio


def page(*cents, more=None):
    return json.dumps({"past": list(cents), "more": more}).encode()


class Shelf:
    """Answers requests from a script: bodies, failures, or an event to wait for."""

    def __init__(self, *answers):
        self.answers = list(answers)
        self.asked = []

    async def __call__(self, fetch):
        self.asked.append(fetch.url)
        await anyio.lowlevel.checkpoint()
        answer = self.answers.pop(0)
        if isinstance(answer, anyio.Event):
            await answer.wait()
            answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer


@pytest.fixture
def parts(intake, receipt, clock, metrics):
    return HostParts(intake=intake, receipt=receipt, clock=clock, metrics=metrics)


@pytest.fixture
def waits(monkeypatch):
    """The waits between attempts, not waited for."""
    taken = []

    def next_seconds(backoff, live_seconds=0.0):
        taken.append(real(backoff, live_seconds))
        return 0.0

    real = Backoff.next_seconds
    monkeypatch.setattr(Backoff, "next_seconds", next_seconds)
    return taken


@pytest.fixture
def working(parts, history):
    @asynccontextmanager
    async def start(shelf, feed=None, **options):
        backfiller = Backfiller(feed or history(), parts, get=shelf, lag_seconds=0, **options)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(backfiller.run)
            yield backfiller
            tasks.cancel_scope.cancel()

    return start


def missed(from_ts=10, to_ts=20, channel="trades", markets=()):
    return Missed(channel=channel, from_ts=from_ts, to_ts=to_ts, markets=markets)


async def test_every_page_is_delivered_as_it_came_and_the_repair_is_on_record(
    working, intake, metrics
):
    bodies = [page(1, 2, more=2), page(more=3), page(3)]
    shelf = Shelf(*bodies)
    async with working(shelf) as backfiller:
        backfiller.add(missed(markets=("A", "B")))
        await until(lambda: intake.events)
    assert shelf.asked == [f"http://venue/past?page={n}" for n in (1, 2, 3)]
    assert intake.frames == bodies
    assert all(batch.stream is Stream.REST for batch in intake.batches)
    stamps = [batch.first_ts for batch in intake.batches]
    assert stamps == sorted(set(stamps))
    assert [r.price_e9 for said in intake.parsed for r in said.records] == [
        10**7,
        2 * 10**7,
        3 * 10**7,
    ]
    assert intake.events == [
        {
            "event": "repaired",
            "session": None,
            "conn": None,
            "channel": "trades",
            "from_ts": iso(10),
            "to_ts": iso(20),
            "pages": 3,
            "records": 3,
            "tickers": ["A", "B"],
        }
    ]
    assert (metrics.backfilled, metrics.repairs, metrics.repairs_failed) == (3, 1, 0)


async def test_what_the_feed_cannot_fetch_is_not_asked_for_and_not_on_record(working, intake):
    shelf = Shelf(page())
    async with working(shelf) as backfiller:
        backfiller.add(missed(channel="tickers"))
        backfiller.add(missed())
        await until(lambda: intake.events)
    assert len(shelf.asked) == 1
    assert [event["channel"] for event in intake.events] == ["trades"]


async def test_a_passing_failure_is_tried_again_with_longer_waits(working, intake, waits):
    shelf = Shelf(*[FetchFailed("HTTP 429")] * 4, page(1))
    async with working(shelf) as backfiller:
        backfiller.add(missed())
        await until(lambda: intake.events)
    assert intake.words() == ["repaired"]
    assert len(shelf.asked) == 5
    assert len(waits) == 4
    assert waits[-1] > waits[0]


async def test_failures_are_counted_for_each_page_anew(working, intake, waits):
    failures = [FetchFailed("HTTP 503")] * 7
    shelf = Shelf(*failures, page(1, more=2), *failures, page(2))
    async with working(shelf) as backfiller:
        backfiller.add(missed())
        await until(lambda: intake.events)
    assert intake.words() == ["repaired"]


async def test_a_venue_that_does_not_come_round_is_given_up_after_a_minute_or_so(
    working, intake, waits, metrics
):
    shelf = Shelf(page(1, more=2), *[FetchFailed("HTTP 503")] * 20)
    async with working(shelf) as backfiller:
        backfiller.add(missed())
        await until(lambda: intake.events)
    (event,) = intake.events
    assert (event["event"], event["reason"]) == ("unrepaired", "HTTP 503")
    assert (event["pages"], event["records"]) == (1, 1)
    assert len(shelf.asked) == 9
    assert 40 < sum(waits) < 120
    assert (metrics.repairs, metrics.repairs_failed) == (0, 1)


async def test_a_failure_that_lasts_is_given_up_at_once(working, intake, waits):
    shelf = Shelf(FetchFailed("HTTP 404", lasting=True), page(1))
    async with working(shelf) as backfiller:
        backfiller.add(missed(1, 2))
        backfiller.add(missed(5, 6))
        await until(lambda: len(intake.events) == 2)
    assert intake.words() == ["unrepaired", "repaired"]
    assert waits == []


@pytest.mark.parametrize(("body", "raw"), [(b"<html>", {0}), (b"[1]", set()), (b"\xff\xfe", {0})])
async def test_a_body_that_is_no_page_is_kept_counted_and_the_repair_given_up(
    working, intake, body, raw
):
    async with working(Shelf(body)) as backfiller:
        backfiller.add(missed())
        await until(lambda: intake.events)
    (batch,) = intake.batches
    assert (batch.frames, batch.raw) == ([body], raw)
    assert len(intake.faults) == 1
    assert intake.words() == ["unrepaired"]


async def test_a_row_that_cannot_be_read_costs_no_other(working, intake, metrics):
    async with working(Shelf(page(1, 0, 3))) as backfiller:
        backfiller.add(missed())
        await until(lambda: intake.events)
    assert intake.faults == ["a row without a price"]
    assert intake.words() == ["repaired"]
    assert metrics.backfilled == 2


async def test_a_page_that_leads_to_itself_is_not_fetched_for_ever(working, intake):
    shelf = Shelf(page(1, more=2), page(more=2), page())
    async with working(shelf) as backfiller:
        backfiller.add(missed())
        await until(lambda: intake.events)
    assert "repeats" in intake.events[0]["reason"]
    assert len(shelf.asked) == 2


async def test_pages_without_end_are_bounded(working, intake):
    shelf = Shelf(*(page(1, more=n) for n in range(2, 99)))
    async with working(shelf, max_pages=10) as backfiller:
        backfiller.add(missed())
        await until(lambda: intake.events)
    assert intake.words() == ["unrepaired"]
    assert len(shelf.asked) == 10


async def test_what_lies_further_back_than_the_feed_fetches_is_declared(working, intake, history):
    feed = history()
    feed.covers_from = 15
    async with working(Shelf(page(1)), feed) as backfiller:
        backfiller.add(missed(10, 20))
        await until(lambda: len(intake.events) == 2)
    bounds = [(e["event"], e["from_ts"], e["to_ts"]) for e in intake.events]
    assert bounds == [("unrepaired", iso(10), iso(15)), ("repaired", iso(15), iso(20))]


@pytest.mark.parametrize("method", ["backfill", "next_fetch", "parse_fetched"])
async def test_a_fault_of_the_feed_costs_one_repair_and_nothing_else(
    working, intake, history, method, monkeypatch
):
    feed = history()

    def break_once(*_):
        monkeypatch.undo()
        raise ZeroDivisionError("s3cr3t")

    async with working(Shelf(page(1), page(2)), feed) as backfiller:
        monkeypatch.setattr(feed, method, break_once, raising=False)
        backfiller.add(missed(1, 2))
        await until(lambda: intake.of("unrepaired"))
        backfiller.add(missed(5, 6))
        await until(lambda: intake.of("repaired"))
    assert intake.words() == ["unrepaired", "repaired"]


async def test_holes_that_overlap_are_fetched_once(working, intake):
    gate = anyio.Event()
    shelf = Shelf(gate, page(), page())
    async with working(shelf) as backfiller:
        backfiller.add(missed(1, 2))
        await until(lambda: shelf.asked)
        for from_ts in (10, 15, 20):
            backfiller.add(missed(from_ts, from_ts + 8))
        gate.set()
        await until(lambda: len(intake.events) == 2)
    assert [(e["from_ts"], e["to_ts"]) for e in intake.events] == [
        (iso(1), iso(2)),
        (iso(10), iso(28)),
    ]


async def test_nothing_is_fetched_while_the_sinks_cannot_keep_up(working, intake):
    shelf = Shelf(page(1, more=2), page(2))
    async with working(shelf) as backfiller:
        backfiller.pause()
        backfiller.add(missed())
        await anyio.wait_all_tasks_blocked()
        assert shelf.asked == []
        backfiller.resume()
        await until(lambda: intake.events)
    assert intake.words() == ["repaired"]


async def test_a_stop_declares_what_was_not_repaired_and_delivers_nothing_more(
    working, intake, metrics
):
    gate = anyio.Event()
    shelf = Shelf(page(1, more=2), gate, page(2))
    async with working(shelf) as backfiller:
        backfiller.add(missed(1, 2))
        await until(lambda: len(shelf.asked) == 2)
        backfiller.add(missed(10, 20))
        backfiller.stop()
        backfiller.stop()
        gate.set()
        await anyio.wait_all_tasks_blocked()
        backfiller.add(missed(30, 40))
        await anyio.wait_all_tasks_blocked()
    told = [(e["event"], e["from_ts"], e["pages"], e["reason"]) for e in intake.events]
    assert told == [("unrepaired", iso(1), 1, "stopped"), ("unrepaired", iso(10), 0, "stopped")]
    assert intake.frames == [page(1, more=2)]
    assert metrics.repairs_failed == 2


async def test_a_fresh_hole_waits_until_the_venues_history_has_caught_up(
    parts, history, receipt, monkeypatch
):
    naps = []

    async def sleep(seconds):
        naps.append(seconds)
        await anyio.lowlevel.checkpoint()

    shelf = Shelf(page(), page())
    backfiller = Backfiller(history(), parts, get=shelf, lag_seconds=1.5)
    monkeypatch.setattr("ssmd_core.feed.backfill.anyio.sleep", sleep)
    now_ns = receipt.now_ns()
    backfiller.add(missed(1, now_ns))
    backfiller.add(missed(now_ns - 9 * NS, now_ns - 5 * NS, markets=("A",)))
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(backfiller.run)
        with anyio.fail_after(10):
            while len(shelf.asked) < 2:
                await anyio.lowlevel.checkpoint()
        tasks.cancel_scope.cancel()
    assert naps == [1.5, 0.0]


async def test_a_hole_found_while_another_waits_waits_as_long_itself(
    parts, history, receipt, clock, monkeypatch
):
    naps = []

    async def sleep(seconds):
        naps.append(seconds)
        if len(naps) == 1:
            clock.advance(seconds)
            backfiller.add(missed(found_ns, receipt.now_ns()))
        await anyio.lowlevel.checkpoint()

    shelf = Shelf(page(), page())
    backfiller = Backfiller(history(), parts, get=shelf, lag_seconds=1.5)
    monkeypatch.setattr("ssmd_core.feed.backfill.anyio.sleep", sleep)
    found_ns = receipt.now_ns()
    backfiller.add(missed(1, found_ns))
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(backfiller.run)
        with anyio.fail_after(10):
            while len(shelf.asked) < 2:
                await anyio.lowlevel.checkpoint()
        tasks.cancel_scope.cancel()
    assert naps == [1.5, 1.5]


async def test_a_hole_that_waits_for_the_venue_is_declared_at_a_stop(
    parts, history, receipt, intake
):
    backfiller = Backfiller(history(), parts, get=Shelf(), lag_seconds=3_600)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(backfiller.run)
        backfiller.add(missed(1, receipt.now_ns()))
        await anyio.wait_all_tasks_blocked()
        backfiller.stop()
        tasks.cancel_scope.cancel()
    assert [(e["event"], e["reason"]) for e in intake.events] == [("unrepaired", "stopped")]


def test_a_feed_that_fetches_nothing_needs_no_code_for_it(toy):
    feed = toy()
    assert feed.backfill(missed()) is None
    assert feed.next_fetch(Fetch(url="http://venue/"), b"{}") is None
    with pytest.raises(ParseError):
        feed.parse_fetched(b"{}")
