"""An archive sent again, and compared with the bus, as operators do it."""

import hashlib
import itertools
import json
import signal
import subprocess

import anyio
import pytest

from rig.programs import SSMD, Archive, Bus, Files, Program
from ssmd_core.clock import NS, iso
from ssmd_core.records import SCALE
from ssmd_core.schema import open_decoder
from ssmd_core.testing import LoopbackVenue, Recording, until
from ssmd_kalshi.venue import KalshiFace, market_names, session

pytestmark = pytest.mark.anyio

COUNT = 2_000
QUICK = 0.1
"""A dedupe window that is over before anything is sent again."""


@pytest.fixture(scope="module")
def anyio_backend():
    return "asyncio"


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return tmp_path_factory.mktemp("replay")


@pytest.fixture(scope="module")
def bus(place):
    with Bus(place / "nats") as bus:
        yield bus


@pytest.fixture(scope="module")
def archive(place):
    return Archive(place / "data")


@pytest.fixture(scope="module")
async def live(place, archive, bus, key):
    """Capture a session into the archive and onto the bus; return what the bus holds then."""
    stream = session(11, market_names(20))
    recording = Recording([next(stream) for _ in range(COUNT)])
    await bus.add_stream(duplicate_window=QUICK)
    (place / "live").mkdir()
    run = Program(place / "live", dict(key.environ))
    try:
        async with LoopbackVenue(recording, KalshiFace.for_key(key)) as venue:
            feed, env = Files.feed.format(endpoint=venue.url), Files.both
            run.write(feed, env.format(url=bus.url, path=archive.path))
            await run.start().ready()
            await venue.finished(60)
            await run.received(venue.clients[0].sent_count)
            assert await run.stop() == 0, run.log()
    finally:
        run.kill()
    records = await bus.records()
    assert len(records) > COUNT * 0.5
    return records


class Replayer:
    """Runs ``ssmd replay`` into an environment of its own, without credentials."""

    def __init__(self, program, archive, bus, number):
        self.program = program
        self.archive = archive
        self.bus = bus
        self.name = f"lab{number}"
        self.stream = f"LAB{number}_KALSHI"
        self.subject = f"{self.name}.kalshi.>"
        self.configure(self.name)

    def configure(self, name, schema="trade:v1"):
        env = Files.nats.format(url=self.bus.url).replace("name: prod\n", f"name: {name}\n")
        feed = Files.feed.format(endpoint="wss://nowhere.example/ws")
        self.program.write(feed, env.replace("trade:v1", schema))

    async def add_stream(self):
        await self.bus.add_stream(self.stream, [self.subject], duplicate_window=QUICK)

    async def copy(self, messages):
        """Let the stream hold what a live run stored."""
        await self.add_stream()
        async with self.bus.client() as client:
            for message in messages:
                subject = message.subject.replace("prod.", f"{self.name}.", 1)
                await client.publish(subject, message.data, headers=message.headers)
            await client.flush()
            await until(lambda: self.holds(len(messages)))

    async def holds(self, count):
        return await self.count() >= count

    async def count(self):
        return await self.bus.count(self.stream)

    async def messages(self):
        return await self.bus.messages(self.subject, self.stream)

    async def delete(self, *positions):
        messages = await self.messages()
        async with self.bus.client() as client:
            for position in positions:
                number = messages[position].metadata.sequence.stream
                await client.jetstream().delete_msg(self.stream, number)
        await anyio.sleep(2 * QUICK)  # or the stream would remember the ids

    def command(self, *more, speed="max"):
        return ["replay", str(self.archive.path), *self.program.arguments, "--speed", speed, *more]

    async def run(self, *more):
        return await self.program.run(*self.command(*more))

    def begin(self, messages, *, seconds):
        """Start a replay of these that lasts so long, however long the capture took."""
        first, last = (int(message.headers["Ssmd-Ts"]) for message in (messages[0], messages[-1]))
        speed = f"{(last - first) / seconds / NS:.6f}x"
        with self.program.errors.open("ab") as out:
            self.program.process = subprocess.Popen(
                [*SSMD, *self.command("--from", iso(first), speed=speed)],
                env=self.program.environ,
                stdout=out,
                stderr=out,
                cwd=self.program.folder,
            )
        return self.program


_numbers = itertools.count(1)


@pytest.fixture
def replayer(program, archive, bus, live, key):
    run = program()
    for name in key.environ:
        run.environ.pop(name)
    return Replayer(run, archive, bus, next(_numbers))


def content(messages):
    """Return of each message all that must be the same, whoever published it when."""
    return [
        (
            message.subject.split(".", 1)[1],
            message.headers["Nats-Msg-Id"],
            message.headers["Ssmd-Ts"],
            message.headers["Ssmd-Schema"],
            message.data,
        )
        for message in messages
    ]


def digest(archive):
    """Return what stands in every file of an archive."""
    return {
        str(path): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(archive.path.rglob("*"))
        if path.is_file()
    }


# ── into an environment of another name ──────────────────────────────────────────


async def test_a_replay_stores_what_the_live_run_stored_under_the_same_ids(replayer, live, archive):
    before = digest(archive)
    await replayer.add_stream()
    done = await replayer.run()
    assert done.returncode == 0, done.stderr
    again = await replayer.messages()
    assert content(again) == content(live)
    assert {message.headers["Ssmd-Origin"] for message in again} == {"replay"}
    assert f"messages        {len(live):,}: " in done.stdout
    assert "unacknowledged  0\n" in done.stdout
    assert digest(archive) == before


async def test_a_second_replay_finds_everything_there_and_stores_nothing_twice(replayer, live):
    await replayer.add_stream()
    assert (await replayer.run()).returncode == 0
    done = await replayer.run()
    assert done.returncode == 0
    assert f"already there   {len(live):,}\n" in done.stdout
    assert await replayer.count() == len(live)


@pytest.mark.parametrize("gone", ["purged", "deleted"])
async def test_what_a_stream_remembers_and_does_not_hold_is_no_success(replayer, bus, live, gone):
    await bus.add_stream(replayer.stream, [replayer.subject], duplicate_window=600)
    assert (await replayer.run()).returncode == 0
    async with bus.client() as client:
        if gone == "purged":
            await client.jetstream().purge_stream(replayer.stream)
        else:
            await client.jetstream().delete_msg(replayer.stream, 17)
    done = await replayer.run()
    assert done.returncode == 1
    count = f"{len(live):,} messages" if gone == "purged" else "1 message"
    assert f"not stored      {count} taken for duplicates, and not in the stream" in done.stdout
    assert "wait for its duplicate_window and run again" in done.stdout


async def test_of_an_interval_only_that_is_sent_and_the_rest_can_follow(replayer, live):
    await replayer.add_stream()
    half = len(live) // 2
    middle = iso(int(live[half].headers["Ssmd-Ts"]))
    assert (await replayer.run("--to", middle)).returncode == 0
    assert content(await replayer.messages()) == content(live[:half])
    assert (await replayer.run("--from", middle)).returncode == 0
    assert content(await replayer.messages()) == content(live)


async def test_an_archive_is_replayed_in_the_schema_of_the_environment(replayer, live, archive):
    replayer.configure(replayer.name, "trade:v2")
    await replayer.add_stream()
    assert (await replayer.run()).returncode == 0
    read_v1, read_v2 = open_decoder("trade:v1").decode, open_decoder("trade:v2").decode
    bodies = map(json.loads, archive.frames())
    sent = {body["msg"]["trade_id"]: body for body in bodies if body["type"] == "trade"}
    fractions = 0
    for old, new in zip(live, await replayer.messages(), strict=True):
        kind = new.subject.split(".")[2]
        fields = read_v2(kind, new.data)
        assert new.headers["Ssmd-Schema"] == "trade:v2"
        assert read_v1(kind, new.data) == read_v1(kind, old.data)
        assert fields["receivedAt"] == int(new.headers["Ssmd-Ts"])
        if kind == "trade":
            body = sent[fields["tradeId"]]
            assert (fields["sequence"], fields["hasSequence"]) == (body["seq"], True)
            cents = round(float(body["msg"]["count_fp"]) * 100)
            assert fields["sizeE9"] == cents * SCALE // 100
            fractions += fields["sizeE9"] != fields["size"] * SCALE
    assert fractions  # the session has what v1 rounds


# ── where it must not go ─────────────────────────────────────────────────────────


async def test_a_stream_of_live_records_is_refused_and_another_name_is_told(replayer, bus):
    replayer.configure("prod")
    stored = await bus.count()
    done = await replayer.run()
    assert done.returncode == 2
    assert "`name: prod-replay`" in done.stderr
    assert "--into-live" in done.stderr
    assert await bus.count() == stored


async def test_into_live_fills_in_what_the_stream_lacks_and_only_that(replayer, live):
    await replayer.copy(live)
    await replayer.delete(10)
    done = await replayer.run("--into-live")
    assert done.returncode == 0, done.stderr
    again = await replayer.messages()
    assert content(again) == content([*live[:10], *live[11:], live[10]])
    assert [m.headers.get("Ssmd-Origin") for m in again[-2:]] == [None, "replay"]


async def test_a_bus_without_a_stream_for_it_is_refused_with_the_command_that_makes_one(replayer):
    done = await replayer.run()
    assert done.returncode == 2
    assert "nats stream add" in done.stderr
    assert replayer.subject in done.stderr


# ── while it runs ────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_a_signal_ends_a_replay_cleanly_and_it_says_where_to_go_on(replayer, live, number):
    await replayer.add_stream()
    run = replayer.begin(live, seconds=60)
    await until(lambda: replayer.holds(1), 30)
    run.process.send_signal(number)
    assert await run.wait() == 0, run.log()
    assert "stopped         go on with --from 20" in run.log()
    assert "unacknowledged  0\n" in run.log()
    assert 0 < await replayer.count() < len(live)


async def test_a_bus_that_is_killed_in_between_has_everything_once_in_the_end(replayer, live, bus):
    await replayer.add_stream()
    run = replayer.begin(live, seconds=3)
    await until(lambda: replayer.holds(50), 30)
    bus.kill()
    bus.start()
    assert await run.wait(60) == 0, run.log()
    assert content(await replayer.messages()) == content(live)


# ── compared with the bus ────────────────────────────────────────────────────────


async def test_a_bus_that_holds_what_was_archived_has_no_difference(replayer, bus):
    replayer.configure("prod")
    stored = await bus.count()
    done = await replayer.run("--diff")
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.endswith("\n0 differences\n")
    assert await bus.count() == stored


async def test_what_is_missing_too_much_or_stored_otherwise_is_shown(replayer, live):
    strange = live[30]
    other = {**live[40].headers, "Nats-Msg-Id": "kalshi:other:1"}
    await replayer.copy(live)
    await replayer.delete(10, 30)
    async with replayer.bus.client() as client:
        js = client.jetstream()
        subject = strange.subject.replace("prod.", f"{replayer.name}.", 1)
        await js.publish(subject, b"other bytes", headers=strange.headers)
        await js.publish(subject, b"", headers=other)
    done = await replayer.run("--diff")
    assert done.returncode == 1
    shown = {
        (line.split()[0], line.split()[3].rstrip(":"))
        for line in done.stdout.splitlines()
        if line.split()[:1] and line.split()[0] in {"missing", "extra", "payload"}
    }
    assert shown == {
        ("missing", live[10].headers["Nats-Msg-Id"]),
        ("payload", strange.headers["Nats-Msg-Id"]),
        ("extra", "kalshi:other:1"),
    }


async def test_a_stream_that_let_go_of_the_oldest_is_compared_from_there_on(replayer, live):
    await replayer.copy(live)
    async with replayer.bus.client() as client:
        await client.jetstream().purge_stream(replayer.stream, keep=500)
    done = await replayer.run("--diff")
    assert done.returncode == 0, done.stdout
    assert iso(int(live[-500].headers["Ssmd-Ts"])) in done.stdout


async def test_a_stream_that_holds_nothing_is_not_equal(replayer):
    await replayer.add_stream()
    done = await replayer.run("--diff")
    assert done.returncode == 1
    assert f"the stream holds no record of {replayer.name}.kalshi" in done.stdout
