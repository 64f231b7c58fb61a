import json
from contextlib import asynccontextmanager

import anyio
import anyio.lowlevel
import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ssmd_core.errors import RecordError, StorageFailed
from ssmd_core.feed import Parsed
from ssmd_core.metrics import Metrics
from ssmd_core.pipeline import ledger as ledger_module
from ssmd_core.pipeline import publisher as publisher_module
from ssmd_core.pipeline.encoding import Encoding
from ssmd_core.records import Batch, Side, Ticker, Trade
from ssmd_core.testing import until
from ssmd_core.testing.fakes import MemoryStorage, WindowTransport

pytestmark = pytest.mark.anyio


@asynccontextmanager
async def running(rig):
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(rig.pipeline.run, lambda: None)
        yield
        tasks.cancel_scope.cancel()


# ── order ────────────────────────────────────────────────────────────────────────


async def test_a_batch_is_archived_before_it_is_published(rig, storage):
    seen = []

    class Watching(WindowTransport):
        def publish(self, messages):
            seen.append(list(storage.frames))
            super().publish(messages)

    rig = rig(storage, Watching())
    rig.deliver(b"1", b"2")
    assert seen == [[b"1", b"2"]]
    assert rig.trades() == [b"1", b"2"]


async def test_without_a_transport_nothing_is_encoded(rig, storage):
    rig = rig(storage)
    rig.deliver(b"1")
    assert storage.frames == [b"1"]


async def test_the_tap_sees_a_batch_after_the_sinks(rig, storage):
    seen = []
    rig = rig(storage)
    object.__setattr__(rig.pipeline._parts, "tap", lambda *a: seen.append(list(storage.frames)))
    rig.deliver(b"1")
    assert seen == [[b"1"]]


# ── messages ─────────────────────────────────────────────────────────────────────


class AnyEncoder:
    label = "any:v1"
    kinds = frozenset({"trade", "ticker"})

    def encode(self, record):
        if record.ticker == "bad":
            raise RecordError("no ticker called bad")
        if record.ticker == "bug":
            raise ZeroDivisionError
        return b"x"


def ticker(name):
    return Ticker(name, 1, None, None, None, 0, 0)


def test_a_message_is_named_after_the_venues_key_or_the_frame():
    encoding = Encoding(AnyEncoder(), "toy", "c0ffee", Metrics())
    keyed = Trade("A", 1, 1, 1, Side.BUY, "T1")
    keyless = Trade("A", 1, 1, 1, Side.BUY)
    said = Parsed("mix", (keyed, ticker("A"), keyless))
    batch = Batch(100, [b"", b""])
    messages = encoding.messages(batch, [Parsed("x", (ticker("B"),)), said], "catchup")
    assert [m.msg_id for m in messages] == [
        "toy:c0ffee:100",
        "toy:trade:T1",
        "toy:c0ffee:101:1",
        "toy:c0ffee:101:2",
    ]
    assert {m.origin for m in messages} == {"catchup"}
    assert {m.schema for m in messages} == {"any:v1"}
    assert [m.ts for m in messages] == [100, 101, 101, 101]


def test_what_the_schema_cannot_carry_is_counted_and_left_out():
    metrics = Metrics()
    encoding = Encoding(AnyEncoder(), "toy", "c0ffee", metrics)
    said = [Parsed("t", (ticker(name),)) for name in ("bad", "bug", "good")]
    messages = encoding.messages(Batch(1, [b""] * 3), said)
    assert [m.ticker for m in messages] == ["good"]
    assert metrics.unpublishable == {
        "no ticker called bad": 1,
        "encoder failed: ZeroDivisionError": 1,
    }


class Nameless(Trade, frozen=True):
    @property
    def key(self):
        raise LookupError("bug in a key")


def test_a_record_that_cannot_name_itself_costs_no_other():
    metrics = Metrics()
    encoding = Encoding(AnyEncoder(), "toy", "c0ffee", metrics)
    records = (Nameless("A", 1, 1, 1, Side.BUY), Trade("B", 1, 1, 1, Side.BUY))
    messages = encoding.messages(Batch(1, [b""]), [Parsed("t", records)])
    assert [m.ticker for m in messages] == ["B"]
    assert metrics.unpublishable == {"encoder failed: LookupError": 1}


# ── the archive fails ────────────────────────────────────────────────────────────


async def test_frames_wait_in_memory_while_the_archive_refuses_and_go_first_after(rig, storage):
    rig = rig(storage, WindowTransport())
    rig.deliver(b"1")
    storage.failing = "ENOSPC"
    rig.deliver(b"2")
    storage.failing = ""
    rig.deliver(b"3")
    assert storage.frames == [b"1"]
    assert rig.pipeline.archiver.failing == "ENOSPC"
    rig.pipeline.archiver.retry()
    assert storage.frames == [b"1", b"2", b"3"]
    assert rig.trades() == [b"1", b"2", b"3"]
    assert [e["event"] for e in rig.events()] == ["sink_failed", "sink_recovered"]
    assert rig.pipeline.lost == 0


async def test_past_the_bound_the_oldest_frames_are_dropped_and_declared(rig, storage):
    rig = rig(storage)
    rig.pipeline.archiver._limit = 3 * (1000 + 64)
    storage.failing = "ENOSPC"
    batches = [rig.deliver(b"%d" % n * 1000) for n in range(6)]
    storage.failing = ""
    rig.pipeline.archiver.retry()
    assert storage.frames == [b"%d" % n * 1000 for n in (3, 4, 5)]
    assert rig.pipeline.lost == 3
    assert rig.metrics.dropped == {"archive_failed": 3}
    (dropped,) = [e for e in rig.events() if e["event"] == "dropped"]
    assert dropped["frames"] == 3
    assert dropped["from_ts"] < dropped["to_ts"]
    assert batches[0].first_ts < batches[3].first_ts


async def test_a_spell_of_failing_syncs_stands_in_the_ledger_once(rig, storage, monkeypatch):
    rig = rig(storage)

    async def refuse():
        raise StorageFailed("EIO")

    await rig.pipeline.sync()
    with monkeypatch.context() as patch:
        patch.setattr(storage, "sync", refuse)
        for _ in range(5):
            await rig.pipeline.sync()
    await rig.pipeline.sync()
    await rig.pipeline.sync()
    assert [e["event"] for e in rig.events()] == ["sink_failed", "sink_recovered"]


async def test_ledger_lines_wait_for_space_too(rig, storage):
    rig = rig(storage)
    storage.failing = "ENOSPC"
    rig.pipeline.report("gap", session="s", conn=0, channel="trade", first=1, last=2)
    assert storage.notes_kept == []
    storage.failing = ""
    rig.pipeline.ledger.flush()
    (event,) = rig.events()
    assert list(event)[:4] == ["ts", "session", "conn", "event"]
    assert event["event"] == "gap"


async def test_ledger_lines_that_do_not_fit_in_memory_are_counted_in_the_ledger(
    rig, storage, monkeypatch
):
    monkeypatch.setattr(ledger_module, "_MAX_HELD", 3)
    rig = rig(storage)
    ledger = rig.pipeline.ledger
    storage.failing = "no space"
    for code in range(5):
        ledger.write("refused", code=code)
    storage.failing = ""
    ledger.flush()
    told = rig.events()
    assert [line["event"] for line in told] == ["refused"] * 3 + ["dropped"]
    assert (told[-1]["sink"], told[-1]["lines"]) == ("ledger", 2)
    assert told[-1]["from_ts"] <= told[-1]["to_ts"] < told[0]["ts"]


@pytest.mark.parametrize("reason", ["\ud800", object()])
async def test_a_ledger_line_of_odd_values_is_written_all_the_same(rig, storage, reason):
    rig = rig(storage)
    rig.pipeline.ledger.write("refused", reason=reason)
    line = storage.notes_kept[-1][1]
    assert line.startswith(b'{"ts":"2')  # as it is looked for when the ledger is read back
    assert json.loads(line)["reason"] == str(reason)


async def test_what_still_waits_at_the_end_is_lost_and_said_so(rig, storage):
    rig = rig(storage)
    storage.failing = "EIO"
    rig.deliver(b"1", b"2")
    assert await rig.pipeline.finish() == 2


async def test_a_storage_that_breaks_its_word_costs_no_frame(rig, storage, monkeypatch):
    rig = rig(storage)
    monkeypatch.setattr(storage, "append", lambda batch: 1 / 0)
    rig.deliver(b"1")
    monkeypatch.undo()
    rig.pipeline.archiver.retry()
    assert storage.frames == [b"1"]


# ── the bus is slow or away ──────────────────────────────────────────────────────


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


# ── the archive is the log ───────────────────────────────────────────────────────


async def test_with_an_archive_memory_is_given_up_and_the_log_goes_on(
    rig, storage, transport, monkeypatch
):
    monkeypatch.setattr(publisher_module, "ARCHIVED_LIMIT_BYTES", 5_000)
    rig = rig(storage, transport)
    async with running(rig):
        rig.deliver(b"first")
        transport.online = False
        for n in range(200):
            rig.deliver(b"away-%03d" % n)
        assert rig.pipeline.publisher.behind_from is not None
        assert rig.metrics.backlog_bytes == 0
        transport.online = True
        rig.pipeline.on_room()
        rig.deliver(b"meanwhile")
        await until(lambda: rig.pipeline.publisher.behind_from is None)
        rig.deliver(b"live")
    expected = [b"first", *[b"away-%03d" % n for n in range(200)], b"meanwhile", b"live"]
    assert rig.trades() == expected
    by_payload = {m.payload: m.origin for m in transport.taken}
    assert by_payload[b"away-000"] == "catchup"
    assert by_payload[b"live"] == ""
    assert rig.pipeline.lost == 0


@given(script=st.lists(st.sampled_from(["frame", "away", "back", "ack", "turn"]), max_size=60))
@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_whatever_the_bus_does_each_frame_reaches_it_in_order(rig, script):
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


async def test_ledger_lines_written_while_behind_reach_the_bus_after(rig, storage, transport):
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


async def test_frames_that_wait_for_the_disk_are_not_passed_over_when_catching_up(rig, transport):
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
    await rig.pipeline._save_cursor()
    assert int(storage.values["cursor"]) < waiting.first_ts


async def test_a_ledger_line_ahead_of_older_frames_does_not_hide_them(rig, storage, transport):
    rig = rig(storage, transport)
    transport.online = False
    first_ts = rig.receipt.stamp(1)
    rig.pipeline.ledger.write("session_carried")  # as at midnight: before the batch, stamped after
    batch = Batch(first_ts, [b"1"])
    rig.pipeline.deliver(batch, rig.feed.parse_batch(batch.frames, None))
    await rig.pipeline._save_cursor()
    assert int(storage.values["cursor"]) < first_ts
    rig.pipeline.publisher.fall_behind()
    transport.online = True
    async with running(rig):
        await until(lambda: rig.pipeline.publisher.behind_from is None)
    assert rig.trades() == [b"1"]


async def test_an_archive_that_cannot_be_read_for_a_while_is_asked_again(
    rig, storage, transport, monkeypatch
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
    after.pipeline.recover(await storage.open())
    async with running(after):
        await until(lambda: after.pipeline.publisher.behind_from is None)
    assert after.trades() == [b"1", b"2"]


async def test_ledger_lines_of_an_outage_reach_the_bus_after_a_restart_in_their_place(rig, storage):
    before = rig(storage, WindowTransport())
    before.deliver(b"1")
    before.transport.acknowledge()
    await before.pipeline._save_cursor()
    before.transport.online = False
    before.deliver(b"2")
    before.pipeline.report("gap", session="s", conn=0, channel="trade", first=1, last=2)
    before.deliver(b"3")
    await before.pipeline.finish()

    after = rig(storage, WindowTransport())
    after.clock.advance(60)
    after.pipeline.recover(max((await storage.open()), storage.notes_kept[-1][0]))
    async with running(after):
        await until(lambda: after.pipeline.publisher.behind_from is None)
    kinds = [m.payload if m.kind == "trade" else m.kind for m in after.transport.taken]
    assert kinds == [b"2", "status", b"3"]
    assert after.transport.taken[1].payload == storage.notes_kept[0][1]
    assert after.transport.taken[1].origin == "catchup"


# ── the cursor ───────────────────────────────────────────────────────────────────


async def test_the_cursor_names_the_last_frame_of_which_all_is_acknowledged(
    rig, storage, transport
):
    rig = rig(storage, transport)
    first = rig.deliver(b"1", b"2")
    transport.acknowledge(1)
    await rig.pipeline._save_cursor()
    assert int(storage.values["cursor"]) == first.first_ts
    transport.acknowledge()
    await rig.pipeline._save_cursor()
    assert int(storage.values["cursor"]) == first.last_ts


async def test_a_cursor_that_a_storage_cannot_keep_is_kept_later(
    rig, storage, transport, monkeypatch
):
    rig = rig(storage, transport)
    last = rig.deliver(b"1").last_ts
    transport.acknowledge()
    with monkeypatch.context() as broken:
        broken.setattr(storage, "save", None)
        await rig.pipeline._save_cursor()
    await rig.pipeline._save_cursor()
    assert int(storage.values["cursor"]) == last


async def test_a_start_publishes_what_the_cursor_has_not_passed_with_the_same_ids(rig, storage):
    before = rig(storage, WindowTransport())
    before.deliver(b"1", b"2", b"3")
    before.transport.acknowledge(1)
    await before.pipeline._save_cursor()

    after = rig(storage, WindowTransport())
    after.clock.advance(60)
    after.pipeline.recover(await storage.open())
    async with running(after):
        await until(lambda: after.pipeline.publisher.behind_from is None)
        after.deliver(b"4")
    assert after.trades() == [b"2", b"3", b"4"]
    ids = {m.payload: m.msg_id for m in before.transport.taken}
    assert all(ids[m.payload] == m.msg_id for m in after.transport.taken if m.payload in ids)


async def test_a_first_start_on_an_old_archive_publishes_nothing_old(rig, storage):
    rig(storage).deliver(b"old")
    after = rig(storage, WindowTransport())
    after.clock.advance(60)
    after.pipeline.recover(await storage.open())
    after.deliver(b"new")
    assert after.trades() == [b"new"]


async def test_a_damaged_cursor_is_no_reason_to_stop_and_stands_in_the_ledger(rig, storage):
    storage.values["cursor"] = b"\x00garbage"
    rig(storage).deliver(b"old")
    after = rig(storage, WindowTransport())
    after.clock.advance(60)
    after.pipeline.recover(await storage.open())
    after.deliver(b"new")
    assert after.trades() == [b"new"]
    assert [event["event"] for event in after.events()] == ["sink_failed"]


async def test_a_cursor_beyond_the_archive_is_brought_back_to_its_end(rig, storage):
    batch = rig(storage).deliver(b"old")
    storage.values["cursor"] = str(batch.last_ts + 10**18).encode()
    after = rig(storage, WindowTransport())
    after.clock.advance(60)
    after.pipeline.recover(await storage.open())
    new = after.deliver(b"new")
    after.transport.acknowledge()
    await after.pipeline._save_cursor()
    assert int(storage.values["cursor"]) == new.last_ts


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


# ── stopping, midnight, faults ───────────────────────────────────────────────────


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


async def test_at_midnight_sessions_are_carried_into_the_new_day(rig, storage):
    rig = rig(storage)
    rig.deliver(b"1")
    assert rig.held_back == []
    rig.clock.advance(86_400)
    rig.deliver(b"2")
    assert rig.held_back == ["carry"]


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
