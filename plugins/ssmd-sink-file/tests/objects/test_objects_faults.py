"""Spool disks that fill up, fail or vanish: nothing half written, and capture goes on by itself."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import resource
import shutil

import pytest

from ssmd_core.errors import StorageFailed
from ssmd_core.records import Stream
from ssmd_core.sink import Health
from ssmd_core.testing import until
from ssmd_sink_file.disk import files as file_operations
from ssmd_sink_file.disk import segments
from ssmd_sink_file.objects import parts

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
    real = file_operations.os.fsync
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
        with pytest.raises(StorageFailed, match=r"held 2 frames; .*may be lost: 1$"):
            await storage.sync()
        storage.append(batch(b"3", at=9))
        await storage.sync()
        assert storage.health() == Health(ok=True)
    assert memory.frames() == [b"3"]


async def test_all_files_of_a_removed_spool_are_named_frames_first_and_their_frames_declared(
    make, memory, batch, spool, told, ledger_line
):
    storage = make()
    written = []

    def lose(*loss):
        told.lost.append(loss)
        # As the host does: into the ledger, which was removed as well.
        storage.note(NOON + 20, ledger_line(20, "dropped"))
        written.append(loss)

    object.__setattr__(storage._context, "on_lost", lose)
    await storage.open()
    storage.note(NOON, ledger_line(0))
    storage.append(batch(b"1", b"2", at=1))
    await storage.sync()
    shutil.rmtree(spool)
    storage.append(batch(b"3", at=5))
    with pytest.raises(StorageFailed) as failed:
        await storage.sync()
    live, ledger = str(failed.value).split("; /")
    assert f"{DAY}/{NOON}.jsonl may not be durable" in live
    assert "held 3 frames" in live
    assert ".coverage.jsonl may not be durable" in ledger
    assert [loss[:3] for loss in told.lost] == [(3, NOON + 1, NOON + 5)]
    assert "removed from the spool" in told.lost[0][3]
    await storage.aclose()
    assert memory.frames() == []
    assert memory.lines("coverage.jsonl") == [ledger_line(20, "dropped")]


async def test_a_closed_part_that_is_removed_before_it_is_compressed_is_declared(
    archive, batch, told, spool, memory
):
    async with archive() as storage:
        storage.append(batch(b"1", b"2"))
        storage._parts.close_older(0)
        shutil.rmtree(spool / "kalshi")
        with contextlib.suppress(StorageFailed):
            await storage.sync()

        async def declared():
            await storage.sync()
            return told.lost

        await until(declared)
    assert [loss[:3] for loss in told.lost] == [(2, NOON, NOON + 1)]
    reasons = [fields["reason"] for event, fields in told.events if event == "sink_failed"]
    assert any("is gone before it was uploaded" in why and "2 frames" in why for why in reasons)


async def test_a_compressed_part_that_is_removed_before_its_upload_is_declared_unless_uploaded(
    s3_archive, bucket, proxy, batch, told, spool
):
    async with s3_archive(config={"endpoint_url": proxy.url}) as storage:
        storage.append(batch(b"0"))
        await storage.drain()
        await proxy.turn("503")
        storage.append(batch(b"1", b"2", at=5))
        storage._parts.close_older(0)

        async def refused():
            await storage.sync()
            return [event for event, _ in told.events if event == "sink_failed"]

        await until(refused)
        shutil.rmtree(spool / "kalshi")
        await proxy.turn("pass")

        async def declared():
            await storage.sync()
            return told.lost

        await until(declared)
    assert [loss[:3] for loss in told.lost] == [(2, NOON + 5, NOON + 6)]
    assert bucket.frames() == [b"0"]


# ── no room ──────────────────────────────────────────────────────────────────────


@pytest.fixture
def no_room(monkeypatch):
    """Let nothing be compressed on the disk, as if it were full; say how often that was tried."""
    real, tried = parts.pack, []

    def pack(source, out, compression):
        if isinstance(getattr(out, "name", None), int):
            tried.append(source)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return real(source, out, compression)

    monkeypatch.setattr(parts, "pack", pack)
    return tried


async def test_a_full_disk_keeps_no_part_from_the_store_and_gets_room_so(
    s3_archive, bucket, batch, told, files, no_room, tmp_path, monkeypatch
):
    def fill(storage):
        storage.append(batch(*(b'"%d"' % n for n in range(5000))))
        storage.append(batch(b"[1]", at=9000, stream=Stream.REST))

    async with s3_archive() as storage:
        fill(storage)
        await storage.drain()
        assert no_room
        held = await read_all(storage)
        assert len(held) == 5001, "catch-up reads what is not released"
        storage.release(EVER)
        await storage.sync()
        assert [name for name in files() if str(NOON) in name] == []
        assert await read_all(storage) == held, "and so does the next start"
    reported = {f["file"]: f["sha256"] for event, f in told.events if event == "rotated"}
    assert reported == {
        name: hashlib.sha256(bucket.get(name)).hexdigest()
        for name in bucket.names()
        if name.endswith(".zst")
    }
    assert [event for event, _ in told.events if event == "sink_failed"] == []
    told.events.clear()
    monkeypatch.undo()
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key-of-tests")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret-of-tests")
    async with s3_archive(config={"spool": str(tmp_path / "roomy")}) as storage:
        fill(storage)
    assert [event for event, _ in told.events if event == "sink_failed"] == [], "the same objects"


async def test_what_is_kept_for_the_next_start_goes_where_frames_find_no_room(
    archive, batch, kept, monkeypatch, ledger_line
):
    async with archive() as storage:
        storage.note(NOON, ledger_line(0))
        storage.append(batch(b"1"))
        await storage.drain()
        storage.release(EVER)
        await storage.sync()
        assert [name.split("/")[0] for name in kept()] == ["frames", "ledger"]

        def refuse(fd, data):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        with monkeypatch.context() as patch:
            patch.setattr(segments, "write_all", refuse)
            for at in range(5, 8):
                with pytest.raises(StorageFailed, match="ENOSPC"):
                    storage.append(batch(b"2", at=at))
                await storage.sync()
        assert [name.split("/")[0] for name in kept()] == ["ledger"]
        storage.append(batch(b"2", at=9))
        assert await read_all(storage) == [b"2"]


async def test_while_nothing_can_be_written_no_new_files_are_begun(
    archive, batch, files, monkeypatch
):
    now = [0.0]
    async with archive(config={"part_seconds": 1}, monotonic=lambda: now[0]) as storage:

        def refuse(fd, data):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        with monkeypatch.context() as patch:
            patch.setattr(segments, "write_all", refuse)
            for at in range(5):
                now[0] += 2
                with pytest.raises(StorageFailed):
                    storage.append(batch(b"1", at=at))
                await storage.sync()
                assert len(files()) == 1


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
