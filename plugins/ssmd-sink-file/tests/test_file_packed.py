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
from ssmd_sink_file import compress, packing
from ssmd_sink_file.compress import Compression, read_frames
from ssmd_sink_file.layout import LineWriter

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
    assert gzip.open(root / TODAY / "two.jsonl.gz").read().count(b"\n") == 30


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
