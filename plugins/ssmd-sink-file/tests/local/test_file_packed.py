"""Compressed days: what closes moves into one file of frames, and is read as if it had not."""

from __future__ import annotations

import gzip
import hashlib
import io
import shutil
import threading

import anyio
import pytest
import zstandard

from ssmd_core.errors import StorageFailed
from ssmd_core.records import Stream
from ssmd_core.sink import Mark
from ssmd_sink_file.frames import compress
from ssmd_sink_file.frames.compress import Compression, read_frames
from ssmd_sink_file.lines.writer import LineWriter
from ssmd_sink_file.local import packing

pytestmark = pytest.mark.anyio

NOON = 1_795_348_800_000_000_000
DAY_NS = 86_400_000_000_000
TODAY, TOMORROW = "2026-11-22", "2026-11-23"
EVER = 1 << 62
PACKED = ["zstd", "gzip"]


async def read_all(storage, after=0, upto=EVER):
    return [frame async for batch in storage.read(after, upto) for frame in batch.frames]


def plain(path):
    """The plain content of a compressed file."""
    return b"".join(read_frames(io.BytesIO(path.read_bytes()), Compression.of(path.name)))


def names(root, day=TODAY):
    return sorted(path.name for path in (root / day).iterdir())


def lines_of(*batches):
    writer = LineWriter("kalshi")
    return b"".join(part.data for batch in batches for part in writer.parts(batch))


async def settle(storage):
    """Sync until nothing is left to be done behind the appends."""
    await storage.sync()
    with anyio.fail_after(10):
        while storage.is_busy:
            await storage.sync()


@pytest.fixture(autouse=True)
def small(monkeypatch):
    """Frames of some lines, a frame a slice."""
    monkeypatch.setattr(compress, "_FRAME_BYTES", 300)
    monkeypatch.setattr(packing, "_SLICE_SECONDS", 0.0)


# ── closing ──────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("compression", PACKED)
async def test_after_a_clean_stop_all_is_compressed_and_nothing_plain_is_left(
    archive, root, batch, noon, compression
):
    live = [batch(b'{"n":%d}' % n, at=2 * n) for n in range(30)]
    rest = [batch(b'{"r":%d}' % n, at=2 * n + 1, stream=Stream.REST) for n in range(9)]
    async with archive(compression=compression) as storage:
        for one in live + rest:
            storage.append(one)
        storage.note(noon, b'{"ts":"2026-11-22T12:00:00.000000000+00:00"}')
    end = {"zstd": ".zst", "gzip": ".gz"}[compression]
    assert names(root) == [
        "kalshi.coverage.jsonl",
        f"kalshi.jsonl{end}",
        f"kalshi.rest.jsonl{end}",
    ]
    assert plain(root / TODAY / f"kalshi.jsonl{end}") == lines_of(*live)
    assert plain(root / TODAY / f"kalshi.rest.jsonl{end}") == lines_of(*rest)
    async with archive() as storage:
        assert await read_all(storage, noon + 9, noon + 12) == [b'{"n":5}', b'{"r":5}', b'{"n":6}']


async def test_the_tools_of_the_world_read_a_compressed_day(archive, root, batch):
    given = [batch(b'{"n":%d}' % n, at=n) for n in range(30)]
    for feed, compression in (("one", "zstd"), ("two", "gzip")):
        async with archive(feed, compression=compression) as storage:
            for one in given:
                storage.append(one)
    with zstandard.open(root / TODAY / "one.jsonl.zst", "rb") as file:
        assert file.read().count(b"\n") > 0
    assert gzip.decompress((root / TODAY / "two.jsonl.gz").read_bytes()).count(b"\n") == 30


async def test_what_is_open_stays_plain_until_it_is_large_enough(archive, root, batch):
    async with archive(compression="zstd", part_bytes=1000) as storage:
        given = []
        while (root / TODAY / "kalshi.jsonl").exists() or not given:
            assert not (root / TODAY / "kalshi.jsonl.zst").exists()
            given.append(batch(b"{}", at=len(given)))
            storage.append(given[-1])
            await storage.sync()
        assert 1000 <= len(lines_of(*given)) < 1100
        await settle(storage)
        assert names(root) == ["kalshi.jsonl.zst"]
        storage.append(batch(b"1", at=1000))
        assert names(root) == ["kalshi.jsonl", "kalshi.jsonl.zst"]
        assert len(await read_all(storage)) == len(given) + 1


async def test_a_day_that_ends_is_closed_and_told_as_it_lies(archive, root, told, batch):
    given = [batch(b'{"n":%d}' % n, at=n * 10) for n in range(20)]
    async with archive(compression="zstd") as storage:
        for one in given:
            storage.append(one)
        storage.append(batch(b"next", at=DAY_NS))
        await settle(storage)
        path = root / TODAY / "kalshi.jsonl.zst"
        assert names(root) == ["kalshi.jsonl.zst"]
        assert names(root, TOMORROW) == ["kalshi.jsonl"]
        expected = {
            "file": f"{TODAY}/kalshi.jsonl.zst",
            "lines": 20,
            "bytes": path.stat().st_size,
            "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        }
        assert told.events == [("rotated", expected)]
        assert plain(path) == lines_of(*given)


async def test_a_stop_while_a_part_is_on_its_way_closes_what_came_behind_it_too(
    archive, root, batch
):
    async with archive(compression="zstd", part_bytes=1000) as storage:
        storage.append(batch(*[b"{}"] * 40))
        await storage.sync()
        assert list(root.glob("*/*.closing"))
        storage.append(batch(b"1", at=100))
    assert names(root) == ["kalshi.jsonl.zst"]


async def test_a_quiet_stop_closes_what_a_crash_left_plain(archive, root, batch):
    async with archive() as storage:
        storage.append(batch(b"1"))
    assert names(root) == ["kalshi.jsonl"]
    async with archive(compression="gzip"):
        pass
    assert names(root) == ["kalshi.jsonl.gz"]


async def test_a_crash_that_left_a_part_on_its_way_is_gone_on_from(archive, root, batch):
    async with archive(compression="zstd") as storage:
        storage.append(batch(b"1"))
    size = (root / TODAY / "kalshi.jsonl.zst").stat().st_size
    (root / TODAY / f"kalshi.jsonl.{size}.closing").write_bytes(lines_of(batch(b"2", at=1)))
    with (root / TODAY / "kalshi.jsonl.zst").open("ab") as file:
        file.write(b"\x28\xb5\x2f\xfd half a frame")
    (root / TODAY / "kalshi.jsonl").write_bytes(lines_of(batch(b"3", at=2)))
    async with archive(compression="zstd") as storage:
        assert await read_all(storage) == [b"1", b"2", b"3"]
        await settle(storage)
        assert names(root) == ["kalshi.jsonl", "kalshi.jsonl.zst"]
        storage.append(batch(b"4", at=3))
        assert await read_all(storage) == [b"1", b"2", b"3", b"4"]
    assert names(root) == ["kalshi.jsonl.zst"]


async def test_compression_can_be_switched_at_every_start(archive, root, told, batch):
    for number, compression in enumerate(["none", "zstd", "none", "gzip", "zstd"]):
        async with archive(compression=compression) as storage:
            assert storage.mark() == Mark(
                f"{TODAY}/kalshi.jsonl", len(lines_of(*(batch(b"0", at=n) for n in range(number))))
            )
            storage.append(batch(b"%d" % number, at=number))
            assert await read_all(storage) == [b"%d" % n for n in range(number + 1)]
    assert names(root) == ["kalshi.jsonl.zst"], "a day keeps the form that it began with"
    storage = None
    async with archive(compression="none") as storage:
        assert await read_all(storage) == [b"0", b"1", b"2", b"3", b"4"]


async def test_what_was_left_halfway_is_finished_without_compression_too(archive, root, batch):
    (root / TODAY).mkdir(parents=True)
    (root / TODAY / "kalshi.jsonl.0.closing").write_bytes(lines_of(batch(b"1")))
    async with archive() as storage:
        storage.append(batch(b"2", at=1))
        await settle(storage)
        assert await read_all(storage) == [b"1", b"2"]
    assert names(root) == ["kalshi.jsonl", "kalshi.jsonl.zst"]


@pytest.mark.parametrize("compression", PACKED)
async def test_a_start_finds_the_last_receipt_time_in_a_compressed_day(
    archive, make, batch, noon, compression
):
    async with archive(compression=compression) as storage:
        storage.append(batch(*[b"{}"] * 50))
    storage = make()
    assert await storage.open() == noon + 49
    await storage.aclose()


async def test_a_disk_that_fails_while_a_part_closes_stops_no_append(
    archive, root, told, batch, monkeypatch
):
    async with archive(compression="zstd", part_bytes=100) as storage:
        with monkeypatch.context() as patch:

            def fail(*_):
                raise OSError(28, "No space left on device")

            patch.setattr(packing, "write_all", fail)
            for number in range(10):
                storage.append(batch(b"{}", at=number))
                await storage.sync()
            assert storage.health().ok
            assert ["cannot compress" in text for text in told.warnings] == [True]
            assert len(await read_all(storage)) == 10
    async with archive(compression="zstd") as storage:
        await settle(storage)
        assert len(await read_all(storage)) == 10
    assert names(root) == ["kalshi.jsonl.zst"]


# ── while it goes on ─────────────────────────────────────────────────────────────


async def test_many_parts_close_under_appends_and_syncs_and_readers_and_lose_nothing(
    archive, root, batch
):
    given, stop = [], anyio.Event()

    async def keep_syncing(storage):
        while not stop.is_set():
            await storage.sync()

    async def keep_reading(storage):
        while not stop.is_set():
            before = len(given)
            read = await read_all(storage)
            assert read[:before] == given[:before]
            assert read == given[: len(read)]

    async with archive(compression="zstd", part_bytes=2000) as storage:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(keep_syncing, storage)
            tasks.start_soon(keep_reading, storage)
            tasks.start_soon(keep_reading, storage)
            for day in range(3):
                for number in range(250):
                    given.append(b"%d" % (day * 1000 + number))
                    stream = Stream.REST if number % 7 == 0 else Stream.LIVE
                    at = day * DAY_NS + number * 2
                    storage.append(batch(given[-1], at=at, stream=stream))
                    await anyio.lowlevel.checkpoint()
            stop.set()
        assert await read_all(storage) == given
    assert not list(root.glob("*/*.closing"))
    assert not list(root.glob("*/*.jsonl"))
    async with archive() as storage:
        assert await read_all(storage) == given


async def test_a_reader_in_the_middle_of_a_day_is_not_disturbed_by_what_closes(
    archive, root, batch, monkeypatch
):
    from ssmd_sink_file.lines import blocks  # noqa: PLC0415  only its block size is wanted here

    monkeypatch.setattr(blocks, "BLOCK_BYTES", 200)
    given = [b"%d" % n for n in range(60)]
    async with archive(compression="zstd", part_bytes=1500) as storage:
        for number, frame in enumerate(given[:30]):
            storage.append(batch(frame, at=2 * number))
        read, following = [], 30
        async for part in storage.read(0, NOON + 2 * 59):
            read += part.frames
            if following < 60:
                storage.append(batch(given[following], at=2 * following))
                following += 1
            await settle(storage)
        assert read == given


async def test_appends_go_on_while_a_part_gets_its_name(archive, root, batch, monkeypatch):
    renamed, may_go_on = threading.Event(), threading.Event()
    real = packing.sync_directory

    def slow(path):
        renamed.set()
        assert may_go_on.wait(10)
        real(path)

    async with archive(compression="zstd", part_bytes=1) as storage:
        storage.append(batch(b"1"))
        monkeypatch.setattr(packing, "sync_directory", slow)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(storage.sync)
            await anyio.to_thread.run_sync(renamed.wait, 10)
            storage.append(batch(b"2", at=1))
            storage.append(batch(b"3", at=DAY_NS))  # and the day may turn meanwhile
            mark = storage.mark()
            assert await read_all(storage) == [b"1", b"2", b"3"]
            may_go_on.set()
        assert storage.mark() == mark
        await settle(storage)
        assert storage.health().ok
        assert await read_all(storage) == [b"1", b"2", b"3"]
    assert plain(root / TODAY / "kalshi.jsonl.zst") == lines_of(batch(b"1", b"2"))


async def test_the_mark_counts_plain_bytes_whatever_is_compressed(archive, batch):
    given = []
    async with archive(compression="zstd", part_bytes=500) as storage:
        for number in range(40):
            assert storage.mark() == Mark(f"{TODAY}/kalshi.jsonl", len(lines_of(*given)))
            given.append(batch(b'{"n":%d}' % number, at=number * 3))
            storage.append(given[-1])
            await storage.sync()
    async with archive() as storage:
        assert storage.mark() == Mark(f"{TODAY}/kalshi.jsonl", len(lines_of(*given)))


async def test_only_the_frames_asked_for_are_decompressed(archive, root, batch, monkeypatch):
    async with archive(compression="zstd") as storage:
        for number in range(400):
            storage.append(batch(b'"%s"' % (b"x" * 200), at=number * 2))
    size = (root / TODAY / "kalshi.jsonl.zst").stat().st_size
    from ssmd_sink_file.frames import codec  # noqa: PLC0415  only its reads are counted here

    read, real = [], codec.os.pread
    monkeypatch.setattr(
        codec.os, "pread", lambda fd, n, at: (data := real(fd, n, at), read.append(len(data)))[0]
    )
    async with archive() as storage:
        read.clear()
        assert len(await read_all(storage, NOON + 790, NOON + 798)) == 4
        first = sum(read)
        read.clear()
        assert len(await read_all(storage, NOON + 790, NOON + 798)) == 4
        assert sum(read) < first < size / 2, "what is known of the file is kept"


# ── damage, and what others do ───────────────────────────────────────────────────


async def test_a_removed_day_is_said_with_its_lines_and_begun_anew(archive, root, told, batch):
    async with archive(compression="zstd", part_bytes=200) as storage:
        storage.append(batch(*[b"{}"] * 9))
        await settle(storage)
        storage.append(batch(b"1", at=100))
        await storage.sync()
        shutil.rmtree(root / TODAY)
        storage.append(batch(b"2", b"3", at=200))
        with pytest.raises(StorageFailed, match="may be lost: 2"):
            await storage.sync()
        assert storage.mark() == Mark(f"{TODAY}/kalshi.jsonl", 0)
        storage.append(batch(b"4", at=300))
        await storage.sync()
        assert storage.health().ok
        assert await read_all(storage) == [b"4"]
    assert plain(root / TODAY / "kalshi.jsonl.zst") == lines_of(batch(b"4", at=300))


async def test_a_part_that_is_removed_on_its_way_is_let_go(archive, root, told, batch):
    async with archive(compression="zstd", part_bytes=200) as storage:
        storage.append(batch(*[b"{}"] * 40))
        await storage.sync()
        await storage.sync()
        (closing,) = root.glob("*/*.closing")
        closing.unlink()
        storage.append(batch(b"1", at=100))
        with anyio.fail_after(10):
            while len(told.warnings) < 1:
                await storage.sync()
        assert "cannot compress" in told.warnings[0]
        assert (await read_all(storage))[-1] == b"1"
        assert storage.health().ok
