"""Spool disks that fill up, fail or vanish: nothing half written, and capture goes on by itself."""

from __future__ import annotations

import contextlib
import errno
import os
import resource
import shutil

import pytest

from ssmd_core.errors import StorageFailed
from ssmd_core.sink import Health
from ssmd_core.testing import until
from ssmd_sink_file import files, segments

pytestmark = pytest.mark.anyio

NOON = 1_795_348_800_000_000_000
MIDNIGHT = 12 * 3_600_000_000_000
DAY = "2026-11-22"
EVER = 1 << 62


@contextlib.contextmanager
def no_file_larger_than(size):
    """Let the kernel refuse: a short write first, EFBIG next, as a full disk does."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


async def read_all(storage):
    return [frame async for batch in storage.read(0, EVER) for frame in batch.frames]


async def test_a_full_disk_keeps_whole_lines_and_takes_data_again_when_space_returns(
    archive, memory, batch, spool
):
    async with archive() as storage:
        storage.append(batch(b'"first"'))
        large = [b'"%s"' % (b"y" * 5000)] * 5
        with no_file_larger_than(12_000):
            for _ in range(3):
                with pytest.raises(StorageFailed, match="EFBIG"):
                    storage.append(batch(*large, at=10))
                assert "EFBIG" in storage.health().reason
            (path,) = spool.glob(f"kalshi/{DAY}/*.jsonl")
            assert path.read_bytes().endswith(b'"data":"first"}\n')
        storage.append(batch(*large, at=10))
        assert storage.health() == Health(ok=True)
        assert await read_all(storage) == [b'"first"', *large]
    assert memory.frames() == [b'"first"', *large]


async def test_a_batch_over_midnight_is_kept_whole_or_not_at_all(
    archive, memory, batch, monkeypatch
):
    async with archive() as storage:
        storage.append(batch(b"0", at=MIDNIGHT - 5))
        real, calls = segments.write_all, []

        def write_all(fd, data):
            calls.append(data)
            if len(calls) == 2:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            real(fd, data)

        monkeypatch.setattr(segments, "write_all", write_all)
        with pytest.raises(StorageFailed, match="ENOSPC"):
            storage.append(batch(b"1", b"2", at=MIDNIGHT - 1))
        assert await read_all(storage) == [b"0"]
        storage.append(batch(b"1", b"2", at=MIDNIGHT - 1))
    assert memory.frames() == [b"0", b"1", b"2"]


async def test_a_part_that_cannot_be_compressed_now_is_later(
    archive, memory, batch, told, monkeypatch
):
    real = files.os.fsync
    refuse = [True]

    def fsync(fd):
        if refuse[0]:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        real(fd)

    async with archive() as storage:
        storage.append(batch(b"1"))
        storage._parts.close_older(0)
        await storage.sync()
        monkeypatch.setattr(os, "fsync", fsync)
        storage.append(batch(b"2", at=5))
        storage._parts.close_older(0)
        with contextlib.suppress(StorageFailed):
            await storage.sync()

        async def told_of():
            with contextlib.suppress(StorageFailed):
                await storage.sync()
            return [event for event, _ in told.events if event == "sink_failed"]

        await until(told_of)
        assert await read_all(storage) == [b"1", b"2"]
        refuse[0] = False
    assert memory.frames() == [b"1", b"2"]


async def test_a_spool_that_is_removed_is_noticed_and_made_anew(archive, memory, batch, spool):
    async with archive() as storage:
        storage.append(batch(b"1"))
        await storage.sync()
        shutil.rmtree(spool)
        storage.append(batch(b"2", at=5))
        with pytest.raises(StorageFailed, match=r"durable: ENOENT.*may be lost: 1$"):
            await storage.sync()
        storage.append(batch(b"3", at=9))
        await storage.sync()
        assert storage.health() == Health(ok=True)
    assert memory.frames() == [b"3"]


async def test_a_failed_sync_is_told_and_the_next_one_is_on_a_fresh_descriptor(
    archive, memory, batch, monkeypatch
):
    real, calls = os.fdatasync, []

    def fdatasync(fd):
        calls.append(fd)
        if len(calls) == 1:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        real(fd)

    monkeypatch.setattr(os, "fdatasync", fdatasync)
    async with archive() as storage:
        storage.append(batch(b"1"))
        with pytest.raises(StorageFailed, match="EIO"):
            await storage.sync()
        assert "EIO" in storage.health().reason
        await storage.sync()
        assert storage.health() == Health(ok=True)
    assert memory.frames() == [b"1"]


async def test_an_append_before_the_start_or_after_the_end_is_refused(make, batch):
    storage = make()
    with pytest.raises(StorageFailed, match="not open"):
        storage.append(batch(b"1"))
    await storage.open()
    await storage.aclose()
    with pytest.raises(StorageFailed, match="not open"):
        storage.append(batch(b"1"))


async def test_parts_that_cannot_be_removed_are_told_once_and_removed_later(
    archive, batch, told, monkeypatch, files
):
    async with archive() as storage:
        storage.append(batch(b"1"))
        await storage.drain()
        told.warnings.clear()

        def refuse(*_args, **_options):
            raise OSError(errno.EACCES, os.strerror(errno.EACCES))

        with monkeypatch.context() as patch:
            patch.setattr(os, "unlink", refuse)
            storage.release(EVER)
            await storage.sync()
            await storage.sync()
        assert [warning for warning in told.warnings if "EACCES" in warning] == told.warnings
        assert len(told.warnings) == 1
        await storage.sync()
        assert files() == []
