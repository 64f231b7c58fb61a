"""Files that are not what they were: damaged, foreign, unreadable. Capture goes on all the same."""

import shutil
import time
from types import SimpleNamespace

import pytest
import zstandard

from rig.conservation import judge_archive, judge_bus
from rig.programs import Archive, Bus, Files, Program
from rig.venues import live_recording
from ssmd_core.testing import LoopbackVenue
from ssmd_kalshi.venue import KalshiFace

pytestmark = pytest.mark.anyio

PAGE = 4_096
PACKED = "  compression: zstd\n  part_bytes: 200000\n"


async def make_archive(folder, key, more):
    """Let a connector stop whose bus was away at the end: the last frames are not published."""
    archive, bus = Archive(folder / "data"), Bus(folder / "nats").start()
    (folder / "run").mkdir()
    run = Program(folder / "run", {**key.environ, "SSMD_SHUTDOWN_SECONDS": "4"})
    try:
        await bus.add_stream()
        async with LoopbackVenue(live_recording(2_000), KalshiFace.for_key(key)) as venue:
            both = Files.both.format(url=bus.url, path=archive.path) + more
            run.write(Files.feed.format(endpoint=venue.url), both)
            await run.start().ready()
            await run.counts("published_total", 1_000)
            bus.kill()
            before = await run.metric("archived_total")
            await run.counts("archived_total", before + 1_000)
            assert await run.stop() == 0, run.log()
    finally:
        run.kill()
        bus.kill()


@pytest.fixture(scope="module")
def made(tmp_path_factory, key):
    """Make an archive once for each form; tests work on copies."""
    folders = {}

    async def make(more=""):
        if more not in folders:
            folder = tmp_path_factory.mktemp("made")
            await make_archive(folder, key, more)
            folders[more] = folder
        return folders[more]

    return make


@pytest.fixture
def old(made, tmp_path, program, yaml):
    """Copy an archive and the bus it feeds, to be damaged, and make who goes on with it."""
    buses = []

    async def copy(more=""):
        source = await made(more)
        archive = Archive(tmp_path / "data")
        shutil.copytree(source / "data", archive.path)
        shutil.copytree(source / "nats", tmp_path / "nats")
        bus = Bus(tmp_path / "nats")
        buses.append(bus.start())
        (day,) = (each for each in archive.path.iterdir() if each.is_dir())
        run = program()

        def write(venue):
            both = yaml.both.format(url=bus.url, path=archive.path) + more
            run.write(yaml.feed.format(endpoint=venue.url), both)

        return SimpleNamespace(archive=archive, bus=bus, day=day, run=run, write=write)

    yield copy
    for bus in buses:
        bus.kill()


async def go_on(old, face, frames=500):
    """Go on with an archive, receive and publish something, and stop."""
    async with LoopbackVenue(live_recording(2_000, seed=2), face) as venue:
        old.write(venue)
        await old.run.start().ready()
        await old.run.counts("archived_total", frames)
        await old.run.caught_up()
        venue.silence()
        await old.run.caught_up()
        torn = await old.run.metric("torn_tails_total")
        assert await old.run.stop() == 0, old.run.log()
    return torn


async def judge(old):
    """Check that nothing is missing on disk and bus, and that ``verify`` agrees."""
    books = judge_archive(old.archive.path)
    judge_bus(books, await old.bus.messages())
    code = await old.run.verify(old.archive.path, "--feed", "kalshi", "--bus", old.bus.url)
    assert code == 0, old.run.log()[-3_000:]
    return books


# ── what stands beside the archive ───────────────────────────────────────────────


@pytest.mark.parametrize(
    "cursor",
    [b"", b"17953", b"\0" * 19, b"%d" % (time.time_ns() + 86_400 * 10**9)],
    ids=["empty", "torn", "zeros", "future"],
)
async def test_a_cursor_that_tells_nothing_is_set_aside_and_the_bus_is_asked(cursor, old, face):
    it = await old()
    (it.archive.path / ".kalshi.cursor").write_bytes(cursor)
    await go_on(it, face)
    books = await judge(it)
    assert any("cursor" in each["reason"] for each in books.events("sink_failed"))
    assert any("resumed_from" in each for each in books.events("sink_recovered"))
    assert len((it.archive.path / ".kalshi.cursor").read_bytes().strip()) == 19


@pytest.mark.parametrize("damage", [b"\0" * 17, b"", None], ids=["zeros", "empty", "gone"])
async def test_a_connector_whose_id_is_damaged_finds_it_in_its_ledger(damage, old, face):
    it = await old()
    path = it.archive.path / ".kalshi.connector"
    before = path.read_bytes()
    if damage is None:
        path.unlink()
    else:
        path.write_bytes(damage)
    await go_on(it, face)
    assert path.read_bytes() == before
    await judge(it)


# ── tails ────────────────────────────────────────────────────────────────────────


async def test_torn_tails_and_pages_of_zeros_are_set_aside_and_counted(old, face):
    it = await old()
    frames, ledger = it.day / "kalshi.jsonl", it.day / "kalshi.coverage.jsonl"
    with frames.open("ab") as file:
        file.write(b'{"ts":"2026-11-22T06:0' + bytes(PAGE))
    with ledger.open("ab") as file:
        file.write(b'{"ts":"2026-11-22T06:00:00.000000000+00:00","session":"' + bytes(PAGE))
    assert await go_on(it, face) == 2
    torn = (it.day / "kalshi.torn").read_bytes().splitlines()
    assert sorted(map(len, torn)) == [22 + PAGE, 55 + PAGE]
    await judge(it)


async def test_lines_that_are_none_cost_no_other_line_and_verify_names_them(old, face):
    it = await old()
    noise = b"\x00\xff garbage {]\n"
    files = [it.day / "kalshi.jsonl", it.day / "kalshi.coverage.jsonl"]
    for path in files:
        with path.open("ab") as file:
            file.write(noise)
    await go_on(it, face)
    assert await it.run.verify(it.archive.path) == 1
    assert "kalshi.jsonl" in it.run.log().rpartition("FAULT")[2]
    for path in files:
        path.write_bytes(path.read_bytes().replace(noise, b""))
    await judge(it)


# ── compressed ───────────────────────────────────────────────────────────────────


async def test_half_a_compressed_frame_at_the_end_is_set_aside_and_costs_nothing(old, face):
    it = await old(PACKED)
    path = it.day / "kalshi.jsonl.zst"
    whole = path.read_bytes()
    half = zstandard.ZstdCompressor().compress(b"x" * 100_000)[:-5]
    path.write_bytes(whole + half)
    assert await go_on(it, face) == 1
    assert path.with_name("kalshi.jsonl.zst.torn").read_bytes() == half
    assert path.read_bytes().startswith(whole)
    await judge(it)


async def test_a_compressed_frame_that_rotted_is_passed_over_and_told(old, face):
    it = await old(PACKED)
    path = it.day / "kalshi.jsonl.zst"
    data = bytearray(path.read_bytes())
    data[len(data) // 3] ^= 0xFF
    path.write_bytes(data)
    (it.archive.path / ".kalshi.cursor").write_text(str(10**18))  # read all of it again
    await go_on(it, face)
    assert await it.run.verify(it.archive.path) == 1
    assert "FAULT" in it.run.log()
    stored = [m.headers["Nats-Msg-Id"] for m in await it.bus.records()]
    assert len(set(stored)) == len(stored)


@pytest.mark.parametrize(
    "content", [b"", b"\0" * PAGE, b"rubbish\n"], ids=["empty", "zeros", "rubbish"]
)
async def test_a_part_that_is_not_what_its_name_says_takes_nothing_archived_away(
    content, old, face
):
    it = await old(PACKED)
    (it.day / "kalshi.jsonl.0.closing").write_bytes(content)
    await go_on(it, face)
    await judge(it)


# ── strangers ────────────────────────────────────────────────────────────────────


async def test_foreign_files_and_other_feeds_are_passed_over_and_left_alone(old, face):
    it = await old()
    root, line = it.archive.path, it.archive.lines()[0] + b"\n"
    theirs = line.replace(b'"feed":"kalshi"', b'"feed":"other"')
    foreign = {
        "notes.txt": b"hello",
        "2026-13-45/kalshi.jsonl.bak": line,
        "2999-01-01/other.jsonl": theirs,
        "2020-01-01/kalshi.jsonl/inside": b"a directory where a file would be",
        "2020-01-02": b"a file where a directory would be",
        "lost+found/kalshi.jsonl": line,
        ".other.cursor": b"1795352021911841016",
        ".other.lock": b"",
        ".kalshi.connector.bak": b"cafe",
        f"{it.day.name}/other.jsonl": theirs,
        f"{it.day.name}/other.coverage.jsonl": b"{}\n",
        f"{it.day.name}/kalshi2.jsonl": theirs,
        f"{it.day.name}/KALSHI.jsonl": line,
        f"{it.day.name}/kalshi.jsonl~": line,
        f"{it.day.name}/kalshi.jsonl.x.closing": line,
        f"{it.day.name}/kalshi.jsonl.-1.closing": line,
        f"{it.day.name}/kalshi.jsonl.zst.tmp": b"half",
        f"{it.day.name}/kalshi.coverage.jsonl.1": b"old",
        f"{it.day.name}/kalshi/jsonl": line,
    }
    for name, data in foreign.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(data)
    (it.day / "kalshi.link.jsonl").symlink_to("nowhere")
    assert await go_on(it, face) == 0
    for name, data in foreign.items():
        assert (root / name).read_bytes() == data, name
    for name in ("lost+found", "2020-01-01"):
        shutil.rmtree(root / name)  # the judge is not so careful
    await judge(it)


# ── unreadable ───────────────────────────────────────────────────────────────────


async def test_an_archive_that_may_not_be_read_delays_the_bus_and_not_the_capture(old, face):
    it = await old()
    it.run.on_faulty_ground(it.archive.path)
    it.bus.kill()
    async with LoopbackVenue(live_recording(2_000, seed=2), face) as venue:
        it.write(venue)
        it.run.start()
        await it.run.says("bus: ")
        await it.run.counts("archived_total", 200)
        it.run.fault("open", "EACCES")
        it.bus.start()
        await it.run.says("reading the archive fails")
        assert "Permission denied" in await it.run.reasons()
        before = await it.run.metric("archived_total")
        await it.run.counts("archived_total", before + 500)
        it.run.mend("open")
        await it.run.caught_up()
        venue.silence()
        await it.run.caught_up()
        assert await it.run.stop() == 0, it.run.log()
    await judge(it)


async def test_a_start_that_may_not_write_to_its_files_says_which_before_anything_is_asked(
    old, face
):
    it = await old()
    it.run.on_faulty_ground(it.archive.path)
    it.run.fault("open", "EACCES kalshi.jsonl")
    async with LoopbackVenue(live_recording(2_000, seed=2), face) as venue:
        it.write(venue)
        it.run.start()
        assert await it.run.wait() == 2
        assert not venue.attempts
    assert "kalshi.jsonl" in it.run.last_words()["event"]
    assert "let uid" in it.run.last_words()["event"]
