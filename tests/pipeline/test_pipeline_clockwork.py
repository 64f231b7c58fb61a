import anyio
import anyio.lowlevel
import msgspec
import pytest

from ssmd_core.feed import Parsed
from ssmd_core.pipeline import publisher as publisher_module
from ssmd_core.records import Batch
from ssmd_core.testing import until
from ssmd_core.testing.fakes import WindowTransport

pytestmark = pytest.mark.anyio


async def test_draining_waits_until_the_queue_is_published_and_acknowledged(rig, storage):
    transport = WindowTransport(window=10)
    rig = rig(storage, transport)
    rig.deliver(*[b"%d" % n for n in range(100)])
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(rig.pipeline.drain)
        while rig.pipeline.publisher.backlog:
            transport.acknowledge()
            await anyio.lowlevel.checkpoint()
    assert len(rig.trades()) == 100
    assert transport.oldest_unacked() is None
    assert await rig.pipeline.finish() == 0


async def test_a_bus_that_is_away_does_not_delay_a_stop_when_there_is_an_archive(
    rig, storage, transport
):
    rig = rig(storage, transport)
    transport.online = False
    rig.deliver(b"1")
    with anyio.fail_after(2):
        await rig.pipeline.drain()
    assert await rig.pipeline.finish() == 0


async def test_without_an_archive_what_was_not_acknowledged_is_lost(rig, transport):
    rig = rig(None, transport)
    transport.online = False
    rig.deliver(b"1", b"2")
    with anyio.move_on_after(0.05):
        await rig.pipeline.drain()
    assert await rig.pipeline.finish() == 2


async def test_what_is_lost_is_counted_where_operators_look(rig, storage, running):
    rig = rig(storage)
    async with running(rig):
        rig.deliver(b"1")
        rig.pipeline.archiver.lose(3, 1, 3, "removed by somebody")
        await until(lambda: rig.metrics.lost == 3)


async def test_at_midnight_sessions_are_carried_into_the_new_day(rig, storage):
    rig = rig(storage)
    rig.deliver(b"1")
    assert rig.carried == []
    rig.clock.advance(86_400)
    rig.deliver(b"2")
    assert len(rig.carried) == 1


async def test_faults_are_counted_each_but_told_at_most_every_ten_seconds(rig, transport):
    rig = rig(None, transport)
    said = Parsed("malformed", fault="not a toy frame")

    def told():
        events = [msgspec.json.decode(m.payload) for m in transport.taken]
        return [event["frames"] for event in events if event["event"] == "unparsed"]

    for _ in range(50):
        rig.pipeline.fault(Batch(rig.receipt.stamp(), [b"x"]), 0, said)
    assert told() == [1]
    rig.clock.advance(11)
    rig.pipeline.fault(Batch(rig.receipt.stamp(), [b"x"], raw=frozenset({0})), 0, said)
    assert told() == [1, 50]
    assert rig.metrics.parse_errors == 51
    assert rig.metrics.invalid_frames == 1


async def test_the_last_faults_are_told_when_their_time_comes_or_at_the_end(rig, storage):
    rig = rig(storage)
    said = Parsed("malformed", fault="not a toy frame")
    for _ in range(3):
        rig.pipeline.fault(Batch(rig.receipt.stamp(), [b"x"]), 0, said)
    rig.clock.advance(11)
    rig.pipeline._tell_faults(rig.receipt.now_ns())
    rig.pipeline.fault(Batch(rig.receipt.stamp(), [b"x"]), 0, said)
    await rig.pipeline.finish()
    assert [event["frames"] for event in rig.events()] == [1, 2, 1]


async def test_a_ledger_line_that_the_bus_refuses_makes_no_further_line(rig, storage, transport):
    rig = rig(storage, transport)
    rig.pipeline.report("gap", session="s", conn=0, channel="trade", first=1, last=2)
    rig.pipeline.on_rejected(transport.taken[0], "too large")
    assert [event["event"] for event in rig.events()] == ["gap"]
    assert rig.pipeline.lost == 0


async def test_ledger_lines_that_the_bus_did_not_take_are_no_loss_of_data(rig, transport):
    rig = rig(None, transport)
    rig.pipeline.report("subscribed", session="s", conn=0, channel="trade")
    rig.metrics.unacked = 1
    transport.online = False
    rig.pipeline.report("gap", session="s", conn=0, channel="trade", first=1, last=2)
    with anyio.fail_after(2):
        await rig.pipeline.drain()
    assert await rig.pipeline.finish() == 0


async def test_drops_that_go_on_are_told_while_they_do(rig, transport, monkeypatch):
    monkeypatch.setattr(publisher_module, "MEMORY_LIMIT_BYTES", 10 * 500)
    rig = rig(None, transport)
    observed = []
    rig.pipeline.ledger._observe = lambda event, fields: observed.append((event, fields))
    transport.online = False
    for n in range(30):
        rig.deliver(b"%03d" % n * 33)
    rig.pipeline.publisher.tell_drops(100.0)
    rig.pipeline.publisher.tell_drops(101.0)
    assert [event for event, _ in observed] == ["dropped"]
    assert observed[0][1]["messages"] > 0


async def test_ledger_events_reach_the_bus_as_json_on_status(rig, storage, transport):
    rig = rig(storage, transport)
    rig.pipeline.report("gap", session="s", conn=0, channel="trade", first=1, last=2)
    (message,) = transport.taken
    assert (message.kind, message.ticker) == ("status", "")
    assert message.payload == storage.notes_kept[0][1]
    assert message.msg_id == f"toy:c0ffee:{message.ts}"


async def test_a_failing_bus_is_in_the_ledger_when_it_fails_and_when_it_is_back(
    rig, storage, transport
):
    rig = rig(storage, transport)
    transport.online = False
    rig.pipeline._watch_transport()
    rig.pipeline._watch_transport()
    transport.online = True
    rig.pipeline._watch_transport()
    assert [e["event"] for e in rig.events()] == ["sink_failed", "sink_recovered"]


async def test_a_backward_step_of_the_clock_is_in_the_ledger(rig, storage):
    rig = rig(storage)
    rig.clock.step_wall(-5)
    rig.deliver(b"1")
    rig.pipeline._watch_clock()
    (event,) = rig.events()
    assert event["event"] == "clock_stepped"
    assert 4.9 < event["back_seconds"] < 5.1
