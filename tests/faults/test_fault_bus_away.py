"""A nats-server that dies, freezes, is away for long, or whose answers get lost on the way."""

import random
import signal

import anyio
import pytest

from rig.conservation import judge_archive, judge_bus
from rig.proxy import Proxy
from rig.venues import live_recording
from ssmd_core.testing import LoopbackVenue, until

pytestmark = pytest.mark.anyio

soak = [pytest.mark.soak, pytest.mark.timeout(900)]
ROUNDS = [3, pytest.param(20, marks=soak)]
OUTAGES = [8, pytest.param(60, marks=soak)]
LIMIT_BYTES = 128 * 1024 * 1024


async def all_published(run, seconds=60):
    """Wait until the bus has what the archive holds."""

    async def done():
        state = (await run.get("/ready")).json()
        return state["status"] == "ready" and not state["degraded"]

    await until(done, seconds)


@pytest.mark.parametrize("rounds", ROUNDS)
@pytest.mark.parametrize("fault", ["kill", "freeze"])
async def test_a_bus_that_dies_or_freezes_again_and_again_ends_up_with_all_once_and_in_order(
    fault, rounds, program, archive, yaml, face, bus
):
    rng = random.Random(rounds)
    await bus.add_stream()
    async with LoopbackVenue(live_recording(2_000), face) as venue:
        run = program()
        both = yaml.both.format(url=bus.url, path=archive.path)
        run.write(yaml.feed.format(endpoint=venue.url), both)
        await run.start().ready()
        for _ in range(rounds):
            await anyio.sleep(rng.uniform(0.1, 1.0))
            if fault == "kill":
                bus.kill()
                await anyio.sleep(rng.uniform(0.0, 1.0))
                bus.start()
            else:
                bus.signal(signal.SIGSTOP)
                await anyio.sleep(rng.uniform(0.1, 2.0))
                bus.signal(signal.SIGCONT)
            assert run.process.poll() is None, run.log()
        await all_published(run)
        venue.silence()
        assert await run.stop() == 0, run.log()
    books = judge_archive(archive.path, venue)
    judge_bus(books, await bus.messages())
    assert await run.verify(archive.path, "--bus", bus.url) == 0, run.log()


@pytest.mark.parametrize("seconds", OUTAGES)
async def test_an_outage_of_the_bus_under_load_is_caught_up_within_bounded_memory(
    seconds, program, archive, yaml, face, bus
):
    await bus.add_stream()
    async with LoopbackVenue(live_recording(2_000), face, keep=seconds < 30) as venue:
        run = program()
        both = yaml.both.format(url=bus.url, path=archive.path)
        run.write(yaml.feed.format(endpoint=venue.url), both)
        await run.start().ready()
        bus.kill()
        await run.says("bus")
        await anyio.sleep(seconds)
        assert (await run.get("/health")).status_code == 200
        bus.start()
        await all_published(run, 120)
        peak = run.peak_bytes()
        venue.silence()
        assert await run.stop() == 0, run.log()
    assert peak < LIMIT_BYTES
    books = judge_archive(archive.path, venue if seconds < 30 else None)
    assert books.dropped("storage") == books.dropped("transport") == 0
    judge_bus(books, await bus.messages())


async def test_acknowledgements_that_get_lost_make_nothing_appear_twice(
    program, archive, yaml, face, bus
):
    await bus.add_stream()
    async with (
        LoopbackVenue(live_recording(2_000), face) as venue,
        Proxy(bus.port) as proxy,
    ):
        run = program()
        url = f"nats://127.0.0.1:{proxy.port}"
        run.write(
            yaml.feed.format(endpoint=venue.url), yaml.both.format(url=url, path=archive.path)
        )
        await run.start().ready()
        for _ in range(3):
            proxy.swallow_down = True
            before = proxy.swallowed
            await until(lambda before=before: proxy.swallowed > before + 20_000, 20)
            proxy.reset()
            proxy.go_on()
            await all_published(run)
        venue.silence()
        assert await run.stop() == 0, run.log()
    books = judge_archive(archive.path, venue)
    judge_bus(books, await bus.messages())


async def test_a_connector_killed_for_longer_than_the_bus_remembers_ids_stores_nothing_twice(
    program, archive, yaml, face, bus
):
    await bus.add_stream(duplicate_window=1)
    async with LoopbackVenue(live_recording(2_000), face) as venue:
        run = program()
        both = yaml.both.format(url=bus.url, path=archive.path)
        run.write(yaml.feed.format(endpoint=venue.url), both)
        for _ in range(3):
            await run.start().ready()
            await run.counts("published_total", 1_000)
            run.kill()
            await anyio.sleep(1.5)  # the bus forgets
        await run.start().ready()
        await all_published(run)
        venue.silence()
        assert await run.stop() == 0, run.log()
    books = judge_archive(archive.path, venue, crashes=3)
    judge_bus(books, await bus.messages())
