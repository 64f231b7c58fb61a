"""kill -9 with a bus that forgets ids at once: what a real restart knows without its memory."""

import signal

import anyio
import pytest

from rig.fixtures import *  # noqa: F403  the program, a bus and a venue
from rig.venues import live_recording
from ssmd_core.testing import LoopbackVenue

pytestmark = pytest.mark.anyio

FORGETS_SECONDS = 0.1
"""The shortest duplicate window that a stream may have."""


async def killed(run):
    """Kill it while records are under way, and wait until the bus has forgotten their ids."""
    await run.start().ready()
    await run.counts("published_total", 500)
    run.process.send_signal(signal.SIGKILL)
    await run.wait()
    await anyio.sleep(5 * FORGETS_SECONDS)


def ids(messages):
    return [message.headers["Nats-Msg-Id"] for message in messages]


@pytest.mark.parametrize("cursor", ["as it is", "damaged", "gone"])
async def test_after_a_kill_every_record_is_on_the_bus_once(
    program, archive, yaml, face, bus, cursor
):
    await bus.add_stream(duplicate_window=FORGETS_SECONDS)
    async with LoopbackVenue(live_recording(1_000), face) as venue:
        run = program()
        both = yaml.both.format(url=bus.url, path=archive.path)
        run.write(yaml.feed.format(endpoint=venue.url), both)
        await killed(run)
        if cursor == "damaged":
            (archive.path / ".kalshi.cursor").write_bytes(b"\x00")
        if cursor == "gone":
            (archive.path / ".kalshi.cursor").unlink()
        await run.start().ready()
        await run.counts("archived_total", 500)
        venue.silence()
        assert await run.stop() == 0
    records = await bus.records()
    assert len(records) == archive.publishable()
    assert len(set(ids(records))) == len(records)
    crashed = [e for e in archive.ledger("session_closed") if e["cause"] == "crashed"]
    assert [e["session"] for e in crashed] == [archive.ledger("session_opened")[0]["session"]]
    opened = archive.ledger("session_opened")[1]
    assert (opened["environment"], opened["plugin"]) == ("prod", "ssmd-kalshi:kalshi")
    if cursor == "damaged":
        assert (archive.path / ".kalshi.cursor-damaged").read_bytes() == b"\x00"
    if cursor != "as it is":
        assert archive.ledger("sink_recovered")
