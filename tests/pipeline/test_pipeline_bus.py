import msgspec
import pytest

from ssmd_core.pipeline import publisher as publisher_module
from ssmd_core.testing.fakes import WindowTransport

pytestmark = pytest.mark.anyio


async def test_messages_queue_while_there_is_no_room_and_keep_their_order(rig, transport):
    rig = rig(None, transport)
    transport.online = False
    for n in range(5):
        rig.deliver(b"%d" % n)
    assert rig.trades() == []
    assert rig.metrics.backlog_bytes > 0
    transport.online = True
    rig.deliver(b"5")
    rig.pipeline.on_room()
    assert rig.trades() == [b"0", b"1", b"2", b"3", b"4", b"5"]
    assert rig.metrics.backlog_bytes == 0


async def test_without_an_archive_the_oldest_are_dropped_counted_and_declared(
    rig, transport, monkeypatch
):
    monkeypatch.setattr(publisher_module, "MEMORY_LIMIT_BYTES", 10 * 500)
    rig = rig(None, transport)
    transport.online = False
    for n in range(30):
        rig.deliver(b"%03d" % n * 33)
    transport.online = True
    rig.pipeline.on_room()
    trades = rig.trades()
    assert trades[-1] == b"029" * 33
    assert trades == [b"%03d" % n * 33 for n in range(30 - len(trades), 30)]
    lost = 30 - len(trades)
    assert rig.pipeline.lost == lost > 0
    assert rig.metrics.dropped == {"bus_backlog": lost}
    status = [msgspec.json.decode(m.payload) for m in transport.taken if m.kind == "status"]
    (dropped,) = [event for event in status if event["event"] == "dropped"]
    assert dropped["messages"] == lost


async def test_a_slow_bus_holds_the_venue_back(rig):
    transport = WindowTransport(window=100)
    rig = rig(None, transport)
    for n in range(9):
        rig.deliver(*[b"%d-%d" % (n, i) for i in range(1000)])
    assert rig.held_back == [True]
    while rig.pipeline.publisher.backlog:
        transport.acknowledge()
        rig.pipeline.on_room()
    assert rig.held_back == [True, False]
    assert rig.trades() == [b"%d-%d" % (n, i) for n in range(9) for i in range(1000)]


async def test_a_bus_that_is_away_does_not_hold_the_venue_back(rig, transport):
    rig = rig(None, transport)
    transport.online = False
    for n in range(9):
        rig.deliver(*[b"%d-%d" % (n, i) for i in range(1000)])
    assert rig.held_back == []


async def test_a_transport_that_breaks_its_word_costs_only_its_messages(rig, storage):
    class Broken(WindowTransport):
        def publish(self, messages):
            raise RuntimeError("bug")

    rig = rig(storage, Broken())
    rig.deliver(b"1")
    assert storage.frames == [b"1"]
    assert rig.metrics.dropped["transport_error"] >= 1
    assert rig.pipeline.lost == 0


async def test_a_rejected_message_is_lost_only_without_an_archive(rig, storage, transport):
    without, with_archive = rig(None, transport), rig(storage, WindowTransport())
    for each in (without, with_archive):
        each.deliver(b"1")
        each.pipeline.on_rejected(each.transport.taken[0], "payload too large")
    assert (without.pipeline.lost, with_archive.pipeline.lost) == (1, 0)
    (dropped,) = with_archive.events()
    assert (dropped["event"], dropped["message"]) == ("dropped", "toy:trade:1")
