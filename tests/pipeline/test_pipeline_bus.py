import anyio
import anyio.lowlevel
import msgspec
import pytest

from ssmd_core.pipeline import publisher as publisher_module
from ssmd_core.testing import until
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


class Broken(WindowTransport):
    """A stranger's transport: raises in the methods that are named."""

    def __init__(self, *methods):
        super().__init__()
        self.broken = methods
        for name in methods:
            setattr(self, name, self._fail)

    def _fail(self, *_):
        raise RuntimeError("bug")

    def mend(self):
        for name in self.broken:
            delattr(self, name)


async def test_with_an_archive_a_transport_that_fails_to_publish_costs_no_message(
    running, rig, storage, monkeypatch
):
    monkeypatch.setattr("ssmd_core.pipeline.catchup._RETRY_SECONDS", 0.01)
    rig = rig(storage, Broken("publish"))
    rig.deliver(b"1")
    rig.deliver(b"2")
    assert storage.frames == [b"1", b"2"]
    assert "RuntimeError" in rig.pipeline.bus.health().reason
    async with running(rig):
        await anyio.lowlevel.checkpoint()
        assert rig.trades() == []
        rig.transport.mend()
        await until(lambda: rig.pipeline.publisher.behind_from is None)
    assert rig.trades() == [b"1", b"2"]
    assert rig.pipeline.bus.health().ok
    assert (rig.pipeline.lost, rig.metrics.dropped) == (0, {})


async def test_without_an_archive_a_transport_that_fails_to_publish_costs_only_its_messages(rig):
    rig = rig(None, Broken("publish"))
    rig.deliver(b"1", b"2")
    rig.transport.mend()
    rig.deliver(b"3")
    assert rig.trades() == [b"3"]
    assert rig.metrics.dropped == {"transport_error": 2}
    assert rig.pipeline.lost == 2


@pytest.mark.parametrize("method", ["room", "oldest_unacked", "connected", "health"])
async def test_a_transport_that_cannot_say_how_it_stands_ends_nothing(
    running, rig, storage, method
):
    rig = rig(storage, Broken(method))
    async with running(rig):
        for n in range(3):
            rig.deliver(b"%d" % n)
        rig.pipeline.bus.connected()
        rig.pipeline._watch_transport()
        await rig.pipeline.durability.save_place()
        assert not rig.pipeline.bus.health().ok
        assert "cursor" not in storage.values or method != "oldest_unacked"
        rig.transport.mend()
        rig.pipeline.on_room()
        await until(lambda: len(rig.trades()) == 3)
    assert rig.trades() == [b"0", b"1", b"2"]
    assert storage.frames == [b"0", b"1", b"2"]
    assert rig.pipeline.bus.health().ok


async def test_a_transport_that_fails_to_flush_holds_up_no_stop(rig, storage):
    rig = rig(storage, Broken("flush"))
    rig.deliver(b"1")
    with anyio.fail_after(5):
        await rig.pipeline.drain()
    assert await rig.pipeline.finish() == 0


async def test_a_storage_that_cannot_say_where_it_stands_ends_no_session(rig, storage):
    rig = rig(storage)
    storage.mark = lambda: 1 / 0
    assert rig.pipeline.place() == {}


async def test_without_the_transports_own_count_what_is_unacknowledged_is_lost(rig, transport):
    rig = rig(None, transport)
    rig.deliver(b"1", b"2")
    transport.acknowledge()
    rig.deliver(b"3", b"4", b"5")
    rig.pipeline.report("subscribed", session="s", conn=0, channel="trade")
    rig.pipeline.publisher.trim()
    assert rig.metrics.unacked == 0
    assert await rig.pipeline.finish() == 3


async def test_a_rejected_message_is_lost_only_without_an_archive(rig, storage, transport):
    without, with_archive = rig(None, transport), rig(storage, WindowTransport())
    for each in (without, with_archive):
        each.deliver(b"1")
        each.pipeline.on_rejected(each.transport.taken[0], "payload too large")
    assert (without.pipeline.lost, with_archive.pipeline.lost) == (1, 0)
    (dropped,) = with_archive.events()
    assert (dropped["event"], dropped["message"]) == ("dropped", "toy:trade:1")
