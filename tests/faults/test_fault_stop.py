"""Stopping while the bus does not take, in a catch-up, at the very start, on a disk that hangs."""

import signal
import time
from contextlib import asynccontextmanager

import anyio
import pytest

from rig.conservation import judge_archive, judge_bus
from rig.loops import LOOP_NAMES
from rig.proxy import Proxy
from rig.venues import live_recording
from ssmd_core.testing import LoopbackVenue, until

pytestmark = pytest.mark.anyio

LIMIT_SECONDS = 4
SLACK_SECONDS = 1.5
"""What a process may need to end on a busy machine, once all is decided."""
soak = [pytest.mark.soak, pytest.mark.timeout(600)]
STARTS = [6, pytest.param(60, marks=soak)]
STOPS = [2, pytest.param(10, marks=soak)]


async def stop(run):
    """Stop and return the exit code; that may not take longer than it is allowed to."""
    began = time.monotonic()
    code = await run.stop()
    assert time.monotonic() - began < LIMIT_SECONDS + SLACK_SECONDS, run.log()
    return code


@asynccontextmanager
async def away(bus, proxy, how):
    """Take the bus away for a while."""
    match how:
        case "down":
            bus.kill()
        case "frozen":
            bus.freeze()
        case "deaf":
            proxy.swallow_down = True
    try:
        yield
    finally:
        match how:
            case "down":
                bus.start()
            case "frozen":
                bus.thaw()
            case "deaf":
                proxy.go_on()


def limited(program):
    return program(SSMD_SHUTDOWN_SECONDS=str(LIMIT_SECONDS))


async def test_with_an_archive_a_stop_loses_nothing_and_the_next_start_publishes_the_rest(
    program, archive, yaml, face, bus
):
    await bus.add_stream()
    async with LoopbackVenue(live_recording(2_000), face) as venue, Proxy(bus.port) as proxy:
        run = limited(program)
        both = yaml.both.format(url=f"nats://127.0.0.1:{proxy.port}", path=archive.path)
        run.write(yaml.feed.format(endpoint=venue.url), both)
        archived = published = 0
        for how in ("down", "frozen", "deaf"):
            await run.start().ready()
            async with away(bus, proxy, how):
                before = await run.metric("archived_total")
                await run.counts("archived_total", before + 1_000)
                assert await stop(run) == 0, run.log()
            end = run.last_words()
            assert end["event"] == "stopped cleanly", how
            # A start publishes what the stops before it left, too: the sums tell.
            archived += end["archived"]
            published += end["published"]
            assert published < archived, "the rest is for the next start"
        await run.start().ready()
        await run.caught_up()
        venue.silence()
        assert await stop(run) == 0, run.log()
    books = judge_archive(archive.path, venue)
    judge_bus(books, await bus.messages())
    assert await run.verify(archive.path, "--bus", bus.url) == 0, run.log()


@pytest.mark.parametrize("how", ["down", "frozen", "deaf"])
async def test_without_an_archive_a_stop_counts_what_the_bus_did_not_acknowledge(
    how, program, yaml, face, bus
):
    await bus.add_stream()
    async with LoopbackVenue(live_recording(2_000), face) as venue, Proxy(bus.port) as proxy:
        run = limited(program)
        nats = yaml.nats.format(url=f"nats://127.0.0.1:{proxy.port}")
        run.write(yaml.feed.format(endpoint=venue.url), nats)
        await run.start().ready()
        await run.counts("published_total", 500)
        async with away(bus, proxy, how):
            before = await run.metric("messages_total")
            await run.counts("messages_total", before + 1_000)
            assert await stop(run) == 1, run.log()
        end = run.last_words()
        assert end["event"] == "stopped with data lost"
        records = [m for m in await bus.messages() if m.subject != "prod.kalshi.status"]
        (client,) = venue.clients
        received = sum(
            b'"type":"ticker"' in frame or b'"type":"trade"' in frame
            for frame in client.sent[: end["received"]]
        )
    assert len({m.headers["Nats-Msg-Id"] for m in records}) == len(records)
    assert end["lost"] >= received - len(records), "what is not on the bus was counted"
    assert end["lost"] <= received - end["published"] + 20, "and little else, ledger lines apart"


@pytest.mark.parametrize("stops", STOPS)
async def test_a_stop_during_catch_up_goes_on_where_it_was_at_the_next_start(
    stops, program, archive, yaml, face, bus
):
    await bus.add_stream()
    async with LoopbackVenue(live_recording(None), face) as venue:
        run = limited(program)
        run.write(yaml.feed.format(endpoint=venue.url), yaml.file.format(path=archive.path))
        await run.start().ready()
        await run.counts("archived_total", 40_000 * stops, 180)
        assert await run.stop() == 0, run.log()
        # As if the bus had been away all the time.
        (archive.path / ".kalshi.cursor").write_text(str(10**18))
    async with LoopbackVenue(live_recording(500), face) as venue:
        slow = yaml.both.replace("\nstorage", "\n  window: 50\nstorage")
        both = slow.format(url=bus.url, path=archive.path)
        run.write(yaml.feed.format(endpoint=venue.url), both)
        interrupted = 0
        for _ in range(stops):
            await run.start().ready()
            if "being worked off" in (await run.get("/ready")).text:
                interrupted += 1
                await run.counts("published_total", 2_000)
            assert await stop(run) == 0, run.log()
        assert interrupted >= 2, "a fast machine needs fewer starts"
        await run.start().ready()
        await run.caught_up(240)
        venue.silence()
        assert await run.stop() == 0, run.log()
    books = judge_archive(archive.path)
    judge_bus(books, await bus.messages())
    assert await run.verify(archive.path, "--bus", bus.url) == 0, run.log()


@pytest.mark.parametrize("starts", STARTS)
async def test_a_stop_at_any_moment_of_the_start_is_a_clean_one(
    starts, program, archive, yaml, face, bus
):
    await bus.add_stream()
    async with LoopbackVenue(live_recording(2_000), face) as venue:
        run = limited(program)
        both = yaml.both.format(url=bus.url, path=archive.path)
        run.write(yaml.feed.format(endpoint=venue.url), both)
        for number in range(starts):
            size = len(run.log())
            run.start()
            await anyio.sleep(1.6 * number / starts)  # the instant is the input of the test
            code = await stop(run)
            if code == -signal.SIGTERM:
                assert len(run.log()) == size, "before the program had begun"
            else:
                assert code == 0, run.log()
        await run.start().ready()
        await run.counts("archived_total", 100)
        venue.silence()
        assert await stop(run) == 0, run.log()
    books = judge_archive(archive.path)
    judge_bus(books, await bus.messages())
    assert await run.verify(archive.path, "--bus", bus.url) == 0, run.log()


@pytest.mark.parametrize("loop", LOOP_NAMES)
async def test_a_second_signal_ends_it_at_once_and_the_next_start_tells_and_goes_on(
    program, archive, yaml, face, bus, loop
):
    await bus.add_stream()
    async with LoopbackVenue(live_recording(2_000), face) as venue, Proxy(bus.port) as proxy:
        run = program(SSMD_SHUTDOWN_SECONDS="20", SSMD_EVENT_LOOP=loop)
        both = yaml.both.format(url=f"nats://127.0.0.1:{proxy.port}", path=archive.path)
        run.write(yaml.feed.format(endpoint=venue.url), both)
        await run.start().ready()
        async with away(bus, proxy, "deaf"):
            before = await run.metric("archived_total")
            await run.counts("archived_total", before + 1_000)
            run.process.send_signal(signal.SIGTERM)
            await until(lambda: '"stopping"' in run.log())
            began = time.monotonic()
            assert await run.stop() == 1
            assert time.monotonic() - began < SLACK_SECONDS
        assert run.last_words()["event"] == "second signal, stopped at once"
        assert run.last_words()["published"] < run.last_words()["archived"]
        await run.start().ready()
        await run.caught_up()
        venue.silence()
        assert await run.stop() == 0, run.log()
    books = judge_archive(archive.path, venue, crashes=1)
    judge_bus(books, await bus.messages())
    assert await run.verify(archive.path, "--bus", bus.url) == 0, run.log()


async def test_a_disk_that_hangs_is_told_and_the_stop_is_ended_by_force_with_the_reason(
    program, archive, yaml, face, bus
):
    await bus.add_stream()
    async with LoopbackVenue(live_recording(1_000), face) as venue:
        run = limited(program).on_faulty_ground(archive.path)
        both = yaml.both.format(url=bus.url, path=archive.path)
        run.write(yaml.feed.format(endpoint=venue.url), both)
        await run.start().ready()
        for call in ("fdatasync", "fsync"):
            run.fault(call, "HANG")
        await run.says("the disk does not answer")
        assert (await run.get("/health")).status_code == 200
        published = await run.metric("published_total")
        await run.counts("published_total", published + 200)
        assert await stop(run) == 1, run.log()
        end = run.last_words()
        assert end["event"].startswith("stopped by force: what was not durable yet may be lost")
        assert end["exit_code"] == 1
        for call in ("fdatasync", "fsync"):
            run.mend(call)
        await run.start().ready()
        await run.caught_up()
        venue.silence()
        assert await stop(run) == 0, run.log()
    books = judge_archive(archive.path, venue, crashes=1)
    judge_bus(books, await bus.messages())
    assert await run.verify(archive.path, "--bus", bus.url) == 0, run.log()
