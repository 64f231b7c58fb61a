"""A wall clock that is set back, jumps ahead, or passes midnight under load."""

import json
import time
from datetime import UTC, datetime, timedelta

import pytest

from rig.conservation import Books, judge_archive, judge_bus
from rig.venues import live_recording
from ssmd_core.testing import LoopbackVenue, until
from ssmd_kalshi.venue import KalshiFace

pytestmark = pytest.mark.anyio


@pytest.fixture
def face(key):
    """A venue that does not mind what our clock says when we sign."""
    return KalshiFace({key.key_id: key.public}, tolerance_seconds=1e6)


def seconds_to_midnight():
    now = datetime.now(UTC)
    tomorrow = (now + timedelta(days=1)).replace(hour=0, minute=0, second=0, microsecond=0)
    return (tomorrow - now).total_seconds()


async def test_receipt_times_never_go_back_when_the_clock_is_set_back_and_forth(
    program, archive, yaml, face
):
    async with LoopbackVenue(live_recording(1_000), face) as venue:
        run = program().on_faulty_ground(archive.path)
        run.write(yaml.feed.format(endpoint=venue.url), yaml.file.format(path=archive.path))
        await run.start().ready()
        for offset in (-5, 3, -3600, 0):
            before = await run.metric("archived_total")
            run.fault("clock", offset)
            await run.counts("archived_total", before + 1_000)
        venue.silence()
        assert await run.stop() == 0, run.log()
    books = judge_archive(archive.path, venue)
    assert books.events("clock_stepped")
    assert await run.verify(archive.path) == 0, run.log()


async def test_midnight_under_load_puts_every_frame_into_the_file_of_its_day(
    program, archive, yaml, face, bus
):
    await bus.add_stream()
    async with LoopbackVenue(live_recording(2_000), face) as venue:
        run = program().on_faulty_ground(archive.path)
        both = yaml.both.format(url=bus.url, path=archive.path)
        run.write(yaml.feed.format(endpoint=venue.url), both)
        await run.start().ready()
        run.fault("clock", seconds_to_midnight() - 1.5)
        await until(lambda: len(list(archive.path.glob("*/kalshi.jsonl"))) == 2, 20)
        before = await run.metric("archived_total")
        await run.counts("archived_total", before + 1_000)
        venue.silence()
        assert await run.stop() == 0, run.log()
    books = judge_archive(archive.path, venue)
    assert len({line.file for line in books.lines}) == 2
    (carried,) = books.events("session_carried")
    assert carried["subscriptions"] == ["ticker", "trade"]
    assert books.events("rotated")
    judge_bus(books, await bus.messages())
    assert await run.verify(archive.path) == 0, run.log()


async def test_a_leap_of_a_day_while_stopped_opens_a_new_day_and_tells_the_hole(
    program, archive, yaml, face
):
    async with LoopbackVenue(live_recording(1_000), face) as venue:
        run = program().on_faulty_ground(archive.path)
        run.write(yaml.feed.format(endpoint=venue.url), yaml.file.format(path=archive.path))
        for offset in (0, 86_400):
            run.fault("clock", offset)
            await run.start().ready()
            before = await run.metric("archived_total")
            await run.counts("archived_total", before + 500)
            assert await run.stop() == 0, run.log()
    books = judge_archive(archive.path, venue)
    assert len({line.file[:10] for line in books.lines}) == 2
    assert await run.verify(archive.path) == 0, run.log()


async def test_a_start_with_a_clock_behind_the_archive_goes_on_above_it(
    program, archive, yaml, face
):
    async with LoopbackVenue(live_recording(1_000), face) as venue:
        run = program().on_faulty_ground(archive.path)
        run.write(yaml.feed.format(endpoint=venue.url), yaml.file.format(path=archive.path))
        for offset in (0, -7_200):
            run.fault("clock", offset)
            await run.start().ready()
            before = await run.metric("archived_total")
            await run.counts("archived_total", before + 500)
            assert await run.stop() == 0, run.log()
    judge_archive(archive.path, venue)
    last = json.loads(archive.lines()[-1])["ts"]
    assert last < datetime.fromtimestamp(time.time() + 60, UTC).isoformat()
    assert Books(archive.path).events("session_opened")
