"""kill -9 of the connector: what it had received is kept, and the bus has it once."""

import random

import anyio
import pytest

from rig.conservation import judge_archive, judge_bus
from rig.venues import live_recording
from ssmd_core.testing import LoopbackVenue

pytestmark = pytest.mark.anyio

LENGTHS = [3, pytest.param(20, marks=[pytest.mark.soak, pytest.mark.timeout(600)])]


@pytest.mark.parametrize("kills", LENGTHS)
async def test_a_killed_connector_loses_nothing_it_counted_and_publishes_the_rest_once(
    kills, program, archive, yaml, face, bus
):
    rng = random.Random(kills)
    await bus.add_stream()
    async with LoopbackVenue(live_recording(2_000), face) as venue:
        run = program()
        run.write(
            yaml.feed.format(endpoint=venue.url),
            yaml.both.format(url=bus.url, path=archive.path),
        )
        counted = 0
        for _ in range(kills):
            await run.start().ready()
            await anyio.sleep(rng.uniform(0.0, 0.8))
            counted += int(await run.metric("archived_total"))
            run.kill()
            assert len(archive.lines()) >= counted
            counted = len(archive.lines())
        await run.start().ready()
        venue.silence()
        assert await run.stop() == 0
    books = judge_archive(archive.path, venue, crashes=kills)
    assert len(books.events("session_closed")) == kills + 1
    judge_bus(books, await bus.messages())
    assert await run.verify(archive.path, "--bus", bus.url) == 0, run.log()
