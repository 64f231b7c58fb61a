"""What the bus is found to hold: the ids above a place, and how far the log was published."""

from __future__ import annotations

import asyncio

import pytest

from ssmd_core.sink import Message
from ssmd_core.sink.bus import StoredMessage
from ssmd_core.testing import until
from ssmd_sink_nats.held import begins_below, newest_ts
from ssmd_sink_nats.streams import Plan

pytestmark = pytest.mark.anyio

SECOND = 10**9
START = 1_700_000_000 * SECOND
PLAN = Plan(root="prod.kalshi", wanted=())


def record(ts: int, *, kind: str = "trade", origin: str = "") -> Message:
    return Message(
        kind=kind,
        ticker="" if kind == "status" else f"KX-{ts % 3}",
        payload=b"x",
        msg_id=f"{kind}{origin}:{ts}",
        ts=ts,
        schema="trade:v1",
        origin=origin,
    )


def log(count: int, *, step: int = 1, origin: str = "") -> list[Message]:
    return [record(START + number * step, origin=origin) for number in range(count)]


def ids(messages) -> set[str]:
    return {message.msg_id for message in messages}


async def publish(run, messages) -> None:
    await run.feed(messages)
    await run.flush()


# ── decisions ────────────────────────────────────────────────────────────────────


def held(ts: int, origin: str = "", subject: str = "prod.kalshi.trade.A") -> StoredMessage:
    return StoredMessage(1, subject, "id", ts, origin, "", b"")


@pytest.mark.parametrize(
    ("page", "enough"),
    [
        ([held(4), held(5)], True),
        ([held(4), held(6)], False),
        ([held(4, "catchup"), held(5, "backfill")], True),
        ([held(3, "catchup"), held(9)], False),
        ([held(1, "replay")], False),
        ([held(1, "replay"), held(5)], True),
        ([held(5), held(9, "replay")], True),
        ([], False),
    ],
)
def test_a_page_lies_low_enough_when_all_of_the_log_in_it_is_old(page, enough):
    assert begins_below(page, after=5) is enough


def test_only_records_that_are_live_or_caught_up_tell_how_far_the_log_came():
    page = [
        held(3),
        held(4, "catchup"),
        held(7, "backfill"),
        held(8, "replay"),
        held(9, subject="prod.kalshi.status"),
    ]
    assert newest_ts(page, PLAN) == 4
    assert newest_ts(page[2:], PLAN) == 0


# ── a real server ────────────────────────────────────────────────────────────────


async def test_the_ids_above_a_place_are_found(server, bench):
    messages = log(300)
    async with bench(url=server.url, create_stream=True) as run:
        await publish(run, messages)
        found = await run.transport.stored(messages[199].ts)
        assert found.ids == ids(messages[200:])
        assert found.last_ts == messages[-1].ts
        assert (await run.transport.stored(messages[-1].ts)).ids == frozenset()


async def test_an_empty_stream_holds_nothing(server, bench):
    async with bench(url=server.url, create_stream=True) as run:
        for after in (None, START):
            assert await run.transport.stored(after) == (0, frozenset())


async def test_without_a_place_the_newest_record_and_ten_seconds_below_it_are_found(server, bench):
    messages = log(30, step=SECOND)
    async with bench(url=server.url, create_stream=True) as run:
        await publish(run, messages)
        found = await run.transport.stored(None)
        assert found.last_ts == messages[-1].ts
        assert found.ids == ids(messages[20:])


async def test_what_is_not_live_counts_as_held_but_not_as_how_far_the_log_came(server, bench):
    messages = log(10)
    others = [
        record(START + 20, origin="backfill"),
        record(START + 30, origin="replay"),
        record(START + 40, kind="status"),
    ]
    caught_up = record(START + 15, origin="catchup")
    async with bench(url=server.url, create_stream=True) as run:
        await publish(run, [*messages, caught_up, *others])
        found = await run.transport.stored(START + 5)
        assert found.last_ts == caught_up.ts
        assert found.ids == ids([*messages[6:], caught_up, *others])
        assert await run.transport.stored(None) == (
            caught_up.ts,
            ids([*messages, caught_up, *others]),
        )


async def test_a_place_far_below_the_end_is_searched_for(server, consumer, bench, monkeypatch):
    monkeypatch.setattr("ssmd_sink_nats.held._FIRST_SPAN", 16)
    monkeypatch.setattr("ssmd_sink_nats.reading._PAGE", 10)
    messages = log(700)
    replayed = [record(START - number, origin="replay") for number in range(1, 200)]
    async with consumer(server.url) as bus:
        await bus.add_stream("SHARED", ["prod.>"])
        for number in range(100):
            await bus.client.publish(f"prod.other.trade.{number}", b"")
        async with bench(url=server.url) as run:
            await publish(run, [*messages, *replayed])
            for number in range(100):
                await bus.client.publish(f"prod.other.trade.{number}", b"")
            await bus.client.flush()
            found = await run.transport.stored(messages[99].ts)
            assert found.ids == ids(messages[100:])
            assert (await run.transport.stored(None)).last_ts == messages[-1].ts


async def test_what_stands_a_window_before_its_place_is_found(server, bench, monkeypatch):
    monkeypatch.setattr("ssmd_sink_nats.held._FIRST_SPAN", 16)
    monkeypatch.setattr("ssmd_sink_nats.reading._PAGE", 10)
    early, late = log(200)[:150], log(200)[150:]
    async with bench(url=server.url, create_stream=True) as run:
        await publish(run, [*late, *early])
        assert (await run.transport.stored(START + 149)).ids == ids(late)


async def test_two_streams_are_looked_through(server, consumer, bench):
    messages = [record(START + n, kind="trade" if n % 2 else "ticker") for n in range(20)]
    async with consumer(server.url) as bus:
        await bus.add_stream("A", ["prod.kalshi.trade.>"])
        await bus.add_stream("B", ["prod.kalshi.ticker.>", "prod.kalshi.status"])
        async with bench(url=server.url) as run:
            await publish(run, messages)
            found = await run.transport.stored(START + 4)
            assert found == (START + 19, ids(messages[5:]))


async def test_looking_leaves_no_consumer_behind(server, consumer, bench):
    async with consumer(server.url) as bus:
        await bus.add_stream()
        async with bench(url=server.url) as run:
            await publish(run, log(10))
            await run.transport.stored(None)
            await until(lambda: no_consumer(bus))


async def no_consumer(bus) -> bool:
    return not await bus.jetstream.consumers_info("PROD_KALSHI")


async def test_a_look_that_is_cancelled_leaves_the_connection_usable_and_no_consumer(
    server, consumer, bench, monkeypatch
):
    asked = asyncio.Event()

    async def never(*args, **options):
        asked.set()
        await asyncio.Event().wait()

    async with consumer(server.url) as bus:
        await bus.add_stream()
        async with bench(url=server.url) as run:
            await publish(run, log(10))
            with monkeypatch.context() as patched:
                patched.setattr("ssmd_sink_nats.exchange.Listening.ask", never)
                looking = asyncio.create_task(run.transport.stored(None))
                await asked.wait()
                assert not await no_consumer(bus)
                looking.cancel()
                await asyncio.wait([looking])
            await until(lambda: no_consumer(bus))
            connection = run.transport._connection
            assert len((await run.transport.stored(START + 4)).ids) == 5
            await publish(run, log(20))
            assert run.transport._connection is connection


async def test_without_a_connection_nothing_can_be_told(make_server, bench):
    server = make_server(start=False)
    async with bench(url=server.url) as run:
        assert await run.transport.stored(None) is None


USER = (
    "authorization {{ users: [ {{ user: a, password: b }}, {{ user: u, password: p, permissions: "
    '{{ publish: ["prod.>", {}], subscribe: "_INBOX.>" }} }} ] }}'
)
LOOK = '"$JS.API.STREAM.NAMES", "$JS.API.STREAM.INFO.*"'
CREATE = '"$JS.API.CONSUMER.CREATE.PROD_KALSHI.>"'
NEXT = '"$JS.API.CONSUMER.MSG.NEXT.PROD_KALSHI.*"'


@pytest.mark.parametrize("allowed", [LOOK, f"{LOOK}, {CREATE}"], ids=["create", "next"])
async def test_a_user_who_may_not_read_is_told_once_and_publishes_on(
    make_server, consumer, bench, allowed
):
    server = make_server(USER.format(allowed))
    async with consumer(server.url, user="a", password="b") as bus:
        await bus.add_stream()
        async with bench(url=server.url, user="u", password="p") as run:
            await publish(run, log(10))
            connection = run.transport._connection
            assert await run.transport.stored(None) is None
            assert await run.transport.stored(START) is None
            (warning,) = run.warnings
            assert "$JS.API.CONSUMER.>" in warning
            await publish(run, log(20))
            assert run.transport._connection is connection


async def test_the_least_permissions_suffice_without_the_one_to_delete(
    make_server, consumer, bench
):
    server = make_server(USER.format(f"{LOOK}, {CREATE}, {NEXT}"))
    async with consumer(server.url, user="a", password="b") as bus:
        await bus.add_stream()
        async with bench(url=server.url, user="u", password="p") as run:
            await publish(run, log(10))
            connection = run.transport._connection
            assert len((await run.transport.stored(None)).ids) == 10
            await publish(run, log(20))
            assert run.transport._connection is connection
            assert not run.warnings


async def test_more_ids_than_memory_may_hold_are_not_told(server, bench, monkeypatch):
    monkeypatch.setattr("ssmd_sink_nats.held._MAX_IDS", 50)
    async with bench(url=server.url, create_stream=True) as run:
        await publish(run, log(100))
        assert await run.transport.stored(START) is None
        assert "more than 50 messages" in run.warnings[0]


async def test_a_work_queue_is_not_emptied_by_looking(server, consumer, bench):
    async with consumer(server.url) as bus:
        await bus.add_stream(retention="workqueue")
        async with bench(url=server.url) as run:
            await publish(run, log(10))
            assert await run.transport.stored(None) is None
            assert len(run.warnings) == 1
        assert await bus.count() == 10
