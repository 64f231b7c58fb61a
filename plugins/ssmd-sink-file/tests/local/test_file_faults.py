"""Disks that fill up, fail or vanish: nothing half written, and capture goes on by itself."""

from __future__ import annotations

import contextlib
import errno
import os
import resource
import shutil
import subprocess
from pathlib import Path

import pytest

from ssmd_core.errors import StorageFailed
from ssmd_core.sink import Health
from ssmd_sink_file.disk import files, segments

pytestmark = pytest.mark.anyio

TODAY = "2026-11-22"
DAY_NS = 86_400_000_000_000
LIVE = f"{TODAY}/kalshi.jsonl"


async def read_all(storage):
    return [frame async for batch in storage.read(0, 1 << 62) for frame in batch.frames]


@contextlib.contextmanager
def no_file_larger_than(size):
    """Let the kernel refuse: a short write first, EFBIG next, as a full disk does."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.fixture
def small_disk(tmp_path):
    """A real file system of 64 KiB where we may mount one."""
    point = tmp_path / "small"
    point.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", point], check=False, capture_output=True
    )
    if mounted.returncode:
        pytest.skip("only root may mount a file system; the other tests here need no mount")
    yield point
    subprocess.run(["umount", "-l", point], check=True)


def fill(ballast):
    """Write until the disk is full."""
    with contextlib.suppress(OSError), ballast.open("wb", buffering=0) as file:
        while file.write(b"x" * 4096):
            pass


def failing(real, error_number, *, after=0):
    """Return a function that works ``after`` times and then fails."""
    calls = []

    def call(*args):
        calls.append(args)
        if len(calls) <= after:
            return real(*args)
        raise OSError(error_number, os.strerror(error_number))

    return call


def fails_once(error_number):
    calls = []

    def call(fd):
        calls.append(fd)
        if len(calls) == 1:
            raise OSError(error_number, os.strerror(error_number))

    return call


# ── full ─────────────────────────────────────────────────────────────────────────


async def test_a_full_disk_keeps_whole_lines_and_takes_data_again_when_space_returns(
    small_disk, archive_at, batch
):
    ballast = small_disk / "ballast"
    async with archive_at(small_disk / "archive") as storage:
        path = small_disk / "archive" / LIVE
        storage.append(batch(b'"first"'))
        ballast.write_bytes(b"x" * 40_000)
        large = [b'"%s"' % (b"y" * 5000)] * 5
        for _ in range(3):
            with pytest.raises(StorageFailed, match=r"ENOSPC \(No space left on device\)"):
                storage.append(batch(*large, at=10))
            assert path.read_bytes().endswith(b'"data":"first"}\n')
            assert "ENOSPC" in storage.health().reason
        ballast.unlink()
        storage.append(batch(*large, at=10))
        assert storage.health() == Health(ok=True)
        await storage.sync()
        assert await read_all(storage) == [b'"first"', *large]


async def test_a_start_on_a_full_disk_waits_for_space(small_disk, archive_at, told, batch):
    root = small_disk / "archive"
    async with archive_at(root) as storage:
        storage.append(batch(b'"first"'))
    with (root / LIVE).open("ab") as file:
        file.write(b'{"ts":"2026')
    ballast = small_disk / "ballast"
    fill(ballast)
    async with archive_at(root) as storage:
        assert "capture waits for it" in told.warnings[0]
        assert "cannot mend the end of" in told.warnings[1]
        with pytest.raises(StorageFailed, match="ENOSPC"):
            storage.append(batch(b"2", at=5))
        ballast.unlink()
        storage.append(batch(b"2", at=5))
        assert await read_all(storage) == [b'"first"', b"2"]
        assert (root / TODAY / "kalshi.torn").read_bytes() == b'{"ts":"2026\n'


async def test_a_write_that_the_kernel_cuts_short_leaves_nothing(storage, root, batch):
    storage.append(batch(b'"first"'))
    with no_file_larger_than(50_000), pytest.raises(StorageFailed, match="EFBIG"):
        storage.append(batch(b'"%s"' % (b"y" * 60_000), at=1))
    assert (root / LIVE).stat().st_size < 100
    storage.append(batch(b'"next"', at=1))
    assert await read_all(storage) == [b'"first"', b'"next"']


@pytest.mark.parametrize("cut_fails", [False, True])
async def test_whatever_part_was_written_is_cut_off_again(
    storage, root, batch, monkeypatch, cut_fails
):
    path, real = root / LIVE, os.write
    storage.append(batch(b'"first"'))
    before = path.read_bytes()
    line_bytes = len(before)
    for kept in range(0, 2 * line_bytes, 7):

        def short(fd, data, kept=kept, calls=[]):  # noqa: B006  one list a round is meant
            calls.append(1)
            if len(calls) % 2:
                return real(fd, bytes(data)[:kept])
            raise OSError(errno.ENOSPC, "No space left on device")

        with monkeypatch.context() as patch:
            patch.setattr(files.os, "write", short)
            if cut_fails:
                patch.setattr(segments.os, "ftruncate", failing(None, errno.EIO))
            with pytest.raises(StorageFailed):
                storage.append(batch(b'"other"', b'"other"', at=1))
        if not cut_fails:
            assert path.read_bytes() == before
        assert await read_all(storage) == [b'"first"'], "a reader never sees what failed"
    storage.append(batch(b'"next"', at=1))
    assert path.read_bytes().startswith(before + b'{"ts":"')
    assert await read_all(storage) == [b'"first"', b'"next"']


async def test_a_tail_that_cannot_be_cut_takes_no_further_frame(storage, batch, monkeypatch):
    storage.append(batch(b'"first"'))
    with monkeypatch.context() as patch:
        patch.setattr(segments.os, "ftruncate", failing(None, errno.EIO))
        with patch.context() as writing:
            real = os.write
            calls = []

            def short(fd, data):
                calls.append(1)
                if len(calls) > 1:
                    raise OSError(errno.ENOSPC, "No space left on device")
                return real(fd, bytes(data)[:9])

            writing.setattr(files.os, "write", short)
            with pytest.raises(StorageFailed, match="ENOSPC"):
                storage.append(batch(b'"second"', at=1))
        with pytest.raises(StorageFailed, match="EIO"):
            storage.append(batch(b'"second"', at=1))
        with pytest.raises(StorageFailed, match="EIO"):
            await storage.sync()
    storage.append(batch(b'"second"', at=1))
    await storage.sync()
    assert await read_all(storage) == [b'"first"', b'"second"']


async def test_a_day_whose_file_takes_nothing_leaks_no_descriptor(storage, batch, monkeypatch):
    def descriptors():
        return len(list(Path("/proc/self/fd").iterdir()))

    storage.append(batch(b"1"))
    with monkeypatch.context() as patch:
        patch.setattr(files.os, "write", failing(None, errno.ENOSPC))
        for day in range(1, 10):
            with pytest.raises(StorageFailed, match="ENOSPC"):
                storage.append(batch(b"2", at=day * DAY_NS))
            if day == 1:
                before = descriptors()
    assert descriptors() == before


# ── sync failures ────────────────────────────────────────────────────────────────


async def test_after_a_failed_sync_the_descriptor_is_never_used_again(
    storage, root, batch, monkeypatch
):
    opened, real = [], os.open
    monkeypatch.setattr(files.os, "open", lambda *args: opened.append(args[0]) or real(*args))
    storage.append(batch(b"1"))
    with monkeypatch.context() as patch:
        patch.setattr(segments.os, "fdatasync", failing(None, errno.EIO))
        with pytest.raises(StorageFailed, match=r"kalshi\.jsonl may not be durable: EIO"):
            await storage.sync()
    assert opened.count(root / LIVE) == 3, "tried exclusively, then as it stands, after the first"
    assert storage.sync_failures == 1
    assert "EIO" in storage.health().reason
    storage.append(batch(b"2", at=1))
    assert not storage.health().ok, "an append says nothing of durability"
    await storage.sync()
    assert storage.health() == Health(ok=True)
    assert await read_all(storage) == [b"1", b"2"]


async def test_a_sync_after_a_failed_one_is_a_real_one(storage, batch, monkeypatch):
    storage.append(batch(b"1"))
    with monkeypatch.context() as patch:
        patch.setattr(segments.os, "fdatasync", failing(None, errno.EIO))
        for _ in range(3):
            with pytest.raises(StorageFailed):
                await storage.sync()
    assert storage.sync_failures == 3
    await storage.sync()
    assert storage.health().ok


async def test_one_failing_file_does_not_keep_the_others_from_the_disk(
    storage, batch, noon, monkeypatch
):
    real, synced = os.fdatasync, []

    def fail_once(fd):
        synced.append(os.fstat(fd).st_ino)
        if len(synced) == 1:
            raise OSError(errno.EIO, "Input/output error")
        real(fd)

    monkeypatch.setattr(segments.os, "fdatasync", fail_once)
    storage.append(batch(b"1"))
    storage.note(noon, b"{}")
    with pytest.raises(StorageFailed):
        await storage.sync()
    assert len(set(synced)) == 2


async def test_closing_with_a_failed_sync_says_so_and_lets_go(make, archive, batch, monkeypatch):
    storage = make()
    await storage.open()
    storage.append(batch(b"1"))
    with monkeypatch.context() as patch:
        patch.setattr(segments.os, "fdatasync", failing(None, errno.EIO))
        with pytest.raises(StorageFailed, match="EIO"):
            await storage.aclose()
    async with archive() as storage:
        assert await read_all(storage) == [b"1"]


# ── vanished, replaced, refused ──────────────────────────────────────────────────


async def test_a_directory_removed_under_us_is_declared_and_made_anew(storage, root, told, batch):
    storage.append(batch(b"1"))
    await storage.sync()
    shutil.rmtree(root)
    storage.append(batch(b"2", at=1))
    with pytest.raises(StorageFailed, match="may not be durable: ENOENT"):
        await storage.sync()
    storage.append(batch(b"3", at=2))
    await storage.sync()
    assert storage.health() == Health(ok=True)
    assert await read_all(storage) == [b"3"]
    assert (root / ".kalshi.lock").exists(), "the lock is taken anew with the directory"


async def test_every_file_that_was_removed_is_named_and_the_frames_in_it_are_declared(
    storage, root, told, batch, noon
):
    storage.note(noon, b'{"ts":"2026-11-22T12:00:00.000000000+00:00"}')
    storage.append(batch(b"1", b"2"))
    await storage.sync()
    shutil.rmtree(root)
    storage.append(batch(b"3", b"4", at=5))
    storage.append(batch(b"5", at=9))
    with pytest.raises(StorageFailed) as failed:
        await storage.sync()
    frames, ledger = str(failed.value).split("; /")
    assert "kalshi.jsonl may not be durable" in frames
    assert frames.endswith("may be lost: 3")
    assert "kalshi.coverage.jsonl may not be durable" in ledger
    assert [loss[:3] for loss in told.lost] == [(3, noon + 5, noon + 9)]


async def test_of_frames_in_a_file_that_was_moved_away_nobody_says_that_they_are_lost(
    storage, root, told, batch
):
    storage.append(batch(b"1"))
    root.rename(root.with_name("elsewhere"))
    with pytest.raises(StorageFailed, match="may be lost: 1"):
        await storage.sync()
    assert told.lost == []


async def test_a_quiet_feed_is_well_again_without_a_frame(storage, root, batch, monkeypatch):
    storage.append(batch(b"1"))
    storage.append(batch(b"2", at=DAY_NS))
    with monkeypatch.context() as patch:
        # The finished day fails: its file is closed, so that nothing is left to sync.
        patch.setattr(segments.os, "fdatasync", fails_once(errno.EIO))
        with pytest.raises(StorageFailed, match=TODAY):
            await storage.sync()
    await storage.sync()
    assert storage.health() == Health(ok=True)


async def test_a_file_replaced_under_us_is_declared_and_gone_on_with(storage, root, batch):
    storage.append(batch(b"1"))
    await storage.sync()
    (root / LIVE).rename(root / "elsewhere")
    (root / LIVE).write_bytes(b"of somebody else\n")
    storage.append(batch(b"2", at=1))
    with pytest.raises(StorageFailed, match="removed, replaced or cut short"):
        await storage.sync()
    storage.append(batch(b"3", at=2))
    assert (root / LIVE).read_bytes().startswith(b"of somebody else\n{")
    assert (root / LIVE).read_bytes().endswith(b'"data":3}\n')


async def test_a_file_cut_short_under_us_is_mended_before_it_is_gone_on_with(
    storage, root, told, batch
):
    storage.append(batch(b'"first"', b'"second"'))
    await storage.sync()
    with (root / LIVE).open("r+b") as file:
        file.truncate(100)
    storage.append(batch(b"3", at=3))
    with pytest.raises(StorageFailed, match="cut short"):
        await storage.sync()
    storage.append(batch(b"4", at=4))
    await storage.sync()
    lines = (root / LIVE).read_bytes().splitlines()
    assert lines[0].endswith(b'"data":"first"}')
    assert lines[-1].endswith(b'"data":4}')


async def test_a_lock_taken_by_another_meanwhile_stops_our_appends(
    storage, archive, root, told, batch
):
    storage.append(batch(b"1"))
    shutil.rmtree(root)
    async with archive() as other:
        other.append(batch(b'"other"'))
        with pytest.raises(StorageFailed):
            await storage.sync()
        with pytest.raises(StorageFailed, match=f"is held by pid {os.getpid()}"):
            storage.append(batch(b"2", at=1))
        assert await read_all(other) == [b'"other"']
    storage.append(batch(b"2", at=1))
    assert "ESTALE (removed, replaced or cut short by somebody else)" in storage.health().reason
    await storage.sync()
    assert storage.health().ok


async def test_what_stands_in_the_way_fails_every_append_until_it_is_gone(storage, root, batch):
    (root / TODAY).write_bytes(b"a file where the day should be")
    for _ in range(3):
        with pytest.raises(StorageFailed, match="ENOTDIR"):
            storage.append(batch(b"1"))
        assert "ENOTDIR" in storage.health().reason
    (root / TODAY).unlink()
    storage.append(batch(b"1"))
    assert storage.health().ok


@pytest.mark.parametrize("refusal", [errno.EROFS, errno.EACCES, errno.EMFILE])
async def test_a_refused_open_fails_every_append_until_it_is_allowed(
    storage, batch, monkeypatch, refusal
):
    with monkeypatch.context() as patch:
        patch.setattr(files.os, "open", failing(None, refusal))
        for _ in range(3):
            with pytest.raises(StorageFailed, match=errno.errorcode[refusal]):
                storage.append(batch(b"1"))
    storage.append(batch(b"1"))
    assert await read_all(storage) == [b"1"]


async def test_a_healthy_ledger_does_not_hide_a_failing_file(storage, root, batch, noon):
    (root / LIVE).mkdir(parents=True)
    with pytest.raises(StorageFailed, match="EISDIR"):
        storage.append(batch(b"1"))
    storage.note(noon, b"{}")
    assert "EISDIR" in storage.health().reason
