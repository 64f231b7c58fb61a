"""A cursor that is ahead of the archive: right up to its end, or never true. The bus knows."""

import pytest

from ssmd_core.clock import NS
from ssmd_core.testing import until
from ssmd_core.testing.fakes import WindowTransport

pytestmark = pytest.mark.anyio

AHEAD = [1, 200_000_000, 10**18]
"""A power cut takes a fifth of a second; what is further ahead was never true."""


def filled(rig, storage, *frames):
    """Archive frames a second apart; return the messages that a bus would have got."""
    before = rig(storage, WindowTransport())
    for frame in frames:
        before.deliver(frame)
        before.clock.advance(1)
    return before.transport.taken


async def restarted(rig, storage, held):
    after = rig(storage, WindowTransport())
    after.transport.held = held
    after.clock.advance(60)
    await after.pipeline.recover(await storage.open())
    return after


def live(rig):
    return lambda: not rig.pipeline.catchup.seeking and rig.pipeline.publisher.behind_from is None


@pytest.mark.parametrize("ahead", AHEAD)
async def test_what_the_bus_has_not_is_published_whatever_a_cursor_ahead_says(
    running, rig, storage, ahead
):
    frames = [b"%d" % n for n in range(20)]
    taken = filled(rig, storage, *frames)
    storage.values["cursor"] = str(taken[-1].ts + ahead).encode()
    after = await restarted(rig, storage, taken[:14])
    async with running(after):
        after.deliver(b"new")
        await until(live(after))
        after.transport.acknowledge()
        await after.pipeline.durability.save_place()
    assert after.trades() == [*frames[14:], b"new"]
    assert int(storage.values["cursor"]) == after.pipeline.head_ts
    told, found = after.events()
    assert told["event"] == "sink_failed"
    assert f"is {ahead / NS:.3f} s ahead of the archive's end" in told["reason"]
    assert found["event"] == "sink_recovered"


async def test_what_a_power_cut_took_of_the_archive_alone_is_not_published_again(
    running, rig, storage
):
    taken = filled(rig, storage, b"1", b"2", b"3", b"lost")
    storage.values["cursor"] = str(taken[-1].ts).encode()
    storage.batches.pop()
    after = await restarted(rig, storage, taken)
    async with running(after):
        after.deliver(b"new")
        await until(live(after))
    assert after.trades() == [b"new"]


async def test_beside_an_empty_archive_a_cursor_means_nothing(running, rig, storage):
    storage.values["cursor"] = str(10**18 * 9).encode()
    after = await restarted(rig, storage, [])
    async with running(after):
        after.deliver(b"new")
        await until(live(after))
    assert after.trades() == [b"new"]
    assert not after.events()


async def test_a_spell_in_which_the_cursor_cannot_be_kept_is_told_once(
    rig, storage, transport, caplog
):
    rig = rig(storage, transport)
    for spell in range(2):
        for n in range(3):
            rig.deliver(b"%d" % n)
            transport.acknowledge()
            storage.failing = "ENOSPC"
            await rig.pipeline.durability.save_place()
            storage.failing = ""
        assert int(storage.values.get("cursor", 0)) < rig.pipeline.head_ts
        await rig.pipeline.durability.save_place()
        assert caplog.messages.count("the cursor could not be kept") == spell + 1
    assert int(storage.values["cursor"]) == rig.pipeline.head_ts
