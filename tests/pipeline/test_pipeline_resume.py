"""Where publishing goes on after a start, by the cursor and by what the bus holds."""

import anyio
import anyio.lowlevel
import pytest

from ssmd_core.clock import NS, iso
from ssmd_core.errors import StorageFailed
from ssmd_core.testing import until
from ssmd_core.testing.fakes import WindowTransport

pytestmark = pytest.mark.anyio


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr("ssmd_core.pipeline.catchup._RETRY_SECONDS", 0.01)


def filled(rig, storage, *frames):
    """Run a connector that publishes ``frames`` one by one, and return what the bus was given."""
    before = rig(storage, WindowTransport())
    for frame in frames:
        before.deliver(frame)
        before.clock.advance(1)
    return before.transport.taken


async def restarted(rig, storage, held, cursor):
    storage.values["cursor"] = cursor if isinstance(cursor, bytes) else str(cursor).encode()
    after = rig(storage, WindowTransport())
    after.transport.held = held
    after.clock.advance(3_600)
    await after.pipeline.recover(await storage.open())
    return after


def kept(storage):
    return int(storage.values["cursor"])


async def caught_up(rig):
    await until(lambda: rig.pipeline.publisher.behind_from is None)


async def test_what_the_bus_holds_beyond_the_cursor_is_not_published_again(running, rig, storage):
    taken = filled(rig, storage, b"1", b"2", b"3", b"4")
    after = await restarted(rig, storage, taken[:3], taken[0].ts)
    async with running(after):
        await caught_up(after)
        after.transport.acknowledge()
        await after.pipeline.durability.save_place()
        assert kept(storage) == after.pipeline.head_ts
        after.deliver(b"5")
    assert after.trades() == [b"4", b"5"]
    assert after.metrics.duplicates == 2


async def test_a_hole_in_what_the_bus_holds_is_filled(running, rig, storage):
    taken = filled(rig, storage, b"1", b"2", b"3", b"4")
    after = await restarted(rig, storage, [taken[1], taken[3]], taken[0].ts)
    async with running(after):
        await caught_up(after)
    assert after.trades() == [b"3"]


async def test_ledger_lines_that_the_bus_holds_are_not_published_again(running, rig, storage):
    before = rig(storage, WindowTransport())
    first = before.deliver(b"1")
    before.pipeline.report("gap", session="s", conn=0, channel="trade", first=1, last=2)
    after = await restarted(rig, storage, before.transport.taken, first.first_ts - 1)
    async with running(after):
        await caught_up(after)
    assert after.transport.taken == []


async def test_a_bus_that_cannot_tell_is_given_everything_since_the_cursor(running, rig, storage):
    taken = filled(rig, storage, b"1", b"2", b"3")
    after = await restarted(rig, storage, None, taken[0].ts)
    async with running(after):
        await caught_up(after)
    assert after.trades() == [b"2", b"3"]


async def test_nothing_of_the_log_is_published_before_the_bus_was_asked(running, rig, storage):
    taken = filled(rig, storage, b"1", b"2", b"3")
    after = await restarted(rig, storage, taken[:2], taken[0].ts)
    after.transport.online = False
    async with running(after):
        after.deliver(b"4")
        await anyio.wait_all_tasks_blocked()
        assert after.trades() == []
        after.transport.online = True
        after.pipeline.on_room()
        await caught_up(after)
    assert after.trades() == [b"3", b"4"]


async def test_a_bus_that_does_not_answer_is_not_waited_for_for_ever(
    running, rig, storage, monkeypatch
):
    monkeypatch.setattr("ssmd_core.pipeline.resume._ASK_SECONDS", 0.01)
    taken = filled(rig, storage, b"1", b"2")
    after = await restarted(rig, storage, taken, taken[0].ts)
    monkeypatch.setattr(after.transport, "stored", lambda after: anyio.sleep_forever())
    async with running(after):
        await caught_up(after)
    assert after.trades() == [b"2"]


async def test_a_bus_that_goes_away_while_it_is_asked_is_asked_again(
    running, rig, storage, monkeypatch
):
    taken = filled(rig, storage, b"1", b"2", b"3")
    after = await restarted(rig, storage, taken[:2], taken[0].ts)
    stored, asked = after.transport.stored, []

    async def interrupted(ts):
        asked.append(ts)
        if len(asked) == 1:
            after.transport.online = False
            return None
        return await stored(ts)

    monkeypatch.setattr(after.transport, "stored", interrupted)
    async with running(after):
        await until(lambda: asked)
        assert after.trades() == []
        after.transport.online = True
        await caught_up(after)
    assert after.trades() == [b"3"]


async def test_a_transport_that_fails_to_tell_is_given_everything(running, rig, storage):
    taken = filled(rig, storage, b"1", b"2")
    after = await restarted(rig, storage, taken, taken[0].ts)
    after.transport.stored = lambda after: 1 / 0
    async with running(after):
        await caught_up(after)
    assert after.trades() == [b"2"]


async def test_what_the_bus_was_found_to_hold_is_forgotten_once_passed(running, rig, storage):
    taken = filled(rig, storage, b"1", b"2", b"3")
    after = await restarted(rig, storage, taken, taken[0].ts)
    async with running(after):
        await caught_up(after)
    assert len(after.pipeline.catchup._known) == 0


# ── a cursor that is damaged ─────────────────────────────────────────────────────


DAMAGED = [b"", b"\x00garbage", b"17953272", b"-1795327200000000000", b"1_795_327_200_000_000_0"]


@pytest.mark.parametrize("damage", DAMAGED)
async def test_a_damaged_cursor_is_kept_and_its_place_found_on_the_bus(
    running, rig, storage, damage
):
    frames = [b"%d" % n for n in range(20)]
    taken = filled(rig, storage, *frames)
    after = await restarted(rig, storage, taken[:14], damage)
    assert storage.values["cursor-damaged"] == damage
    async with running(after):
        await caught_up(after)
        after.deliver(b"new")
    assert after.trades() == [*frames[14:], b"new"]
    told = after.events()
    assert [e["event"] for e in told] == ["sink_failed", "sink_recovered"]
    assert told[1]["resumed_from"] == iso(taken[13].ts - 5 * NS)


async def test_what_was_acknowledged_late_stands_a_little_before_the_end_and_is_published(
    running, rig, storage
):
    frames = [b"%d" % n for n in range(10)]
    taken = filled(rig, storage, *frames)
    held = [m for m in taken if m.payload != b"7"]
    after = await restarted(rig, storage, held, b"damaged")
    async with running(after):
        await caught_up(after)
    assert after.trades() == [b"7"]


@pytest.mark.parametrize("held", [None, []])
async def test_when_the_bus_cannot_tell_either_what_it_missed_is_declared(
    running, rig, storage, held
):
    filled(rig, storage, b"old")
    after = await restarted(rig, storage, held, b"damaged")
    async with running(after):
        after.deliver(b"new")
        await caught_up(after)
    assert after.trades() == [b"new"]
    told = after.events()
    assert [e["event"] for e in told] == ["sink_failed", "sink_failed"]
    assert "archive only" in told[1]["reason"]


# ── no cursor beside an archive that holds frames ────────────────────────────────


async def without_cursor(rig, storage, held):
    """Start over an archive whose cursor is gone."""
    storage.values.pop("cursor", None)
    after = rig(storage, WindowTransport())
    after.transport.held = held
    after.clock.advance(3_600)
    await after.pipeline.recover(await storage.open())
    return after


async def test_without_a_cursor_the_place_is_found_on_the_bus(running, rig, storage):
    frames = [b"%d" % n for n in range(20)]
    taken = filled(rig, storage, *frames)
    after = await without_cursor(rig, storage, taken[:14])
    async with running(after):
        await caught_up(after)
        after.deliver(b"new")
    assert after.trades() == [*frames[14:], b"new"]
    told = after.events()
    assert [e["event"] for e in told] == ["sink_failed", "sink_recovered"]
    assert "no cursor" in told[0]["reason"]
    assert told[1]["resumed_from"] == iso(taken[13].ts - 5 * NS)


async def test_without_a_cursor_nothing_is_decided_before_the_bus_is_there(running, rig, storage):
    taken = filled(rig, storage, b"1", b"2")
    after = await without_cursor(rig, storage, taken[:1])
    after.transport.online = False
    async with running(after):
        after.deliver(b"3")
        await anyio.wait_all_tasks_blocked()
        assert after.pipeline.catchup.seeking
        assert after.pipeline.acknowledged_ts() is None
        after.transport.online = True
        await caught_up(after)
    assert after.pipeline.catchup.seeking == ""
    assert after.trades() == [b"2", b"3"]


async def test_a_bus_that_holds_nothing_is_fed_from_here_on_and_the_ledger_says_so(
    running, rig, storage
):
    first = filled(rig, storage, b"old")[0]
    filled(rig, storage, b"older")
    after = await without_cursor(rig, storage, [])
    head_ts = storage.batches[-1].last_ts
    async with running(after):
        after.deliver(b"new")
        await caught_up(after)
        after.transport.acknowledge()
        await after.pipeline.durability.save_place()
    assert after.trades() == [b"new"]
    assert kept(storage) == after.pipeline.head_ts
    told = after.events()
    assert [e["event"] for e in told] == ["sink_failed", "sink_recovered"]
    assert told[1]["resumed_from"] == iso(head_ts)
    assert told[1]["archive_from"] == iso(first.ts)
    assert "ssmd replay" in told[1]["reason"]


async def test_where_an_archive_begins_that_cannot_be_read_is_not_told(
    running, rig, storage, monkeypatch
):
    filled(rig, storage, b"old")
    after = await without_cursor(rig, storage, [])
    with monkeypatch.context() as broken:
        broken.setattr(storage, "read", unreadable)
        async with running(after):
            await until(lambda: not after.pipeline.catchup.seeking)
    told = after.events()[-1]
    assert "archive_from" not in told
    assert "ssmd replay" in told["reason"]


async def unreadable(after, upto):
    raise StorageFailed("EIO")
    yield


async def test_without_a_cursor_a_bus_that_cannot_tell_is_asked_again_then_told_so(
    running, rig, storage, monkeypatch
):
    filled(rig, storage, b"old")
    after = await without_cursor(rig, storage, None)
    asked = []
    stored = after.transport.stored

    async def counting(ts):
        asked.append(ts)
        return await stored(ts)

    monkeypatch.setattr(after.transport, "stored", counting)
    async with running(after):
        after.deliver(b"new")
        await caught_up(after)
    assert asked[:5] == [None] * 5
    assert after.trades() == [b"new"]
    assert "archive only" in after.events()[-1]["reason"]


async def test_a_bus_that_was_not_asked_yet_is_owed_what_came_since_it_was_added(
    running, rig, storage
):
    filled(rig, storage, b"before")
    added = await without_cursor(rig, storage, [])
    added.transport.online = False
    added.deliver(b"1")
    assert await added.pipeline.finish() == 0
    assert storage.released == 0
    again = rig(storage, WindowTransport())
    again.transport.held = []
    again.clock.advance(7_200)
    await again.pipeline.recover(await storage.open())
    async with running(again):
        await caught_up(again)
        again.transport.acknowledge()
        await again.pipeline.durability.save_place()
    assert again.trades() == [b"1"]
    assert kept(storage) == again.pipeline.head_ts


async def test_while_nobody_knows_how_far_the_bus_came_no_cursor_is_kept(running, rig, storage):
    filled(rig, storage, b"old")
    after = await restarted(rig, storage, [], b"damaged")
    after.transport.online = False
    async with running(after):
        after.deliver(b"new")
        await after.pipeline.durability.save_place()
    assert await after.pipeline.finish() == 0
    assert storage.values["cursor"] == b"damaged"
    assert storage.released == 0


async def test_a_damaged_cursor_that_cannot_be_set_aside_stops_nothing(running, rig, storage):
    filled(rig, storage, b"old")
    storage.values["cursor"] = b"damaged"
    after = rig(storage, WindowTransport())
    storage.failing = "ENOSPC"
    await after.pipeline.recover(await storage.open())
    assert "cursor-damaged" not in storage.values


# ── what the storage may let go of ───────────────────────────────────────────────


async def test_the_storage_lets_go_of_what_the_bus_acknowledged(rig, storage, transport):
    rig = rig(storage, transport)
    batch = rig.deliver(b"1", b"2", b"3")
    transport.acknowledge(2)
    await rig.pipeline.durability.save_place()
    assert storage.released == batch.first_ts + 1 == kept(storage)


async def test_what_a_cursor_that_could_not_be_kept_does_not_name_is_not_let_go(
    rig, storage, transport
):
    rig = rig(storage, transport)
    rig.deliver(b"1")
    transport.acknowledge()
    storage.failing = "ENOSPC"
    await rig.pipeline.durability.save_place()
    assert storage.released == 0


async def test_without_a_bus_the_storage_may_let_go_of_everything(rig, storage):
    rig = rig(storage)
    batch = rig.deliver(b"1", b"2")
    await rig.pipeline.durability.save_place()
    assert storage.released == batch.last_ts


async def test_a_storage_that_fails_to_let_go_is_told_again(rig, storage, monkeypatch):
    rig = rig(storage)
    rig.deliver(b"1")
    with monkeypatch.context() as broken:
        broken.setattr(storage, "release", lambda upto: 1 / 0)
        await rig.pipeline.durability.save_place()
    await rig.pipeline.durability.save_place()
    assert storage.released == rig.pipeline.head_ts


async def test_the_storage_is_told_while_the_clockwork_runs(running, rig, storage):
    rig = rig(storage)
    batch = rig.deliver(b"1")
    async with running(rig):
        await until(lambda: storage.released == batch.last_ts)


# ── before a cursor was ever kept ────────────────────────────────────────────────


async def test_a_first_run_that_is_killed_at_once_owes_the_bus_what_it_archived(
    running, rig, storage
):
    first = rig(storage, WindowTransport(window=0))
    await first.pipeline.recover(await storage.open())
    first.deliver(b"1", b"2")
    second = rig(storage, WindowTransport())
    await second.pipeline.recover(await storage.open())
    async with running(second):
        await caught_up(second)
    assert second.trades() == [b"1", b"2"]
