"""Appending, days, durability: the archive as its host drives it."""

from __future__ import annotations

import hashlib
import os
import stat
import threading
from pathlib import Path

import anyio
import pytest

from ssmd_core.errors import StorageFailed, StorageUnusable
from ssmd_core.records import Stream
from ssmd_core.sink import Health, Mark
from ssmd_sink_file.config import LocalConfig
from ssmd_sink_file.disk import segments
from ssmd_sink_file.local import digest
from ssmd_sink_file.local.sink import LocalStorage

pytestmark = pytest.mark.anyio

DAY_NS = 86_400_000_000_000
TODAY, TOMORROW = "2026-11-22", "2026-11-23"
LEDGER_LINE = b'{"ts":"2026-11-22T12:00:00.000000000+00:00","event":"resumed"}'


def mode(path):
    return stat.S_IMODE(path.stat().st_mode)


# ── where things stand ───────────────────────────────────────────────────────────


async def test_each_stream_has_its_file(storage, root, batch, noon):
    storage.append(batch(b'{"live":1}'))
    storage.append(batch(b'{"rest":1}', at=1, stream=Stream.REST))
    storage.note(noon, LEDGER_LINE)
    assert b'"data":{"live":1}}\n' in (root / TODAY / "kalshi.jsonl").read_bytes()
    assert b'"data":{"rest":1}}\n' in (root / TODAY / "kalshi.rest.jsonl").read_bytes()
    assert (root / TODAY / "kalshi.coverage.jsonl").read_bytes() == LEDGER_LINE + b"\n"


async def test_a_ledger_line_stays_one_line(storage, root, noon):
    storage.note(noon, b'{"ts":\n"x"}')
    assert (root / TODAY / "kalshi.coverage.jsonl").read_bytes() == b'{"ts": "x"}\n'


@pytest.mark.parametrize("umask", [0o000, 0o077])
async def test_files_are_0640_and_directories_2750_whatever_the_umask(
    archive, root, batch, noon, umask
):
    before = os.umask(umask)
    try:
        async with archive() as storage:
            storage.append(batch(b"{}"))
            storage.note(noon, LEDGER_LINE)
            storage.save("cursor", b"1")
            made = {path.relative_to(root).as_posix(): mode(path) for path in root.rglob("*")}
    finally:
        os.umask(before)
    assert mode(root) == 0o2750
    assert made == {
        ".kalshi.lock": 0o640,
        ".kalshi.cursor": 0o640,
        TODAY: 0o2750,
        f"{TODAY}/kalshi.jsonl": 0o640,
        f"{TODAY}/kalshi.coverage.jsonl": 0o640,
    }


async def test_a_directory_of_the_operator_keeps_its_mode(archive, root):
    root.mkdir(mode=0o700)
    async with archive():
        assert mode(root) == 0o700


async def test_two_feeds_share_a_path(archive, root, batch):
    async with archive("kalshi") as one, archive("other") as two:
        one.append(batch(b"1"))
        two.append(batch(b"2"))
    assert (root / TODAY / "kalshi.jsonl").read_bytes().endswith(b'"feed":"kalshi","data":1}\n')
    assert (root / TODAY / "other.jsonl").read_bytes().endswith(b'"feed":"other","data":2}\n')


async def test_a_restart_appends_and_leaves_what_is_not_ours_alone(archive, root, batch):
    async with archive() as storage:
        storage.append(batch(b"1"))
    for foreign in (
        root / "notes.txt",
        root / TODAY / "kalshi.csv",
        root / "2026" / "kalshi.jsonl",
    ):
        foreign.parent.mkdir(exist_ok=True)
        foreign.write_bytes(b"no newline at the end")
    async with archive() as storage:
        storage.append(batch(b"2", at=1))
        assert [b async for b in storage.read(0, 1 << 62)] == [batch(b"1", b"2")]
    assert (root / "notes.txt").read_bytes() == b"no newline at the end"
    assert (root / TODAY / "kalshi.csv").read_bytes() == b"no newline at the end"
    assert (root / "2026" / "kalshi.jsonl").read_bytes() == b"no newline at the end"


async def test_what_is_appended_is_counted(storage, told, root, batch):
    storage.append(batch(b"{}", b"[]"))
    storage.append(batch())
    await storage.sync()
    assert told.metrics.archived == 2
    assert told.metrics.archived_bytes == (root / TODAY / "kalshi.jsonl").stat().st_size
    assert sum(told.metrics.archive_sync.buckets) == 1


async def test_an_archive_that_is_not_open_takes_nothing(make, archive, root, batch):
    with pytest.raises(StorageFailed, match="not open"):
        make().append(batch(b"{}"))
    async with archive() as storage:
        pass
    with pytest.raises(StorageFailed, match="not open"):
        storage.append(batch(b"{}"))


# ── the last receipt time ────────────────────────────────────────────────────────


async def test_an_empty_archive_begins_at_nothing(make):
    storage = make()
    assert await storage.open() == 0
    await storage.aclose()


@pytest.mark.parametrize("newest", ["live", "rest", "ledger"])
async def test_a_start_finds_the_last_receipt_time_of_all_streams(
    archive, make, batch, noon, newest
):
    at = {"live": 10, "rest": 10, "ledger": 10} | {newest: 30}
    async with archive() as storage:
        storage.append(batch(b"{}", b"{}", at=at["live"] - 1))
        storage.append(batch(b"{}", at=at["rest"], stream=Stream.REST))
        ts = f"2026-11-22T12:00:00.{at['ledger']:09d}+00:00".encode()
        storage.note(noon + at["ledger"], b'{"ts":"%b","event":"resumed"}' % ts)
    storage = make()
    assert await storage.open() == noon + 30
    await storage.aclose()


async def test_a_start_looks_past_damaged_lines_and_days(archive, make, root, batch, noon):
    async with archive() as storage:
        storage.append(batch(b"{}", at=7))
    with (root / TODAY / "kalshi.jsonl").open("ab") as file:
        file.write(b'{"ts":"2026-11\n\0\0\0\n')
    (root / TOMORROW).mkdir()
    (root / TOMORROW / "kalshi.jsonl").write_bytes(b"garbage\n")
    storage = make()
    assert await storage.open() == noon + 7
    await storage.aclose()


# ── days ─────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("stream", list(Stream))
async def test_a_finished_day_is_reported_with_what_its_file_holds(
    archive, told, root, batch, stream, monkeypatch
):
    monkeypatch.setattr(digest, "_BLOCK_BYTES", 64)
    monkeypatch.setattr(digest, "_SLICE_BYTES", 100)
    async with archive() as storage:
        storage.append(batch(b"1", b"2", stream=stream))
    async with archive() as storage:  # the file holds an earlier run's lines too
        storage.append(batch(b"3", at=5, stream=stream))
        storage.append(batch(b"4", at=DAY_NS, stream=stream))
        with anyio.fail_after(10):
            while not told.events:
                await storage.sync()
    name = "kalshi.jsonl" if stream is Stream.LIVE else "kalshi.rest.jsonl"
    path = root / TODAY / name
    told_by_coreutils = await anyio.run_process(["sha256sum", path])
    assert told.events == [
        (
            "rotated",
            {
                "file": f"{TODAY}/{name}",
                "lines": 3,
                "bytes": path.stat().st_size,
                "sha256": told_by_coreutils.stdout.split()[0].decode(),
            },
        )
    ]


async def test_a_restart_after_midnight_still_reports_the_day_before(archive, told, root, batch):
    async with archive() as storage:
        storage.append(batch(b"1"))
    async with archive() as storage:
        storage.append(batch(b"2", at=DAY_NS))
    ((event, fields),) = told.events
    assert (event, fields["file"]) == ("rotated", f"{TODAY}/kalshi.jsonl")
    assert fields["sha256"] == hashlib.sha256((root / fields["file"]).read_bytes()).hexdigest()


async def test_a_finished_day_of_the_ledger_is_not_reported(storage, told, noon):
    storage.note(noon, LEDGER_LINE)
    storage.note(noon + DAY_NS, LEDGER_LINE)
    await storage.sync()
    assert told.events == []


async def test_a_finished_file_that_is_gone_is_told_and_no_fault(storage, told, root, batch):
    storage.append(batch(b"1"))
    await storage.sync()
    (root / TODAY / "kalshi.jsonl").unlink()
    (root / TODAY).rmdir()
    storage.append(batch(b"2", at=DAY_NS))
    await storage.sync()
    await storage.sync()
    assert ["cannot say what" in warning for warning in told.warnings] == [True]
    assert storage.health().ok


async def test_a_batch_over_midnight_stands_in_both_days(storage, root, batch):
    half_day = DAY_NS // 2
    storage.append(batch(b"1", b"2", b"3", at=half_day - 2))
    assert (root / TODAY / "kalshi.jsonl").read_bytes().count(b"\n") == 2
    assert (root / TOMORROW / "kalshi.jsonl").read_bytes().count(b"\n") == 1


async def test_a_batch_over_midnight_is_kept_whole_or_not_at_all(storage, told, root, batch):
    half_day = DAY_NS // 2
    storage.append(batch(b"0"))
    before = (root / TODAY / "kalshi.jsonl").read_bytes()
    (root / TOMORROW).write_bytes(b"in the way")
    with pytest.raises(StorageFailed, match="ENOTDIR"):
        storage.append(batch(b"1", b"2", b"3", at=half_day - 2))
    assert (root / TODAY / "kalshi.jsonl").read_bytes() == before
    assert told.metrics.archived == 1
    (root / TOMORROW).unlink()
    storage.append(batch(b"1", b"2", b"3", at=half_day - 2))
    assert [b async for b in storage.read(0, 1 << 62)] == [
        batch(b"0"),
        batch(b"1", b"2", at=half_day - 2),
        batch(b"3", at=half_day),
    ]


async def test_descriptors_of_finished_days_are_given_back(storage, batch, noon):
    def descriptors():
        return len(list(Path("/proc/self/fd").iterdir()))

    storage.append(batch(b"0"))
    storage.note(noon, LEDGER_LINE)
    await storage.sync()
    before = descriptors()
    for day in range(1, 20):
        storage.append(batch(b"0", at=day * DAY_NS))
        storage.note(noon + day * DAY_NS, LEDGER_LINE)
        await storage.sync()
    assert descriptors() == before


# ── marks ────────────────────────────────────────────────────────────────────────


async def test_the_mark_is_where_the_next_frame_stands(storage, root, batch):
    assert storage.mark() == Mark(f"{TODAY}/kalshi.jsonl", 0)
    storage.append(batch(b"1"))
    offset = (root / TODAY / "kalshi.jsonl").stat().st_size
    assert storage.mark() == Mark(f"{TODAY}/kalshi.jsonl", offset)


async def test_the_mark_of_a_restart_is_the_end_of_the_file(archive, root, batch):
    async with archive() as storage:
        storage.append(batch(b"1"))
    async with archive() as storage:
        size = (root / TODAY / "kalshi.jsonl").stat().st_size
        assert storage.mark() == Mark(f"{TODAY}/kalshi.jsonl", size)


async def test_the_mark_follows_the_wall_clock_over_midnight(archive, batch, noon):
    wall = [noon]
    async with archive(wall_ns=lambda: wall[0]) as storage:
        storage.append(batch(b"1"))
        wall[0] += DAY_NS
        assert storage.mark() == Mark(f"{TOMORROW}/kalshi.jsonl", 0)


async def test_the_mark_of_a_restart_follows_receipt_time_too(archive, batch):
    async with archive() as storage:
        storage.append(batch(b"1", at=DAY_NS))
    async with archive() as storage:
        assert storage.mark().file == f"{TOMORROW}/kalshi.jsonl"
        assert storage.mark().offset > 0


async def test_the_mark_follows_receipt_time_where_that_is_ahead(storage, batch):
    storage.append(batch(b"1", at=DAY_NS))
    assert storage.mark().file == f"{TOMORROW}/kalshi.jsonl"
    assert storage.mark().offset > 0


# ── durability ───────────────────────────────────────────────────────────────────


async def test_a_sync_reaches_the_disk_for_every_stream(storage, batch, noon, monkeypatch):
    synced = []
    real = os.fdatasync
    monkeypatch.setattr(
        segments.os, "fdatasync", lambda fd: (synced.append(os.fstat(fd).st_ino), real(fd))
    )
    storage.append(batch(b"1"))
    storage.append(batch(b"2", at=1, stream=Stream.REST))
    storage.note(noon, LEDGER_LINE)
    await storage.sync()
    assert sorted(synced) == sorted(
        (storage.root / TODAY / f"kalshi{end}").stat().st_ino
        for end in (".jsonl", ".rest.jsonl", ".coverage.jsonl")
    )
    await storage.sync()
    assert len(synced) == 3, "what is durable is not synced again"


async def test_appends_go_on_while_a_sync_runs(storage, batch, monkeypatch):
    began, may_end = threading.Event(), threading.Event()
    real = os.fdatasync

    def slow(fd):
        began.set()
        assert may_end.wait(10)
        real(fd)

    monkeypatch.setattr(segments.os, "fdatasync", slow)
    storage.append(batch(b"1"))
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(storage.sync)
        await anyio.to_thread.run_sync(began.wait, 10)
        storage.append(batch(b"2", at=1))
        storage.append(batch(b"3", at=DAY_NS))  # and the day may turn under it
        may_end.set()
    await storage.sync()
    assert [b async for b in storage.read(0, 1 << 62)] == [
        batch(b"1", b"2"),
        batch(b"3", at=DAY_NS),
    ]


async def test_what_is_appended_during_a_sync_is_synced_by_the_next(storage, batch, monkeypatch):
    real, synced = os.fdatasync, []

    def append_meanwhile(fd):
        if not synced:
            anyio.from_thread.run_sync(storage.append, batch(b"2", at=1))
        synced.append(fd)
        real(fd)

    monkeypatch.setattr(segments.os, "fdatasync", append_meanwhile)
    storage.append(batch(b"1"))
    await storage.sync()
    await storage.sync()
    assert len(synced) == 2


async def test_a_day_that_ends_during_a_sync_is_synced_before_it_is_closed(
    storage, root, batch, monkeypatch
):
    real, synced = os.fdatasync, []

    def end_the_day_meanwhile(fd):
        if not synced:
            anyio.from_thread.run_sync(storage.append, batch(b"2", at=1))
            anyio.from_thread.run_sync(storage.append, batch(b"3", at=DAY_NS))
        synced.append(os.fstat(fd).st_ino)
        real(fd)

    monkeypatch.setattr(segments.os, "fdatasync", end_the_day_meanwhile)
    storage.append(batch(b"1"))
    await storage.sync()
    await storage.sync()
    today, tomorrow = ((root / day / "kalshi.jsonl").stat().st_ino for day in (TODAY, TOMORROW))
    assert synced == [today, today, tomorrow]


async def test_syncs_wait_for_each_other(storage, batch, monkeypatch):
    real, running, most = os.fdatasync, [], []

    def count(fd):
        running.append(fd)
        most.append(len(running))
        anyio.from_thread.run_sync(storage.append, batch(b"1", at=len(most)))
        real(fd)
        running.pop()

    monkeypatch.setattr(segments.os, "fdatasync", count)
    storage.append(batch(b"1"))
    async with anyio.create_task_group() as tasks:
        for _ in range(4):
            tasks.start_soon(storage.sync)
    assert most == [1, 1, 1, 1]


async def test_the_name_of_a_new_file_is_made_durable_once(storage, root, batch, monkeypatch):
    real, synced = os.fsync, []

    def record(fd):
        synced.append(Path(f"/proc/self/fd/{fd}").readlink())
        real(fd)

    monkeypatch.setattr(segments.os, "fsync", record)
    for number in range(3):
        storage.append(batch(b"1", at=number))
        await storage.sync()
    assert synced == [root / TODAY, root]


async def test_many_syncs_and_appends_and_days_at_once_lose_nothing(storage, root, batch):
    async def keep_syncing(stop):
        while not stop.is_set():
            await storage.sync()

    frames, stop = [], anyio.Event()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(keep_syncing, stop)
        tasks.start_soon(keep_syncing, stop)
        for day in range(5):
            for number in range(50):
                frames.append(b"%d" % (day * 100 + number))
                storage.append(batch(frames[-1], at=day * DAY_NS + number * 10))
                await anyio.lowlevel.checkpoint()
        stop.set()
    assert [f async for b in storage.read(0, 1 << 62) for f in b.frames] == frames
    assert storage.health() == Health(ok=True)


# ── opening ──────────────────────────────────────────────────────────────────────


async def test_a_path_that_is_no_directory_is_unusable(make, root):
    root.write_bytes(b"a file")
    with pytest.raises(StorageUnusable, match=r"cannot write to the archive .*ENOTDIR.*path"):
        await make().open()


async def test_a_directory_that_cannot_be_made_is_unusable(told):
    storage = LocalStorage(told.context(), LocalConfig(path="/proc/nothing/here"))
    with pytest.raises(StorageUnusable, match="/proc/nothing/here"):
        await storage.open()


async def test_closing_twice_is_no_fault(storage, batch):
    storage.append(batch(b"1"))
    await storage.aclose()
    await storage.aclose()
