"""When the archive refuses frames for long: drop and declare, or hold the venue back."""

import pytest

from ssmd_core.testing.fakes import WindowTransport

pytestmark = pytest.mark.anyio

FRAME = b"x" * 936
"""With what it costs beside its data, 1,000 bytes."""


def bounded(rig, frames=4):
    rig.pipeline.archiver._limit = frames * 1_000
    return rig


@pytest.mark.parametrize("transport", [None, WindowTransport()])
async def test_reading_pauses_at_the_bound_and_goes_on_when_space_returns(rig, storage, transport):
    rig = bounded(rig(storage, transport, pause_on_archive_failure=True))
    storage.failing = "no space left"
    for _ in range(3):
        rig.deliver(FRAME)
    assert rig.held_back == []
    rig.deliver(FRAME)
    assert rig.held_back == [True]
    assert rig.pipeline.pressure.paused
    rig.deliver(FRAME)  # was on its way
    rig.clock.advance(5)
    rig.pipeline.pressure.watch()
    assert rig.held_back == [True]
    storage.failing = ""
    rig.pipeline.ledger.flush()
    rig.pipeline.archiver.retry()
    rig.pipeline.pressure.watch()
    assert rig.held_back == [True, False]
    assert len(storage.frames) == 5
    assert rig.pipeline.lost == 0
    told = [e for e in rig.events() if e["event"] in {"paused", "resumed"}]
    assert [e["event"] for e in told] == ["paused", "resumed"]
    assert "no space left" in told[0]["reason"]


async def test_a_short_pause_is_not_declared(rig, storage):
    rig = bounded(rig(storage, pause_on_archive_failure=True))
    storage.failing = "no space left"
    for _ in range(4):
        rig.deliver(FRAME)
    rig.pipeline.pressure.watch()
    storage.failing = ""
    rig.pipeline.archiver.retry()
    rig.pipeline.pressure.watch()
    assert rig.held_back == [True, False]
    assert "paused" not in [e["event"] for e in rig.events()]


async def test_memory_is_bounded_even_where_a_pause_is_not_heeded(rig, storage):
    rig = bounded(rig(storage, pause_on_archive_failure=True))
    storage.failing = "no space left"
    for _ in range(50):
        rig.deliver(FRAME)
    assert rig.pipeline.archiver.held == 5
    assert rig.pipeline.lost == 45


async def test_without_the_policy_reading_does_not_pause_for_the_archive(rig, storage, transport):
    rig = bounded(rig(storage, transport))
    storage.failing = "no space left"
    for _ in range(20):
        rig.deliver(FRAME)
    assert rig.held_back == []
    assert rig.pipeline.archiver.held == 4


async def test_frames_that_the_archive_lacks_and_the_bus_has_are_not_lost(rig, storage, transport):
    rig = bounded(rig(storage, transport), frames=2)
    storage.failing = "no space left"
    for n in range(4):
        rig.deliver(b"%d" % n + FRAME[1:])
    transport.acknowledge()  # too late for the first two, which are dropped
    for n in range(4, 6):
        rig.deliver(b"%d" % n + FRAME[1:])
    assert rig.metrics.dropped == {"archive_failed": 4}
    storage.failing = ""
    rig.pipeline.archiver.retry()
    (dropped,) = [e for e in rig.events() if e["event"] == "dropped"]
    assert (dropped["frames"], dropped["acknowledged"]) == (4, 2)
    assert rig.pipeline.lost == 2


async def test_a_frame_is_acknowledged_only_once_the_bus_said_so(rig, storage, transport):
    rig = bounded(rig(storage, transport), frames=1)
    storage.failing = "no space left"
    rig.deliver(FRAME)
    rig.deliver(FRAME)  # drops the first, which the bus has not acknowledged
    assert rig.pipeline.lost == 1
    transport.acknowledge()
    rig.deliver(FRAME)  # drops the second, which it has
    assert rig.pipeline.lost == 1
    assert await rig.pipeline.finish() == 2  # the last is with the bus, and not acknowledged


async def test_frames_of_which_nothing_is_published_are_lost_with_the_archive(
    rig, storage, transport
):
    rig = bounded(rig(storage, transport), frames=1)
    rig.feed.kinds = frozenset()
    rig.pipeline._parts.encoding._kinds = frozenset()
    storage.failing = "no space left"
    rig.deliver(FRAME)
    rig.deliver(FRAME)
    transport.acknowledge()
    assert rig.pipeline.lost == 1


async def test_frames_that_wait_for_the_log_are_lost_with_the_archive(rig, storage, transport):
    rig = bounded(rig(storage, transport), frames=1)
    transport.online = False
    storage.failing = "no space left"
    rig.deliver(FRAME)
    rig.pipeline.publisher.fall_behind()
    transport.online = True
    rig.deliver(FRAME)
    assert rig.pipeline.lost == 1
