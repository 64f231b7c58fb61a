"""What is in flight, with no socket: an outlet that keeps what is written, answered by hand."""

from __future__ import annotations

import asyncio
import re

import pytest

from ssmd_core.metrics import Metrics
from ssmd_core.sink import Message, TransportContext
from ssmd_core.testing import until
from ssmd_sink_nats.config import NatsConfig
from ssmd_sink_nats.objection import Caution, Objection
from ssmd_sink_nats.protocol import Acks, Info, Nack
from ssmd_sink_nats.sender import Sender

pytestmark = pytest.mark.anyio

FULL = 10077
OVERLOADED = 10167
TOO_LARGE = 10054


class Outlet:
    """Keeps what is written to it."""

    inbox = "_INBOX.me"

    def __init__(self) -> None:
        self.info = Info(max_payload=1_000)
        self.writable = True
        self.writes: list[bytes] = []

    def write(self, data: bytes) -> None:
        self.writes.append(data)

    @property
    def ids(self) -> list[str]:
        """The message ids written so far, in order."""
        return [
            each.decode() for each in re.findall(rb"Nats-Msg-Id: ?(\S+)", b"".join(self.writes))
        ]


class Bench:
    """A sender with what the host would give it, and what it told the host."""

    def __init__(self, **config) -> None:
        self.metrics = Metrics()
        self.rejected: list[Message] = []
        self.told = asyncio.Event()
        context = TransportContext(
            feed="kalshi",
            environment="prod",
            metrics=self.metrics,
            report=lambda event, **fields: None,
            environ={},
            kinds=frozenset({"trade"}),
            archived=False,
            on_room=self.told.set,
            on_rejected=lambda message, reason: self.rejected.append(message),
        )
        config = {"window": 8, **config}
        self.sender = Sender(context, NatsConfig.model_validate({"url": "nats://bus", **config}))
        self.outlet = Outlet()


@pytest.fixture
async def bench():
    """Make senders; their timers are gone after the test."""
    made = []

    def make(*, attach: bool = True, **config) -> Bench:
        bench = Bench(**config)
        made.append(bench)
        if attach:
            bench.sender.attach(bench.outlet)
        return bench

    yield make
    for each in made:
        each.sender.close()


def ids(*numbers: int) -> list[str]:
    return [f"kalshi:trade:{number}" for number in numbers]


def acks(*numbers: int, duplicates: int = 0) -> Acks:
    return Acks(list(numbers), duplicates)


def nack(number: int, err_code: int) -> Nack:
    return Nack(number, 503, err_code, "no")


async def test_messages_are_written_at_once_and_in_order(bench, make_trades):
    run = bench()
    run.sender.take(make_trades(3))
    assert run.outlet.ids == ids(0, 1, 2)
    assert run.metrics.unacked == 3
    assert run.sender.oldest_ts == 1_000_000


async def test_nothing_is_taken_or_sent_without_an_outlet(bench, make_trades):
    run = bench(attach=False)
    assert run.sender.room() == 0
    run.sender.take(make_trades(3))
    assert not run.outlet.writes
    run.sender.attach(run.outlet)
    assert run.outlet.ids == ids(0, 1, 2)
    assert run.told.is_set()


async def test_a_new_outlet_gets_the_whole_window_again_and_counts_it(bench, make_trades):
    run, second = bench(), Outlet()
    run.sender.take(make_trades(4))
    run.sender.acknowledged(acks(0, 2))
    run.sender.detach()
    assert run.sender.room() == 0
    run.sender.attach(second)
    assert second.ids == ids(1, 3)
    assert run.metrics.publish_retries == 2
    run.sender.acknowledged(acks(1, 3, duplicates=1))
    assert (run.metrics.published, run.metrics.duplicates) == (4, 1)


async def test_a_choked_outlet_gets_the_rest_when_it_takes_data_again(bench, make_trades):
    run = bench()
    run.outlet.writable = False
    assert run.sender.room() == 0
    run.sender.take(make_trades(2))
    assert not run.outlet.writes
    run.outlet.writable = True
    run.sender.proceed()
    assert run.outlet.ids == ids(0, 1)
    assert run.told.is_set()


async def test_room_is_told_only_when_a_quarter_of_the_window_is_free(bench, make_trades):
    run = bench()
    run.sender.take(make_trades(8))
    assert run.sender.room() == 0
    run.sender.acknowledged(acks(0))
    assert not run.told.is_set()
    run.sender.acknowledged(acks(1))
    assert run.told.is_set()
    assert run.sender.room() == 2


async def test_after_a_refusal_the_oldest_is_tried_alone_and_the_rest_follows(bench, make_trades):
    run = bench()
    run.sender.take(make_trades(3))
    run.sender.turned_down(nack(0, FULL))
    assert run.sender.refused
    assert "it turns messages down: no (10077)" in run.sender.fault
    run.sender.turned_down(nack(1, FULL))
    run.sender.acknowledged(acks(2))
    await until(lambda: len(run.outlet.ids) > 3)
    assert run.outlet.ids[3:] == ids(0)
    run.sender.acknowledged(acks(0))
    assert run.outlet.ids[3:] == ids(0, 1)
    assert not run.sender.fault
    run.sender.acknowledged(acks(1))
    assert (run.metrics.published, run.metrics.publish_retries) == (3, 2)


async def test_a_message_too_large_for_the_stream_is_given_up_and_flows_past(bench, make_trades):
    run = bench()
    run.sender.take(make_trades(2))
    run.sender.turned_down(nack(0, TOO_LARGE))
    assert [message.msg_id for message in run.rejected] == ids(0)
    assert run.metrics.dropped == {"too_large": 1}
    assert not run.sender.fault
    run.sender.acknowledged(acks(1))
    assert len(run.sender) == 0
    assert run.sender.silent_seconds == 0


async def test_a_message_larger_than_the_server_takes_is_never_written(bench, make_trades):
    run = bench()
    big = Message(kind="trade", ticker="A", payload=b"x" * 2_000, msg_id="big", ts=1)
    run.sender.take([big, *make_trades(1)])
    assert run.rejected == [big]
    assert run.outlet.ids == ids(0)
    assert run.metrics.unacked == 1


async def test_held_back_messages_go_out_on_release(bench, make_trades):
    run = bench()
    run.sender.hold()
    run.sender.take(make_trades(2))
    assert not run.outlet.writes
    assert run.sender.room() == 0
    run.sender.release()
    assert run.outlet.ids == ids(0, 1)
    assert run.told.is_set()


async def test_messages_turned_down_before_a_hold_are_tried_on_release(bench, make_trades):
    run = bench()
    run.sender.take(make_trades(1))
    run.sender.turned_down(nack(0, FULL))
    run.sender.hold()
    run.sender.release()
    assert run.outlet.ids == ids(0, 0)


@pytest.mark.parametrize("pause", ["hold", "detach", "turned down"])
async def test_a_host_that_did_not_ask_is_told_of_room_after_a_pause(bench, make_trades, pause):
    run = bench()
    run.sender.take(make_trades(1))
    match pause:
        case "hold":
            run.sender.hold()
            run.sender.release()
        case "detach":
            run.sender.detach()
            run.sender.attach(run.outlet)
        case "turned down":
            run.sender.turned_down(nack(0, FULL))
            await until(lambda: len(run.outlet.ids) == 2)
            assert not run.told.is_set()
            run.sender.acknowledged(acks(0))
    assert run.told.is_set()


async def test_what_follows_a_message_that_became_too_large_is_sent(bench, make_trades):
    run = bench()
    big = Message(kind="trade", ticker="A", payload=b"x" * 500, msg_id="big", ts=1)
    run.sender.take([big, *make_trades(1)])
    run.sender.turned_down(nack(0, FULL))
    run.outlet.info = Info(max_payload=400)
    run.sender.turned_down(nack(1, FULL))
    await until(lambda: len(run.outlet.ids) == 3)
    assert run.outlet.ids == ["big", *ids(0), *ids(0)]
    assert run.rejected == [big]


async def test_messages_flow_again_after_the_only_one_became_too_large(bench):
    run = bench()
    big = Message(kind="trade", ticker="A", payload=b"x" * 500, msg_id="big", ts=1)
    run.sender.take([big])
    run.outlet.info = Info(max_payload=400)
    run.sender.turned_down(nack(0, FULL))
    await until(lambda: run.rejected)
    assert run.told.is_set()
    assert run.sender.room() == 8


async def test_a_cut_for_what_was_sent_makes_the_next_outlet_try_one_message(bench, make_trades):
    run, second = bench(), Outlet()
    run.sender.take(make_trades(3))
    run.sender.detach("permissions violation")
    assert run.sender.fault == "permissions violation"
    run.sender.attach(second)
    assert second.ids == ids(0)
    run.sender.acknowledged(acks(0))
    assert second.ids == ids(0, 1, 2)
    assert not run.sender.refused


async def test_lingering_writes_several_messages_at_once(bench, make_trades):
    run = bench(linger_ms=20)
    for message in make_trades(5):
        run.sender.take([message])
    assert not run.outlet.writes
    await until(lambda: run.outlet.writes)
    assert run.outlet.ids == ids(0, 1, 2, 3, 4)
    assert len(run.outlet.writes) == 1


async def test_a_full_window_does_not_linger(bench, make_trades):
    run = bench(linger_ms=1_000)
    run.sender.take(make_trades(7))
    assert not run.outlet.writes
    run.sender.take(make_trades(1, first=7))
    assert run.outlet.ids == ids(*range(8))
    assert len(run.outlet.writes) == 1


async def test_a_flush_does_not_linger_and_ends_with_the_last_answer(bench, make_trades):
    run = bench(linger_ms=1_000)
    run.sender.take(make_trades(2))
    flushing = asyncio.create_task(run.sender.flush())
    await until(lambda: run.outlet.writes)
    run.sender.acknowledged(acks(0))
    assert not flushing.done()
    run.sender.acknowledged(acks(1))
    async with asyncio.timeout(10):
        await flushing


async def test_silence_counts_only_while_something_is_on_the_way(bench, make_trades):
    run = bench()
    assert run.sender.silent_seconds == 0
    run.sender.take(make_trades(1))
    await until(lambda: run.sender.silent_seconds > 0)
    run.sender.acknowledged(acks(0))
    assert run.sender.silent_seconds == 0


async def test_an_answer_ends_the_silence_of_the_rest(bench, make_trades):
    run = bench()
    run.sender.take(make_trades(2))
    await until(lambda: run.sender.silent_seconds > 0.5)
    run.sender.acknowledged(acks(0))
    assert run.sender.silent_seconds < 0.5


async def test_more_than_the_window_may_hold_is_refused_whole(bench, make_trades):
    run = bench()
    with pytest.raises(ValueError, match="9 messages given"):
        run.sender.take(make_trades(9))
    assert not run.outlet.writes
    assert len(run.sender) == 0


def test_an_overloaded_server_is_a_fault_only_after_several_retries():
    objection = Objection()
    objection.note(nack(0, OVERLOADED))
    assert not objection.lasting
    told = []
    for _ in range(6):
        told.append(bool(objection.fault))
        objection.next_retry_seconds()
    assert not any(told)
    assert "10167" in objection.fault
    objection.withdraw()
    assert not objection
    assert not objection.fault


def test_retries_wait_longer_and_longer_until_there_is_hurry():
    objection = Objection()
    waits = [objection.next_retry_seconds() for _ in range(12)]
    assert waits[0] <= 0.05
    assert 2.5 <= waits[-1] <= 5.0
    objection.hurry()
    assert objection.next_retry_seconds() <= 0.05


async def test_only_what_was_sent_longer_ago_than_the_bus_remembers_is_in_doubt(
    bench, make_trades, monkeypatch
):
    run, now = bench(), asyncio.get_running_loop().time()
    run.sender.take(make_trades(2))
    run.sender.detach()
    run.sender.take(make_trades(1, first=2))
    assert run.sender.doubt(120) is None
    monkeypatch.setattr("ssmd_sink_nats.sender._now", lambda: now + 109)
    assert run.sender.doubt(120).numbers == {"kalshi:trade:0": [0], "kalshi:trade:1": [1]}
    assert run.sender.doubt(120).age_seconds >= 100
    assert run.sender.doubt(180) is None
    run.sender.already_stored(run.sender.doubt(120), {"kalshi:trade:1"})
    run.sender.attach(second := Outlet(), asked=True)
    assert second.ids == ids(0, 2)
    assert (run.metrics.published, run.metrics.duplicates) == (1, 1)


async def test_what_waits_too_long_on_a_new_outlet_is_doubted(bench, make_trades, monkeypatch):
    run, now = bench(), asyncio.get_running_loop().time()
    run.sender.take(make_trades(3))
    run.sender.detach("permissions violation")
    run.sender.attach(Outlet())
    assert not run.sender.doubts(120)
    monkeypatch.setattr("ssmd_sink_nats.sender._now", lambda: now + 109)
    assert run.sender.doubts(120)
    run.sender.detach("permissions violation")
    assert not run.sender.doubts(120)
    run.sender.attach(Outlet(), asked=True)
    assert not run.sender.doubts(120)


async def test_two_messages_with_one_id_are_both_taken_out(bench, make_trades, monkeypatch):
    run, now = bench(), asyncio.get_running_loop().time()
    run.sender.take([*make_trades(1), *make_trades(1)])
    run.sender.detach()
    monkeypatch.setattr("ssmd_sink_nats.sender._now", lambda: now + 200)
    run.sender.already_stored(run.sender.doubt(120), ids(0))
    assert len(run.sender) == 0


async def test_while_a_refusal_is_feared_groups_go_out_one_after_the_other(bench, make_trades):
    run = bench()
    run.sender.take(make_trades(3))
    for number in range(3):
        run.sender.turned_down(nack(number, OVERLOADED))
    await until(lambda: len(run.outlet.ids) > 3)
    for number in range(3):
        assert run.outlet.ids[3:] == ids(*range(number + 1))
        run.sender.acknowledged(acks(number))
    run.sender.take(make_trades(2, first=3))
    assert run.outlet.ids[6:] == ids(3)


async def test_after_a_calm_while_everything_flows_again(bench, make_trades, monkeypatch):
    run = bench()
    run.sender.take(make_trades(1))
    run.sender.turned_down(nack(0, OVERLOADED))
    await until(lambda: len(run.outlet.ids) > 1)
    now = asyncio.get_running_loop().time()
    monkeypatch.setattr("ssmd_sink_nats.sender._now", lambda: now + 10)
    run.sender.acknowledged(acks(0))
    run.sender.take(make_trades(1, first=1))
    run.sender.acknowledged(acks(1))
    run.sender.take(make_trades(4, first=2))
    assert run.outlet.ids[3:] == ids(2, 3, 4, 5)


def test_whoever_is_refused_again_soon_is_careful_for_longer():
    caution = Caution()
    caution.note(100.0)
    assert not caution.over(104.9)
    assert caution.over(105.0)
    caution.note(110.0)
    assert not caution.over(119.9)
    caution.note(119.0)
    assert not caution.over(128.9)
    assert caution.over(129.0)
    caution.note(500.0)
    assert caution.over(505.0)
    at = 1_000.0
    for _ in range(20):
        caution.note(at)
        at += 330.0
    assert caution.over(at)
