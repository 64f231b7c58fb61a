import threading

import anyio
import pytest

from rig.reading import ListArchive, TinyFeed, a_book, a_ticker, a_trade
from ssmd_core.clock import NS
from ssmd_core.errors import StorageFailed
from ssmd_core.metrics import Metrics
from ssmd_core.pipeline.encoding import Encoding
from ssmd_core.pipeline.log import LogReader
from ssmd_core.records import Batch, Stream
from ssmd_core.schema import open_trade_v1
from ssmd_core.service.destination import Held
from ssmd_core.service.lookback import count_absent
from ssmd_core.service.pacing import Pacer
from ssmd_core.service.playback import Passage, Playback
from ssmd_core.service.replay import Replay, chunks
from ssmd_core.service.rereading import Rereading
from ssmd_core.sink import Health
from ssmd_core.sink.archive import Damaged
from ssmd_core.sink.bus import StoredMessage
from ssmd_core.testing import until
from ssmd_core.testing.fakes import WindowTransport

pytestmark = pytest.mark.anyio

NOON = 1_795_348_800 * NS
OPENED = (NOON - 1, {"event": "session_opened", "connector": "c1"})


class Bus(WindowTransport):
    """Counts as a transport does; acknowledges by itself unless told not to."""

    def __init__(self, metrics, window=1_000_000, *, deaf=False):
        super().__init__(window)
        self.metrics = metrics
        self.deaf = deaf
        self.on_room = None
        self.given = []

    async def run(self):
        while True:
            await anyio.sleep(0.001)
            if not self.deaf:
                self.acknowledge()
                if self.on_room is not None:
                    self.on_room()

    def publish(self, messages):
        super().publish(messages)
        self.given.append(len(messages))
        self.metrics.unacked += len(messages)

    def acknowledge(self, count=None):
        super().acknowledge(count)
        self.metrics.published += self.metrics.unacked
        self.metrics.unacked = 0

    async def flush(self):
        if self.deaf:
            await anyio.sleep_forever()
        self.acknowledge()

    def health(self):
        return Health(ok=not self.deaf, reason="it says nothing")


class Stage:
    """A replay of batches, and where it goes."""

    def __init__(self, batches, *, factor=None, window=1_000_000, deaf=False, **more):
        self.metrics = Metrics()
        self.archive = ListArchive(batches, [OPENED])
        encoder = open_trade_v1(self.metrics)
        self.rereading = Rereading(TinyFeed(), "tiny", encoder, self.metrics)
        self.playback = Playback(self.archive, "tiny")
        self.replay = Replay(
            self.playback, self.rereading, self.metrics, pacer=Pacer(factor), **more
        )
        self.bus = Bus(self.metrics, window, deaf=deaf)
        self.bus.on_room = self.replay.on_room
        self.stop = anyio.Event()

    async def run(self, held=None):
        with anyio.fail_after(20):
            return await self.replay.run(self.bus, held or Held(), self.stop)


def trades(count, first_ts=NOON, batch=10):
    return [
        Batch(first_ts + start, [a_trade(start + i) for i in range(min(batch, count - start))])
        for start in range(0, count, batch)
    ]


def live_run(batches):
    """Return what the connector published of them."""
    metrics, feed = Metrics(), TinyFeed()
    encoding = Encoding(open_trade_v1(metrics), "tiny", "c1", metrics)
    reader = LogReader(feed, lambda: 0)
    return [
        message for batch in batches for message in encoding.messages(batch, reader.read(batch))
    ]


# ── what is published ────────────────────────────────────────────────────────────


def as_published(messages):
    return [(m.kind, m.ticker, m.payload, m.msg_id, m.ts, m.schema) for m in messages]


async def test_the_same_records_are_published_under_the_same_ids_and_say_that_they_are_a_replay():
    batches = [
        Batch(NOON, [a_trade(1), a_ticker(5), a_book(), a_ticker(6, "KY")]),
        Batch(NOON + 100, [a_trade(2)], conn=1),
    ]
    stage = Stage(batches)
    told = await stage.run()
    assert as_published(stage.bus.taken) == as_published(live_run(batches))
    assert {message.origin for message in stage.bus.taken} == {"replay"}
    assert told.complete
    assert (told.frames, dict(told.kinds)) == (5, {"trade": 2, "ticker": 2})
    assert (told.first_ts, told.last_ts) == (NOON, NOON + 100)


async def test_what_was_fetched_is_published_in_its_place_and_says_that_it_is_a_replay():
    page = Batch(NOON + 5, [b"[%s]" % a_trade("late")], stream=Stream.REST)
    stage = Stage([Batch(NOON, [a_trade(1)]), page, Batch(NOON + 9, [a_trade(2)])])
    await stage.run()
    assert [m.msg_id for m in stage.bus.taken] == [
        "tiny:trade:1",
        "tiny:trade:late",
        "tiny:trade:2",
    ]
    assert {message.origin for message in stage.bus.taken} == {"replay"}


async def test_a_frame_that_cannot_be_read_is_counted_and_costs_no_other():
    frames = [a_trade(1), b'{"no":"kind"}', b"\xff", a_trade(2)]
    stage = Stage([Batch(NOON, frames, raw=frozenset({2})), Damaged("2026-11-22", 1, 4, "torn")])
    told = await stage.run()
    assert [m.msg_id for m in stage.bus.taken] == ["tiny:trade:1", "tiny:trade:2"]
    assert (told.unread, told.damaged_lines, told.complete) == (2, 4, True)


async def test_what_the_stream_holds_already_is_not_sent_again():
    held = Held()
    for number in range(0, 100, 2):
        held.add(StoredMessage(1, "lab.tiny.trade.KX", f"tiny:trade:{number}", NOON, "", "", b""))
    stage = Stage(trades(100))
    told = await stage.run(held)
    assert [m.msg_id for m in stage.bus.taken] == [f"tiny:trade:{n}" for n in range(1, 100, 2)]
    assert told.held == 50


# ── pace and room ────────────────────────────────────────────────────────────────


async def test_no_more_is_given_than_there_is_room_for_and_all_of_it_in_order():
    stage = Stage(trades(1_000), window=37)
    told = await stage.run()
    assert max(stage.bus.given) <= 37
    assert [m.msg_id for m in stage.bus.taken] == [f"tiny:trade:{n}" for n in range(1_000)]
    assert told.unacknowledged == 0


async def test_what_is_not_due_is_not_given():
    stage = Stage([*trades(10), *trades(10, NOON + 3_600 * NS)], factor=1.0)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(stage.run)
        await until(lambda: len(stage.bus.taken) == 10, 10)
        stage.stop.set()
    assert len(stage.bus.taken) == 10
    assert stage.replay.so_far.stopped


async def test_reading_does_not_hold_the_loop_up():
    threads = set()

    class Watched(ListArchive):
        def frames(self, file):
            threads.add(threading.get_ident())
            return super().frames(file)

    stage = Stage([])
    stage.playback._archive = Watched(trades(10), [OPENED])
    stage.playback._played = stage.playback._days = ["2026-11-22"]
    await stage.run()
    assert len(stage.bus.taken) == 10
    assert threading.get_ident() not in threads


def test_chunks_are_bounded_by_frames_and_by_bytes():
    small = [Passage(Batch(NOON + i, [b"x"]), "c") for i in range(5_000)]
    large = [Passage(Batch(NOON + i, [b"x" * 700_000]), "c") for i in range(5)]
    assert [len(chunk) for chunk in chunks(small)] == [2_048, 2_048, 904]
    assert [len(chunk) for chunk in chunks(large)] == [2, 2, 1]


# ── what goes wrong ──────────────────────────────────────────────────────────────


async def test_a_bus_that_acknowledges_nothing_is_given_up_with_its_reason():
    stage = Stage(trades(100), window=25, deaf=True, stall_seconds=0.05)
    told = await stage.run()
    assert not told.complete
    assert told.unacknowledged == 25
    assert "acknowledged nothing for 0.05 s: it says nothing" in told.fault


async def test_a_bus_that_takes_all_and_acknowledges_nothing_is_given_up_too():
    told = await Stage(trades(10), deaf=True, stall_seconds=0.05).run()
    assert (told.complete, told.unacknowledged) == (False, 10)


async def test_a_message_that_the_bus_never_takes_is_counted_with_the_reason():
    stage = Stage(trades(10))
    message = live_run(trades(1))[0]
    stage.replay.on_rejected(message, "too large")
    stage.replay.on_rejected(message, "another")
    told = await stage.run()
    assert (told.complete, told.rejected) == (False, 2)
    assert told.rejection == "tiny:trade:0: too large"


async def test_a_transport_that_raises_ends_the_replay_with_its_reason():
    stage = Stage(trades(10))

    def broken(_messages):
        raise RuntimeError("no such method")

    stage.bus.publish = broken
    told = await stage.run()
    assert not told.complete
    assert "no such method" in told.fault


async def test_a_transport_whose_run_fails_ends_the_replay_with_its_reason():
    stage = Stage([*trades(10), *trades(10, NOON + 3_600 * NS)], factor=1.0)

    async def broken():
        await until(lambda: stage.bus.taken, 10)
        raise RuntimeError("no more")

    stage.bus.run = broken
    told = await stage.run()
    assert "the transport failed: RuntimeError('no more')" in told.fault


async def test_the_reason_of_a_run_that_failed_outlives_what_it_left_unacknowledged():
    stage = Stage(trades(20), deaf=True, stall_seconds=0.3)

    async def run():
        await until(lambda: stage.bus.given)
        raise RuntimeError("boom")

    stage.bus.run = run
    told = await stage.run()
    assert "boom" in told.fault
    assert told.unacknowledged == 20


async def test_a_quiet_market_is_not_taken_for_a_bus_that_stands_still():
    quiet = [Batch(NOON, [a_book()]), Batch(NOON + NS, [a_trade(1)])]
    stage = Stage(quiet, factor=2.0, stall_seconds=0.3)
    room, away = stage.bus.room, iter([True])
    stage.bus.room = lambda: 0 if next(away, False) else room()
    told = await stage.run()
    assert not told.fault
    assert told.kinds["trade"] == 1


async def test_an_archive_that_cannot_be_read_ends_the_replay_with_its_own_error():
    stage = Stage(trades(10))

    def broken(_file):
        raise StorageFailed("2026-11-22/tiny.jsonl: input/output error")
        yield

    stage.archive.frames = broken
    with pytest.raises(StorageFailed, match="input/output error"):
        await stage.run()


# ── stopping ─────────────────────────────────────────────────────────────────────


async def test_told_to_stop_it_waits_for_what_was_given_and_says_how_far_it_came():
    stage = Stage([*trades(30), *trades(10, NOON + 3_600 * NS)], factor=1.0)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(stage.run)
        await until(lambda: len(stage.bus.taken) == 30, 10)
        stage.stop.set()
    told = stage.replay.so_far
    assert (told.stopped, told.complete, told.unacknowledged) == (True, True, 0)
    assert told.last_ts == NOON + 29


async def test_told_to_stop_before_it_began_it_publishes_nothing():
    stage = Stage(trades(30))
    stage.stop.set()
    told = await stage.run()
    assert (told.stopped, told.complete, stage.bus.taken) == (True, True, [])


# ── what the bus takes for a duplicate ───────────────────────────────────────────


async def test_what_the_bus_takes_for_duplicates_is_in_doubt_until_someone_looks():
    stage = Stage(trades(20))
    stage.metrics.duplicates = 3  # as its acknowledgements would say
    told = await stage.run()
    assert (told.doubted, told.held, told.complete) == (3, 0, False)


async def test_a_fetched_record_that_came_live_is_no_doubt():
    page = Batch(NOON + 5, [b"[%s]" % a_trade(1)], stream=Stream.REST)
    stage = Stage([Batch(NOON, [a_trade(1)]), page])
    told = await stage.run()
    assert (told.doubted, told.held, told.complete) == (0, 1, True)


async def test_looking_again_counts_what_the_stream_does_not_hold_up_to_the_end_of_the_replay():
    stage, metrics = Stage(trades(30)), Metrics()
    held = Held()
    for number in range(5, 30):
        held.add(StoredMessage(1, "lab.tiny.trade.KX", f"tiny:trade:{number}", NOON, "", "", b""))
    again = Rereading(TinyFeed(), "tiny", open_trade_v1(metrics), metrics)
    assert await count_absent(stage.playback, again, held, NOON + 29) == 5
    again = Rereading(TinyFeed(), "tiny", open_trade_v1(metrics), metrics)
    assert await count_absent(stage.playback, again, Held(), NOON + 13) == 14
