"""How long days are kept: the oldest go first, and only what nobody needs."""

from __future__ import annotations

import os

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ssmd_core.clock import day_of
from ssmd_core.records import Stream
from ssmd_sink_file.disk import volume
from ssmd_sink_file.lines.layout import Layout
from ssmd_sink_file.local import retention, upkeep
from ssmd_sink_file.local.retention import Expired, Reason, Retention, files_of, remove

NOON = 1_795_348_800_000_000_000
DAY_NS = 86_400_000_000_000
DAYS = [day_of(NOON + n * DAY_NS) for n in range(6)]
TODAY = DAYS[-1]
RELEASED = NOON + 5 * DAY_NS


def next_of(kept, days=DAYS, *, today=TODAY, released=RELEASED, free=None):
    return kept.next(days, today=today, released=released, free=free)


# ── the decision ─────────────────────────────────────────────────────────────────


def test_days_older_than_those_kept_go_oldest_first():
    kept, left, gone = Retention(keep_days=2), list(DAYS), []
    while expired := next_of(kept, left):
        gone.append(expired)
        left.remove(expired.day)
    assert gone == [Expired(day, Reason.KEEP_DAYS) for day in DAYS[:3]]
    assert left == DAYS[3:]


def test_without_a_limit_nothing_goes():
    assert next_of(Retention(), free=0) is None


def test_days_go_while_the_volume_is_short():
    kept = Retention(min_free_bytes=100)
    assert next_of(kept, free=99) == Expired(DAYS[0], Reason.MIN_FREE_BYTES)
    assert next_of(kept, free=100) is None
    assert next_of(kept, free=None) is None


@pytest.mark.parametrize("released", [0, NOON - DAY_NS, NOON])
def test_nothing_goes_that_is_not_wholly_released(released):
    assert next_of(Retention(keep_days=1, min_free_bytes=100), released=released, free=0) is None


@given(
    days=st.lists(st.integers(0, 40), unique=True),
    released=st.integers(0, 45 * DAY_NS),
    today=st.integers(0, 40),
    keep=st.none() | st.integers(1, 50),
    free=st.integers(0, 200),
)
def test_what_goes_is_the_oldest_over_and_passed_by_every_cursor(days, released, today, keep, free):
    names = [day_of(NOON + n * DAY_NS) for n in days]
    now, upto = day_of(NOON + today * DAY_NS), NOON + released
    expired = next_of(Retention(keep, 100), names, today=now, released=upto, free=free)
    if expired is not None:
        assert expired.day == min(names)
        assert expired.day < now
        assert expired.day < day_of(upto)
        assert free < 100 or today - days[names.index(expired.day)] > keep


def test_more_days_than_there_ever_were_keep_all():
    assert next_of(Retention(keep_days=10**6)) is None


# ── the files ────────────────────────────────────────────────────────────────────


OURS = [
    "kalshi.jsonl",
    "kalshi.jsonl.gz",
    "kalshi.jsonl.zst",
    "kalshi.jsonl.zst.torn",
    "kalshi.jsonl.17.closing",
    "kalshi.jsonl.0.closing.old",
    "kalshi.rest.jsonl",
    "kalshi.rest.jsonl.zst",
    "kalshi.torn",
    "kalshi.coverage.jsonl",
]
THEIRS = ["kalshi2.jsonl", "other.jsonl", "kalshi.csv", "kalshi.jsonl.bak", "xkalshi.jsonl"]


def test_only_files_of_the_feed_are_removed_and_the_ledger_is_the_last(tmp_path):
    (tmp_path / TODAY).mkdir()
    for name in OURS + THEIRS:
        (tmp_path / TODAY / name).write_bytes(b"12345")
    (tmp_path / TODAY / "kalshi.rest.jsonl.gz").mkdir()
    found = files_of(tmp_path, Layout("kalshi"), TODAY)
    assert sorted(found) == sorted((name, 5) for name in OURS)
    assert found[-1][0] == "kalshi.coverage.jsonl"
    remove(tmp_path, TODAY, [name for name, _ in found])
    left = sorted(path.name for path in (tmp_path / TODAY).iterdir())
    assert left == sorted([*THEIRS, "kalshi.rest.jsonl.gz"])


def test_an_empty_day_directory_goes_too(tmp_path):
    (tmp_path / TODAY).mkdir()
    (tmp_path / TODAY / "kalshi.jsonl").touch()
    remove(tmp_path, TODAY, ["kalshi.jsonl", "gone.before"])
    assert not (tmp_path / TODAY).exists()
    assert files_of(tmp_path, Layout("kalshi"), TODAY) == []


# ── in the archive ───────────────────────────────────────────────────────────────


async def fill(storage, batch, days=6):
    for day in range(days):
        storage.append(batch(b"%d" % day, at=day * DAY_NS))
        storage.append(batch(b"%d" % day, at=day * DAY_NS + 1, stream=Stream.REST))
        ts = b"%s.000000000+00:00" % f"{DAYS[day]}T12:00:00".encode()
        storage.note(NOON + day * DAY_NS + 2, b'{"ts":"%b"}' % ts)
    await sync_until_quiet(storage)


async def sync_until_quiet(storage):
    with anyio.fail_after(10):
        await storage.sync()
        while storage.is_busy:
            await storage.sync()
        for _ in range(8):  # a day a sync
            await storage.sync()


def days_in(root):
    return sorted(path.name for path in root.iterdir() if path.is_dir())


@pytest.fixture(autouse=True)
def no_timers(monkeypatch):
    """Look at every sync."""
    monkeypatch.setattr(upkeep, "_EXPIRY_SECONDS", 0.0)
    monkeypatch.setattr(upkeep, "_FREE_SECONDS", 0.0)


@pytest.mark.anyio
@pytest.mark.parametrize("compression", ["none", "zstd"])
async def test_days_that_were_kept_long_enough_go_and_stand_in_the_ledger(
    archive, root, told, batch, compression
):
    wall = lambda: NOON + 5 * DAY_NS  # noqa: E731  shorter than a function here
    async with archive(keep_days=2, compression=compression, wall_ns=wall) as storage:
        await fill(storage, batch)
        assert days_in(root) == DAYS, "nothing goes before it was released"
        sizes = {
            day: sum(size for _, size in files_of(root, Layout("kalshi"), day)) for day in DAYS
        }
        storage.release(NOON + DAY_NS + 5)
        await sync_until_quiet(storage)
        assert days_in(root) == DAYS[1:], "a day that a cursor has not passed stays"
        storage.release(RELEASED)
        storage.release(NOON)  # never takes back what was let go
        await sync_until_quiet(storage)
        assert days_in(root) == DAYS[3:]
        assert [fields for event, fields in told.events if event == "expired"] == [
            {"day": day, "files": 3, "bytes": sizes[day], "reason": "keep_days"} for day in DAYS[:3]
        ]
        assert [f async for b in storage.read(0, 1 << 62) for f in b.frames] == [
            b"3", b"3", b"4", b"4", b"5", b"5"
        ]  # fmt: skip


@pytest.mark.anyio
async def test_the_oldest_days_go_until_there_is_room(archive, root, told, batch, monkeypatch):
    free = {"bytes": 50}

    def free_bytes(_path):
        return free["bytes"] + 20 * (6 - len(days_in(root)))

    monkeypatch.setattr(upkeep, "free_bytes", free_bytes)
    wall = lambda: NOON + 5 * DAY_NS  # noqa: E731  shorter than a function here
    async with archive(min_free_bytes=100, wall_ns=wall) as storage:
        await fill(storage, batch)
        storage.release(RELEASED)
        await sync_until_quiet(storage)
        assert days_in(root) == DAYS[3:]
        reasons = {fields["reason"] for event, fields in told.events if event == "expired"}
        assert reasons == {"min_free_bytes"}
        free["bytes"] = -1000
        await sync_until_quiet(storage)
        assert days_in(root) == [TODAY], "today never goes"


@pytest.mark.anyio
async def test_a_wall_clock_that_runs_ahead_alone_makes_no_day_old(archive, root, batch):
    async with archive(keep_days=5, wall_ns=lambda: NOON + 400 * DAY_NS) as storage:
        await fill(storage, batch)
        storage.release(RELEASED)
        await sync_until_quiet(storage)
        assert days_in(root) == DAYS


@pytest.mark.anyio
async def test_another_feed_s_files_of_the_day_are_not_touched(archive, root, batch):
    wall = lambda: NOON + 5 * DAY_NS  # noqa: E731  shorter than a function here
    async with archive("other") as other:
        await fill(other, batch)
    async with archive(keep_days=1, wall_ns=wall) as storage:
        await fill(storage, batch)
        storage.release(RELEASED)
        await sync_until_quiet(storage)
    assert days_in(root) == DAYS
    assert sorted(path.name for path in (root / DAYS[0]).iterdir()) == [
        "other.coverage.jsonl",
        "other.jsonl",
        "other.rest.jsonl",
    ]


@pytest.mark.anyio
async def test_a_day_that_cannot_be_removed_is_told_and_tried_again(
    archive, root, told, batch, monkeypatch
):
    wall = lambda: NOON + 5 * DAY_NS  # noqa: E731  shorter than a function here
    real, refused = os.unlink, []

    def refuse(path, **options):
        if not refused:
            refused.append(path)
            raise PermissionError(1, "Operation not permitted")
        real(path, **options)

    async with archive(keep_days=4, wall_ns=wall) as storage:
        await fill(storage, batch)
        monkeypatch.setattr(retention.os, "unlink", refuse)
        storage.release(RELEASED)
        await sync_until_quiet(storage)
        assert days_in(root) == DAYS[1:]
    assert "EPERM" in told.warnings[0]
    assert [event for event, _ in told.events].count("expired") == 1, "said once"


@pytest.mark.anyio
async def test_free_space_is_measured_off_the_loop(archive, told, root, monkeypatch):
    assert told.metrics.archive_free_bytes is None
    async with archive() as storage:
        await storage.sync()
        status = os.statvfs(root)
        assert 0 < told.metrics.archive_free_bytes <= status.f_blocks * status.f_frsize

        def gone(_path):
            raise OSError(5, "Input/output error")

        monkeypatch.setattr(volume.os, "statvfs", gone)
        await storage.sync()
        assert told.metrics.archive_free_bytes is None
