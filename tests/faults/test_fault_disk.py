"""A disk that is full, fails, loses its directory or turns read-only under a running connector."""

import errno
import os
import shutil
import subprocess

import anyio
import pytest

from rig.conservation import judge_archive, judge_bus
from rig.venues import live_recording
from ssmd_core.testing import LoopbackVenue, until

pytestmark = pytest.mark.anyio

soak = [pytest.mark.soak, pytest.mark.timeout(600)]
SECONDS = [3, pytest.param(30, marks=soak)]
FIT_IN_MEMORY = 15_000
"""Frames: those of seconds at full rate, or of half a minute at a slower one."""


@pytest.fixture
def small_disk(tmp_path):
    """A small file system that holds what the long form brings; None where mounting is denied."""
    place = tmp_path / "small"
    place.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=64m", "ssmd", str(place)]
    done = subprocess.run(command, capture_output=True, check=False)
    if done.returncode:
        yield None
        return
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


async def takes_data(run, seconds=30):
    """Wait until it is ready again."""

    async def ready():
        return (await run.get("/ready")).status_code == 200

    await until(ready, seconds)


@pytest.mark.parametrize("seconds", SECONDS)
async def test_a_disk_that_is_really_full_is_waited_for_and_nothing_is_torn(
    seconds, program, archive, yaml, face, small_disk
):
    if small_disk is None:
        pytest.skip("no mount without root; the next test fills the disk by injection")
    archive.path = small_disk / "data"
    async with LoopbackVenue(live_recording(2_000), face) as venue:
        run = program()
        run.write(yaml.feed.format(endpoint=venue.url), yaml.file.format(path=archive.path))
        await run.start().ready()
        ballast = small_disk / "ballast"
        with ballast.open("wb", buffering=0) as file:
            while True:
                try:
                    file.write(b"\0" * 65_536)
                except OSError:
                    break
        await run.says("No space left")
        assert (await run.get("/health")).status_code == 200
        await anyio.sleep(seconds)
        assert run.process.poll() is None, run.log()
        ballast.unlink()
        await takes_data(run)
        venue.silence()
        code = await run.stop()
    books = judge_archive(archive.path, venue)
    assert code == (1 if books.dropped("storage") else 0)
    assert books.events("sink_failed")
    assert books.events("sink_recovered")
    assert await run.verify(archive.path) == 0, run.log()


@pytest.mark.parametrize("seconds", SECONDS)
@pytest.mark.parametrize(("call", "number"), [("write", "ENOSPC"), ("write", "EIO")])
async def test_writes_that_fail_are_held_in_memory_and_written_when_they_succeed_again(
    call, number, seconds, program, archive, yaml, face, bus
):
    await bus.add_stream()
    rate = min(2_000, FIT_IN_MEMORY // seconds)
    async with LoopbackVenue(live_recording(rate), face) as venue:
        run = program().on_faulty_ground(archive.path)
        both = yaml.both.format(url=bus.url, path=archive.path)
        run.write(yaml.feed.format(endpoint=venue.url), both)
        await run.start().ready()
        run.fault(call, number)
        await run.says(os.strerror(getattr(errno, number)))
        await anyio.sleep(seconds)
        assert (await run.get("/health")).status_code == 200
        run.mend(call)
        await takes_data(run)
        venue.silence()
        assert await run.stop() == 0, run.log()
    books = judge_archive(archive.path, venue)
    assert books.dropped("storage") == 0, "so many frames fit in memory"
    judge_bus(books, await bus.messages())
    assert await run.verify(archive.path, "--bus", bus.url) == 0, run.log()


async def test_more_frames_than_memory_holds_are_dropped_and_declared_to_the_last_one(
    program, archive, yaml, face
):
    async with LoopbackVenue(live_recording(None), face) as venue:
        run = program().on_faulty_ground(archive.path)
        run.write(yaml.feed.format(endpoint=venue.url), yaml.file.format(path=archive.path))
        await run.start().ready()
        run.fault("write", "ENOSPC")
        await run.counts("dropped_total", 20_000, 60)
        venue.silence()
        run.mend("write")
        await takes_data(run)
        assert await run.stop() == 1, run.log()
    books = judge_archive(archive.path, venue)
    assert books.dropped("storage") >= 20_000
    assert await run.verify(archive.path) == 0, run.log()


@pytest.mark.parametrize("call", ["fdatasync", "fsync"])
async def test_a_sync_that_fails_is_told_and_the_run_goes_on(call, program, archive, yaml, face):
    async with LoopbackVenue(live_recording(1_000), face) as venue:
        run = program().on_faulty_ground(archive.path)
        run.write(yaml.feed.format(endpoint=venue.url), yaml.file.format(path=archive.path))
        if call == "fsync":
            await run.start().ready()
            run.fault(call, "EIO")
            shutil.rmtree(archive.path / archive.lines()[0][7:17].decode())
        else:
            await run.start().ready()
            run.fault(call, "EIO")
        await run.says("Input/output error")
        run.mend(call)
        await takes_data(run)
        venue.silence()
        await run.stop()
    assert archive.ledger("sink_failed")


async def test_a_directory_that_is_removed_is_made_again_and_what_was_in_it_is_not_claimed(
    program, archive, yaml, face
):
    async with LoopbackVenue(live_recording(1_000), face) as venue:
        run = program()
        run.write(yaml.feed.format(endpoint=venue.url), yaml.file.format(path=archive.path))
        await run.start().ready()
        await run.counts("archived_total", 500)
        (day,) = (each for each in archive.path.iterdir() if each.is_dir())
        shutil.rmtree(day)
        await until(lambda: len(archive.lines()) > 100, 20)
        await takes_data(run)
        venue.silence()
        await run.stop()
    assert archive.ledger("sink_failed")
    assert await run.verify(archive.path) == 1, "frames are gone that the session counted"


async def test_a_disk_that_turns_read_only_is_waited_for(program, archive, yaml, face):
    # A mount with files open for writing refuses to turn, so the calls are made to fail.
    async with LoopbackVenue(live_recording(1_000), face) as venue:
        run = program().on_faulty_ground(archive.path)
        run.write(yaml.feed.format(endpoint=venue.url), yaml.file.format(path=archive.path))
        await run.start().ready()
        await run.counts("archived_total", 500)
        for call in ("write", "open"):
            run.fault(call, "EROFS")
        await run.says("Read-only file system")
        for call in ("write", "open"):
            run.mend(call)
        await takes_data(run)
        venue.silence()
        assert await run.stop() == 0, run.log()
    judge_archive(archive.path, venue)
