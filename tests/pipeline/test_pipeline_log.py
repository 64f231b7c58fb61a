import anyio
import anyio.lowlevel
import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ssmd_core.errors import StorageFailed
from ssmd_core.pipeline import publisher as publisher_module
from ssmd_core.records import Batch
from ssmd_core.testing import until
from ssmd_core.testing.fakes import MemoryStorage, WindowTransport

pytestmark = pytest.mark.anyio


async def test_with_an_archive_memory_is_given_up_and_the_log_goes_on(
    running, rig, storage, transport, monkeypatch
):
    monkeypatch.setattr(publisher_module, "ARCHIVED_LIMIT_BYTES", 5_000)
    rig = rig(storage, transport)
    async with running(rig):
        rig.deliver(b"first")
        transport.online = False
        for n in range(200):
            rig.deliver(b"away-%03d" % n)
        assert rig.pipeline.publisher.behind_from is not None
        behind_bytes = rig.metrics.backlog_bytes
        rig.deliver(b"more")
        assert rig.metrics.backlog_bytes == behind_bytes + len(b"more")
        transport.online = True
        rig.pipeline.on_room()
        rig.deliver(b"meanwhile")
        await until(lambda: rig.pipeline.publisher.behind_from is None)
        assert rig.metrics.backlog_bytes == 0
        rig.deliver(b"live")
    away = [b"away-%03d" % n for n in range(200)]
    expected = [b"first", *away, b"more", b"meanwhile", b"live"]
    assert rig.trades() == expected
    by_payload = {m.payload: m.origin for m in transport.taken}
    assert by_payload[b"away-000"] == "catchup"
    assert by_payload[b"live"] == ""
    assert rig.pipeline.lost == 0


@given(script=st.lists(st.sampled_from(["frame", "away", "back", "ack", "turn"]), max_size=60))
@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_whatever_the_bus_does_each_frame_reaches_it_in_order(running, rig, script):
    build = rig

    async def play():
        storage, transport = MemoryStorage(), WindowTransport(window=7)
        rig = build(storage, transport)
        rig.pipeline.publisher._limit = 2_000
        sent = 0
        async with running(rig):
            for word in script:
                match word:
                    case "frame":
                        rig.deliver(*[b"%d" % (sent + i) for i in range(3)])
                        sent += 3
                    case "away":
                        transport.online = False
                    case "back":
                        transport.online = True
                        rig.pipeline.on_room()
                    case "ack":
                        transport.acknowledge(4)
                        rig.pipeline.on_room()
                    case "turn":
                        await anyio.lowlevel.checkpoint()
            transport.online = True
            with anyio.fail_after(10):
                while len(set(rig.trades())) < sent:
                    transport.acknowledge()
                    rig.pipeline.on_room()
                    await anyio.lowlevel.checkpoint()
        first_seen = list(dict.fromkeys(rig.trades()))
        assert first_seen == [b"%d" % n for n in range(sent)]

    anyio.run(play)


async def test_ledger_lines_written_while_behind_reach_the_bus_after(
    running, rig, storage, transport
):
    rig = rig(storage, transport)
    rig.pipeline.publisher._limit = 1_000
    async with running(rig):
        transport.online = False
        for n in range(10):
            rig.deliver(b"away-%d" % n)
        rig.pipeline.report("gap", session="s", conn=0, channel="trade", first=1, last=2)
        assert rig.pipeline.publisher.behind_from is not None
        transport.online = True
        rig.pipeline.on_room()
        await until(lambda: rig.pipeline.publisher.behind_from is None)
    lines = [line for _, line in storage.notes_kept]
    assert [m.payload for m in transport.taken if m.kind == "status"] == lines
    assert rig.trades() == [b"away-%d" % n for n in range(10)]


class NotesOnly(MemoryStorage):
    """A disk with room for a ledger line and none for a batch."""

    full = False

    def append(self, batch):
        if self.full:
            raise StorageFailed("no space for so much")
        super().append(batch)


async def test_frames_that_wait_for_the_disk_are_not_passed_over_when_catching_up(
    running, rig, transport
):
    storage = NotesOnly()
    rig = rig(storage, transport)
    transport.online = False
    rig.deliver(b"1")
    rig.pipeline.publisher.fall_behind()
    storage.full = True
    rig.deliver(b"2")
    assert rig.events()[-1]["event"] == "sink_failed"  # later than the frame that waits
    transport.online = True
    async with running(rig):
        await until(lambda: b"1" in rig.trades())
        storage.full = False
        await until(lambda: rig.pipeline.publisher.behind_from is None)
    assert rig.trades() == [b"1", b"2"]


async def test_the_cursor_does_not_pass_frames_that_wait_for_the_disk(rig, transport):
    storage = NotesOnly()
    rig = rig(storage, transport)
    storage.full = True
    waiting = rig.deliver(b"1")
    transport.acknowledge()
    await rig.pipeline.durability.save_place()
    assert int(storage.values["cursor"]) < waiting.first_ts


async def test_a_ledger_line_ahead_of_older_frames_does_not_hide_them(
    running, rig, storage, transport
):
    rig = rig(storage, transport)
    transport.online = False
    first_ts = rig.receipt.stamp(1)
    rig.pipeline.ledger.write("session_carried")  # as at midnight: before the batch, stamped after
    batch = Batch(first_ts, [b"1"])
    rig.pipeline.deliver(batch, rig.feed.parse_batch(batch.frames, None))
    await rig.pipeline.durability.save_place()
    assert int(storage.values["cursor"]) < first_ts
    rig.pipeline.publisher.fall_behind()
    transport.online = True
    async with running(rig):
        await until(lambda: rig.pipeline.publisher.behind_from is None)
    assert rig.trades() == [b"1"]


async def test_an_archive_that_cannot_be_read_for_a_while_is_asked_again(
    running, rig, storage, transport, monkeypatch
):
    monkeypatch.setattr("ssmd_core.pipeline.catchup._RETRY_SECONDS", 0.01)
    tries = []
    read = storage.read

    def refuse(after, upto):
        tries.append(after)
        if len(tries) < 3:
            raise OSError("EIO")
        return read(after, upto)

    monkeypatch.setattr(storage, "read", refuse)
    rig(storage).deliver(b"1", b"2")
    after = rig(storage, transport)
    storage.values["cursor"] = str(storage.batches[0].first_ts - 1).encode()
    await after.pipeline.recover(await storage.open())
    async with running(after):
        await until(lambda: after.pipeline.publisher.behind_from is None)
    assert after.trades() == [b"1", b"2"]


async def test_ledger_lines_of_an_outage_reach_the_bus_after_a_restart_in_their_place(
    running, rig, storage
):
    before = rig(storage, WindowTransport())
    before.deliver(b"1")
    before.transport.acknowledge()
    await before.pipeline.durability.save_place()
    before.transport.online = False
    before.deliver(b"2")
    before.pipeline.report("gap", session="s", conn=0, channel="trade", first=1, last=2)
    before.deliver(b"3")
    await before.pipeline.finish()

    after = rig(storage, WindowTransport())
    after.clock.advance(60)
    await after.pipeline.recover(max((await storage.open()), storage.notes_kept[-1][0]))
    async with running(after):
        await until(lambda: after.pipeline.publisher.behind_from is None)
    kinds = [m.payload if m.kind == "trade" else m.kind for m in after.transport.taken]
    assert kinds == [b"2", "status", b"3"]
    assert after.transport.taken[1].payload == storage.notes_kept[0][1]
    assert after.transport.taken[1].origin == "catchup"


async def test_the_cursor_names_the_last_frame_of_which_all_is_acknowledged(
    rig, storage, transport
):
    rig = rig(storage, transport)
    first = rig.deliver(b"1", b"2")
    transport.acknowledge(1)
    await rig.pipeline.durability.save_place()
    assert int(storage.values["cursor"]) == first.first_ts
    transport.acknowledge()
    await rig.pipeline.durability.save_place()
    assert int(storage.values["cursor"]) == first.last_ts


async def test_a_cursor_that_a_storage_cannot_keep_is_kept_later(
    rig, storage, transport, monkeypatch
):
    rig = rig(storage, transport)
    last = rig.deliver(b"1").last_ts
    transport.acknowledge()
    with monkeypatch.context() as broken:
        broken.setattr(storage, "save", None)
        await rig.pipeline.durability.save_place()
    await rig.pipeline.durability.save_place()
    assert int(storage.values["cursor"]) == last


async def test_a_start_publishes_what_the_cursor_has_not_passed_with_the_same_ids(
    running, rig, storage
):
    before = rig(storage, WindowTransport())
    before.deliver(b"1", b"2", b"3")
    before.transport.acknowledge(1)
    await before.pipeline.durability.save_place()

    after = rig(storage, WindowTransport())
    after.clock.advance(60)
    await after.pipeline.recover(await storage.open())
    async with running(after):
        await until(lambda: after.pipeline.publisher.behind_from is None)
        after.deliver(b"4")
    assert after.trades() == [b"2", b"3", b"4"]
    ids = {m.payload: m.msg_id for m in before.transport.taken}
    assert all(ids[m.payload] == m.msg_id for m in after.transport.taken if m.payload in ids)


async def test_ledger_lines_outlast_an_overflow_and_go_first_after(rig, transport, monkeypatch):
    monkeypatch.setattr(publisher_module, "MEMORY_LIMIT_BYTES", 10 * 500)
    rig = rig(None, transport)
    transport.online = False
    rig.pipeline.report("session_closed", session="s", conn=0, cause="cut")
    for n in range(30):
        rig.deliver(b"%03d" % n * 33)
    rig.pipeline.publisher.tell_drops(100.0)
    for n in range(30):
        rig.deliver(b"%03d" % n * 33)
    transport.online = True
    rig.pipeline.on_room()
    status = [msgspec.json.decode(m.payload) for m in transport.taken if m.kind == "status"]
    assert [event["event"] for event in status] == ["session_closed", "dropped", "dropped"]
    assert sum(event.get("messages", 0) for event in status) == rig.pipeline.lost
    assert transport.taken[0].kind == "status"
