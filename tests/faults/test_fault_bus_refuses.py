"""A bus that is there and says no: overloaded, full, without its stream, without permission."""

import json

import anyio
import pytest

from rig.conservation import expected_ids, judge_archive, judge_bus
from rig.venues import live_recording
from ssmd_core.testing import LoopbackVenue, until

pytestmark = pytest.mark.anyio

STREAM = "PROD_KALSHI"
WINDOW = 1_000
soak = [pytest.mark.soak, pytest.mark.timeout(600)]
SECONDS = [0.5, pytest.param(30, marks=soak)]
ROUNDS = [2, pytest.param(10, marks=soak)]

LOGIN = """\
accounts {{ A {{ jetstream: enabled, users: [
  {{ user: admin, password: a }},
  {{ user: ssmd, password: s, permissions: {{ publish: [{publish}], subscribe: "_INBOX.>" }} }},
] }} }}
"""
ALL = '"$JS.API.>", "prod.kalshi.>"'
NO_TRADES = '"$JS.API.>", "prod.kalshi.ticker.>", "prod.kalshi.status"'


async def alter(bus, **changes):
    """Change the configuration of the stream."""
    async with bus.client() as client:
        js = client.jetstream()
        config = (await js.stream_info(STREAM)).config
        await js.update_stream(config.evolve(**changes))


async def empty(bus):
    """Purge the stream; return what it held."""
    held = await bus.messages()
    async with bus.client() as client:
        await client.jetstream().purge_stream(STREAM)
    return held


async def delete(bus):
    async with bus.client() as client:
        await client.jetstream().delete_stream(STREAM)


async def keeps_capturing(run, seconds=0.0):
    """Check that a bus that says no costs no frame; let it say no for a while."""
    await anyio.sleep(seconds)
    assert (await run.get("/health")).status_code == 200
    before = await run.metric("archived_total")
    await run.counts("archived_total", before + 500)


async def is_well_again(run, archive, times):
    """Wait until nothing is behind, and the ledger tells so for the so-many-th time."""
    await run.caught_up(180)
    await until(lambda: len(archive.ledger("sink_recovered")) >= times)


def judge_counts(run, venue, messages):
    """Check without an archive: received = stored once + declared as dropped."""
    end = run.last_words()
    (client,) = venue.clients
    kinds = [json.loads(frame).get("type") for frame in client.sent[: end["received"]]]
    received = sum(kind in {"trade", "ticker"} for kind in kinds)
    records = [m.headers["Nats-Msg-Id"] for m in messages if m.subject != "prod.kalshi.status"]
    assert len(set(records)) == len(records), "stored twice"
    lines = [json.loads(m.data) for m in messages if m.subject == "prod.kalshi.status"]
    declared = sum(line["messages"] for line in lines if line["event"] == "dropped")
    return end, received, len(records), declared


# ── with an archive ──────────────────────────────────────────────────────────────


@pytest.mark.parametrize("rounds", ROUNDS)
async def test_an_overloaded_bus_is_tried_again_until_it_has_everything_once(
    rounds, program, archive, yaml, face, bus
):
    bus.config.write_text("jetstream { max_buffered_msgs: 50 }")
    bus.start()
    await bus.add_stream()
    async with LoopbackVenue(live_recording(2_000), face) as venue:
        run = program()
        both = yaml.both.format(url=bus.url, path=archive.path)
        run.write(
            yaml.feed.format(endpoint=venue.url),
            both.replace("\nstorage", f"\n  window: {WINDOW}\nstorage"),
        )
        await run.start().ready()
        for _ in range(rounds):
            bus.kill()
            await run.says("bus: ")
            before = await run.metric("archived_total")
            await run.counts("archived_total", before + 3_000)
            bus.start()  # what waits is more than it takes at once
            await run.caught_up()
        assert await run.metric("publish_retries_total") > 0
        venue.silence()
        await run.caught_up()
        assert await run.stop() == 0, run.log()
    books = judge_archive(archive.path, venue)
    assert not books.events("dropped")
    # What was on the way together when the first was refused cannot be put in order again.
    judge_bus(books, await bus.messages(), window=WINDOW)
    assert await run.verify(archive.path) == 0, run.log()
    await run.verify(archive.path, "--bus", bus.url)
    faults = [line for line in run.log().splitlines() if line.startswith("FAULT")]
    assert all("behind a later one" in line for line in faults), faults


@pytest.mark.parametrize("seconds", SECONDS)
async def test_a_full_stream_is_waited_for_and_told_until_it_is_purged_or_enlarged(
    seconds, program, archive, yaml, face, bus
):
    await bus.add_stream(discard="new", max_msgs=1_500)
    async with LoopbackVenue(live_recording(2_000), face) as venue:
        run = program()
        both = yaml.both.format(url=bus.url, path=archive.path)
        run.write(yaml.feed.format(endpoint=venue.url), both)
        await run.start().ready()
        await run.says("maximum messages exceeded")
        assert "backlog" in await run.reasons()
        await keeps_capturing(run, seconds)
        assert (await run.get("/ready")).status_code == 503
        purged = await empty(bus)
        await until(lambda: is_full(bus, 1_500))
        await alter(bus, max_msgs=-1, max_bytes=2_000_000)
        await run.says("maximum bytes exceeded")
        await keeps_capturing(run, seconds)
        await alter(bus, max_bytes=-1)
        await run.caught_up()
        venue.silence()
        await run.caught_up()
        assert await run.stop() == 0, run.log()
    books = judge_archive(archive.path, venue)
    failed, recovered = books.events("sink_failed"), books.events("sink_recovered")
    for limit in ("messages", "bytes"):
        assert any(f"maximum {limit} exceeded" in each["reason"] for each in failed)
    assert len(recovered) == len(failed)
    assert not books.events("dropped")
    judge_bus(books, purged + await bus.messages())
    assert await run.verify(archive.path, "--bus", bus.url) == 0, run.log()


async def is_full(bus, most):
    return await bus.count() == most


@pytest.mark.parametrize("seconds", SECONDS)
async def test_a_stream_that_is_deleted_narrowed_or_sealed_gets_all_that_came_since(
    seconds, program, archive, yaml, face, bus
):
    await bus.add_stream()
    async with LoopbackVenue(live_recording(2_000), face) as venue:
        run = program()
        both = yaml.both.format(url=bus.url, path=archive.path)
        run.write(yaml.feed.format(endpoint=venue.url), both)
        await run.start().ready()
        await run.counts("published_total", 1_000)
        await delete(bus)
        await run.says("nats stream add PROD_KALSHI")
        await keeps_capturing(run, seconds)
        published = await run.metric("published_total")
        await bus.add_stream()
        await is_well_again(run, archive, 1)

        await alter(bus, subjects=["prod.kalshi.ticker.>", "prod.kalshi.status"])
        await run.says("takes prod.kalshi.trade.>")
        await keeps_capturing(run, seconds)
        await alter(bus, subjects=["prod.kalshi.>"])
        await is_well_again(run, archive, 2)

        await alter(bus, sealed=True)
        await run.says("sealed")
        await keeps_capturing(run, seconds)
        held = await bus.messages()
        await delete(bus)  # nobody can unseal it
        await bus.add_stream()
        await is_well_again(run, archive, 3)
        venue.silence()
        await run.caught_up()
        assert await run.stop() == 0, run.log()
    books = judge_archive(archive.path, venue)
    assert len(books.events("sink_failed")) == len(books.events("sink_recovered")) >= 3
    stored = held + await bus.messages()
    ids = [name for _, name in expected_ids(books)]
    there = {message.headers["Nats-Msg-Id"] for message in stored}
    gone = next(number for number, name in enumerate(ids) if name in there)
    assert 1_000 * 0.8 < gone <= published, "what was stored went with the stream, and no more"
    judge_bus(books, stored, missing=set(ids[:gone]))
    assert await run.verify(archive.path) == 0, run.log()
    assert await run.verify(archive.path, "--bus", bus.url) == 0, run.log()
    assert "made anew" in run.log(), "what was stored before is not said to be there"


async def test_a_permission_that_is_withdrawn_is_named_and_nothing_is_lost_until_it_is_back(
    program, archive, yaml, face, bus
):
    bus.config.write_text(LOGIN.format(publish=ALL))
    bus.login = {"user": "admin", "password": "a"}
    bus.start()
    await bus.add_stream()
    async with LoopbackVenue(live_recording(2_000), face) as venue:
        run = program(SSMD_TRANSPORT__USER="ssmd", SSMD_TRANSPORT__PASSWORD="s")
        both = yaml.both.format(url=bus.url, path=archive.path)
        run.write(yaml.feed.format(endpoint=venue.url), both)
        await run.start().ready()
        await run.counts("published_total", 500)
        bus.config.write_text(LOGIN.format(publish=NO_TRADES))
        bus.reload()
        await run.says("ermissions")
        assert "prod.kalshi.trade" in await run.reasons()
        await keeps_capturing(run)
        bus.config.write_text(LOGIN.format(publish=ALL))
        bus.reload()
        await run.caught_up()
        venue.silence()
        await run.caught_up()
        assert await run.stop() == 0, run.log()
    books = judge_archive(archive.path, venue)
    assert not books.events("dropped")
    judge_bus(books, await bus.messages())
    verified = await run.verify(archive.path, "--bus", f"nats://admin:a@127.0.0.1:{bus.port}")
    assert verified == 0, run.log()


# ── without one ──────────────────────────────────────────────────────────────────


async def test_without_an_archive_memory_bridges_a_deleted_stream(program, yaml, face, bus):
    await bus.add_stream()
    async with LoopbackVenue(live_recording(2_000), face) as venue:
        run = program()
        run.write(yaml.feed.format(endpoint=venue.url), yaml.nats.format(url=bus.url))
        await run.start().ready()
        await run.counts("published_total", 500)
        held = await bus.messages()
        await delete(bus)
        await run.says("nats stream add PROD_KALSHI")
        before = await run.metric("messages_total")
        await run.counts("messages_total", before + 2_000)
        assert await run.metric("dropped_total") == 0
        await bus.add_stream()
        await run.caught_up()
        venue.silence()
        await run.caught_up()
        assert await run.stop() == 0, run.log()
    held += await bus.messages()
    end, received, stored, declared = judge_counts(run, venue, held)
    assert end["event"] == "stopped cleanly"
    assert declared == 0
    assert stored <= received


async def test_without_an_archive_what_a_full_stream_costs_is_declared_to_the_last_message(
    program, yaml, face, bus
):
    await bus.add_stream(discard="new", max_msgs=1_000)
    async with LoopbackVenue(live_recording(None), face) as venue:
        run = program()
        run.write(yaml.feed.format(endpoint=venue.url), yaml.nats.format(url=bus.url))
        run.start()
        await run.says("maximum messages exceeded", 30)
        await run.counts("dropped_total", 5_000, 60)
        assert (await run.get("/ready")).status_code == 503
        assert (await run.get("/health")).status_code == 200
        venue.silence()
        await alter(bus, max_msgs=-1)
        await run.caught_up()
        assert await run.stop() == 1, run.log()
    end, received, stored, declared = judge_counts(run, venue, await bus.messages())
    assert end["event"] == "stopped with data lost"
    assert end["lost"] == declared == sum(end["dropped"].values())
    assert received == stored + declared
