"""Fetched batches: archived, published as backfill, and no record twice."""

import pytest

from ssmd_core.errors import ParseError
from ssmd_core.feed import Endpoint, Parsed, WebSocketFeed
from ssmd_core.feed.repair import Fetch
from ssmd_core.metrics import Metrics
from ssmd_core.pipeline.encoding import Encoding
from ssmd_core.pipeline.seen import Seen
from ssmd_core.records import Batch, Side, Stream, Trade
from ssmd_core.sink import Message
from ssmd_core.testing import until
from ssmd_core.testing.fakes import MemoryStorage, WindowTransport

pytestmark = pytest.mark.anyio


def trade(word):
    return Trade("A", 1, 1, 1, Side.BUY, word)


class HistoryFeed(WebSocketFeed):
    """A live frame is one trade id; a fetched body is many, space between."""

    kinds = frozenset({"trade"})

    def endpoint(self, plan):
        return Endpoint(url="ws://127.0.0.1:1/")

    def on_open(self, session):
        return ()

    def parse(self, data, session):
        return Parsed("trade", (trade(data.decode()),))

    def backfill(self, missed):
        return Fetch(url="http://127.0.0.1:1/") if missed.channel == "trade" else None

    def parse_fetched(self, data):
        if data == b"torn":
            raise ParseError("not a page")
        return Parsed("page", tuple(trade(word) for word in data.decode().split()))


def fetch(rig, body):
    batch = Batch(rig.receipt.stamp(), [body], stream=Stream.REST)
    rig.pipeline.deliver(batch, [rig.feed.parse_fetched(body)])
    return batch


@pytest.fixture
def rig(rig):
    return lambda *sinks, **parts: rig(*sinks, feed=HistoryFeed(), **parts)


def told(rig):
    return [(m.payload, m.origin) for m in rig.transport.taken if m.kind == "trade"]


async def test_what_was_fetched_is_archived_and_published_as_backfill(rig, storage, transport):
    rig = rig(storage, transport)
    live = rig.deliver(b"1")
    page = fetch(rig, b"2 3")
    assert [batch.stream for batch in storage.batches] == [Stream.LIVE, Stream.REST]
    assert told(rig) == [(b"1", ""), (b"2", "backfill"), (b"3", "backfill")]
    assert [m.ts for m in transport.taken] == [live.first_ts, page.first_ts, page.first_ts]
    assert [m.msg_id for m in transport.taken] == ["toy:trade:1", "toy:trade:2", "toy:trade:3"]


async def test_a_fetched_record_that_was_live_is_not_published_again(rig, storage, transport):
    rig = rig(storage, transport)
    rig.deliver(b"1", b"2")
    fetch(rig, b"1 9 2")
    assert told(rig) == [(b"1", ""), (b"2", ""), (b"9", "backfill")]
    assert rig.metrics.duplicates == 2


async def test_pages_that_overlap_publish_each_record_once(rig, storage, transport):
    rig = rig(storage, transport)
    fetch(rig, b"1 2")
    fetch(rig, b"2 3")
    assert [payload for payload, _ in told(rig)] == [b"1", b"2", b"3"]


async def test_a_page_that_names_a_record_twice_publishes_it_once_a_place(rig, transport):
    rig = rig(None, transport)
    fetch(rig, b"1 1")
    assert len({m.msg_id for m in transport.taken}) == 1


async def test_the_age_of_messages_leaves_out_what_was_fetched(rig, storage, transport):
    rig = rig(storage, transport)
    fetch(rig, b"1")
    assert sum(rig.metrics.message_age.buckets) == 0
    rig.deliver(b"2")
    assert sum(rig.metrics.message_age.buckets) == 1


async def test_the_cursor_stands_before_a_page_until_all_of_it_is_acknowledged(
    rig, storage, transport
):
    rig = rig(storage, transport)
    live = rig.deliver(b"1")
    page = fetch(rig, b"2 3")
    transport.acknowledge(2)
    await rig.pipeline.durability.save_place()
    assert live.last_ts <= int(storage.values["cursor"]) < page.first_ts
    transport.acknowledge()
    await rig.pipeline.durability.save_place()
    assert int(storage.values["cursor"]) == page.first_ts


async def test_pages_of_an_outage_reach_the_bus_from_the_log_in_their_place(
    running, rig, storage, transport
):
    rig = rig(storage, transport)
    async with running(rig):
        transport.online = False
        rig.deliver(b"1")
        fetch(rig, b"2 3 1")
        rig.deliver(b"4")
        rig.pipeline.publisher.fall_behind()
        fetch(rig, b"5 4 2")
        rig.deliver(b"6")
        transport.online = True
        rig.pipeline.on_room()
        await until(lambda: rig.pipeline.publisher.behind_from is None)
    assert told(rig) == [
        (b"1", "catchup"),
        (b"2", "backfill"),
        (b"3", "backfill"),
        (b"4", "catchup"),
        (b"5", "backfill"),
        (b"6", "catchup"),
    ]


async def test_a_page_that_was_given_up_with_memory_is_published_from_the_log(
    running, rig, storage, transport
):
    rig = rig(storage, transport)
    transport.window = 1
    fetch(rig, b"1 2 3")
    transport.acknowledge()
    rig.pipeline.publisher.fall_behind()
    transport.window = 100
    async with running(rig):
        await until(lambda: rig.pipeline.publisher.behind_from is None)
    assert {payload for payload, _ in told(rig)} == {b"1", b"2", b"3"}


async def test_a_page_that_cannot_be_read_does_not_hold_up_the_log(running, rig, storage):
    storage.batches = [
        Batch(100, [b"1"]),
        Batch(101, [b"torn"], stream=Stream.REST),
        Batch(102, [b"2"]),
    ]
    rig = rig(storage, WindowTransport())
    rig.pipeline.publisher.resume_from(99)
    rig.pipeline.archiver.head_ts = 102
    async with running(rig):
        await until(lambda: rig.pipeline.publisher.behind_from is None)
    assert [payload for payload, _ in told(rig)] == [b"1", b"2"]


def subscribe(rig, channel="trade", session="s"):
    rig.pipeline.report("session_opened", session=session, conn=0)
    rig.pipeline.report("subscribed", session=session, conn=0, channel=channel, sid=1)


async def test_after_a_restart_the_end_of_the_log_is_remembered(rig, storage):
    before = rig(storage, WindowTransport())
    subscribe(before)
    before.deliver(b"old")
    before.clock.advance(60)
    before.deliver(b"1")
    fetch(before, b"2")
    before.transport.acknowledge()
    await before.pipeline.durability.save_place()

    after = rig(storage, WindowTransport())
    after.clock.advance(3_600)
    await after.pipeline.recover(await storage.open())
    fetch(after, b"1 2 3")
    assert told(after) == [(b"3", "backfill")]


async def test_a_page_that_the_last_run_did_not_publish_is_published_after_a_restart(
    running, rig, storage
):
    before = rig(storage, WindowTransport())
    before.deliver(b"1")
    before.transport.acknowledge()
    await before.pipeline.durability.save_place()
    before.transport.online = False
    fetch(before, b"2 3")

    after = rig(storage, WindowTransport())
    after.clock.advance(3_600)
    await after.pipeline.recover(await storage.open())
    async with running(after):
        await until(lambda: after.pipeline.publisher.behind_from is None)
    assert told(after) == [(b"2", "backfill"), (b"3", "backfill")]


async def test_what_a_repair_cut_short_will_fetch_again_is_remembered(rig, storage):
    before = rig(storage, WindowTransport())
    subscribe(before)
    before.pipeline.report("session_closed", session="s", conn=0, cause="cut")
    subscribe(before, session="s2")
    before.deliver(b"1")
    before.clock.advance(120)
    before.deliver(b"2")

    storage.values["cursor"] = str(await storage.open()).encode()
    after = rig(storage, WindowTransport())
    after.clock.advance(3_600)
    covered = await after.pipeline.recover(await storage.open())
    assert covered["trade"] < storage.batches[0].first_ts
    fetch(after, b"1 2 3")
    assert told(after) == [(b"3", "backfill")]


async def test_what_the_bus_had_before_the_cursor_is_not_fetched_into_it_again(
    running, rig, storage
):
    first = rig(storage, WindowTransport())
    subscribe(first)
    had = first.deliver(b"1", b"2")
    first.clock.advance(1)
    fetch(first, b"1 2 3")  # the bus went away before it took the page
    for number in range(90):
        first.clock.advance(1)
        first.deliver(b"%d" % (10 + number))
    storage.values["cursor"] = str(had.last_ts).encode()
    second = rig(storage, WindowTransport())
    second.clock.advance(3_600)
    await second.pipeline.recover(await storage.open())
    async with running(second):
        await until(lambda: second.pipeline.publisher.behind_from is None)
    assert [payload for payload, origin in told(second) if origin == "backfill"] == [b"3"]


async def test_after_a_restart_what_was_sent_behind_frames_read_late_is_missed_too(
    rig, storage, monkeypatch
):
    before = rig(storage)
    subscribe(before)
    sent_ns = before.receipt.now_ns()
    before.clock.advance(9)
    last = before.deliver(b"1")
    after = rig(storage)
    monkeypatch.setattr(
        after.feed,
        "parse",
        lambda data, session: Parsed("trade", (Trade("A", sent_ns, 1, 1, Side.BUY, "1"),)),
    )
    covered = await after.pipeline.recover(await storage.open())
    assert covered["trade"] == sent_ns < last.last_ts


async def test_a_feed_that_fetches_nothing_of_a_channel_has_nothing_to_remember(
    rig, storage, monkeypatch
):
    before = rig(storage, WindowTransport())
    subscribe(before, "ticker")
    before.deliver(b"1")
    after = rig(storage, WindowTransport())
    monkeypatch.setattr(storage, "read", lambda after, upto: pytest.fail("read"))
    assert "ticker" in await after.pipeline.recover(await storage.open())


async def test_an_end_of_the_log_that_cannot_be_read_stops_no_start(rig, storage, monkeypatch):
    before = rig(storage)
    subscribe(before)
    before.deliver(b"1")
    storage.values["cursor"] = str(await storage.open()).encode()
    after = rig(storage, WindowTransport())
    monkeypatch.setattr(storage, "read", lambda after, upto: 1 / 0)
    await after.pipeline.recover(await storage.open())
    after.deliver(b"2")
    assert told(after) == [(b"2", "")]


# ── what is remembered ───────────────────────────────────────────────────────────


def message(name, ts=1):
    return Message("trade", "A", b"", name, ts)


def test_what_is_remembered_is_bounded():
    seen = Seen(kept=3)
    for n in range(10):
        seen.note(f"live-{n}")
        seen.note_fetched(f"fetched-{n}", n)
    live = [message(f"live-{n}", 100) for n in range(10)]
    fetched = [message(f"fetched-{n}", 100) for n in range(10)]
    assert [m.msg_id for m in seen.fresh(live)] == [f"live-{n}" for n in range(7)]
    seen = Seen(kept=3)
    for n in range(10):
        seen.note_fetched(f"fetched-{n}", n)
    assert [m.msg_id for m in seen.fresh(fetched)][:7] == [f"fetched-{n}" for n in range(7)]


def test_a_frame_read_again_has_the_same_fresh_records():
    seen = Seen()
    first, again = message("a", 5), message("a", 5)
    assert seen.fresh([first]) == [first]
    assert seen.fresh([again]) == [again]
    assert seen.fresh([message("a", 6)]) == []


def test_records_without_a_key_are_never_taken_for_seen():
    class Echo:
        label = "echo:v1"
        kinds = frozenset({"trade"})

        def encode(self, record, ts):
            return b""

    encoding = Encoding(Echo(), "toy", "c0ffee", Metrics())
    said = [Parsed("t", (trade(""),))]
    for ts in (1, 2):
        batch = Batch(ts, [b""], stream=Stream.REST)
        assert len(encoding.messages(batch, said, "backfill")) == 1
    assert len(encoding.messages(Batch(3, [b""]), said)) == 1


async def test_a_storage_of_the_tests_yields_every_stream_in_order_of_time():
    storage = MemoryStorage()
    storage.append(Batch(10, [b"a", b"b"]))
    storage.append(Batch(12, [b"page"], stream=Stream.REST))
    storage.append(Batch(13, [b"c"], conn=1))
    read = [batch async for batch in storage.read(10, 13)]
    assert [(b.first_ts, b.stream, b.conn) for b in read] == [
        (11, Stream.LIVE, 0),
        (12, Stream.REST, 0),
        (13, Stream.LIVE, 1),
    ]
    assert await storage.open() == 13
