"""Finished days that no ledger speaks of: the next start makes up for a short stop."""

from __future__ import annotations

import hashlib

import anyio
import msgspec
import pytest

from ssmd_core.clock import day_of, iso
from ssmd_sink_file.lines.layout import Kind, Layout
from ssmd_sink_file.local.rotated import unreported

NOON = 1_795_348_800_000_000_000
DAY_NS = 86_400_000_000_000
DAYS = [day_of(NOON + n * DAY_NS) for n in range(12)]
LAYOUT = Layout("kalshi")


def make_day(root, day, *names):
    (root / day).mkdir(parents=True, exist_ok=True)
    for name in names:
        (root / day / name).write_bytes(b"x\n")


def say(root, day, *files):
    """Write ``rotated`` lines into the ledger of a day."""
    lines = [{"ts": iso(NOON), "event": "rotated", "file": file} for file in files]
    with (root / day / "kalshi.coverage.jsonl").open("ab") as ledger:
        for line in lines:
            ledger.write(msgspec.json.encode(line) + b"\n")


def test_days_that_no_later_ledger_speaks_of_are_found(tmp_path):
    for day in DAYS[:4]:
        make_day(tmp_path, day, "kalshi.jsonl", "kalshi.coverage.jsonl")
    make_day(tmp_path, DAYS[2], "kalshi.rest.jsonl")
    say(tmp_path, DAYS[1], f"{DAYS[0]}/kalshi.jsonl")
    say(tmp_path, DAYS[3], f"{DAYS[2]}/kalshi.rest.jsonl")
    over, reported = unreported(tmp_path, LAYOUT, DAYS[:4], DAYS[3])
    assert over == [(DAYS[1], Kind.LIVE), (DAYS[2], Kind.LIVE)]
    assert f"{DAYS[0]}/kalshi.jsonl" in reported


def test_a_day_is_reported_as_it_lies(tmp_path):
    make_day(tmp_path, DAYS[0], "kalshi.jsonl.zst", "kalshi.coverage.jsonl")
    say(tmp_path, DAYS[0], f"{DAYS[0]}/kalshi.jsonl")
    assert unreported(tmp_path, LAYOUT, DAYS[:1], DAYS[1])[0] == [(DAYS[0], Kind.LIVE)]
    say(tmp_path, DAYS[0], f"{DAYS[0]}/kalshi.jsonl.zst")
    assert unreported(tmp_path, LAYOUT, DAYS[:1], DAYS[1])[0] == []


def test_what_is_older_than_a_week_is_left_alone(tmp_path):
    for day in DAYS:
        make_day(tmp_path, day, "kalshi.jsonl")
    over, _ = unreported(tmp_path, LAYOUT, DAYS, DAYS[-1])
    assert [day for day, _ in over] == DAYS[4:-1]


def test_damaged_ledger_lines_are_passed_over(tmp_path):
    make_day(tmp_path, DAYS[0], "kalshi.jsonl")
    ledger = tmp_path / DAYS[0] / "kalshi.coverage.jsonl"
    ledger.write_bytes(b'{"event":"rotated"\n\0\0"rotated"\n{"event":"gap","why":"rotated"}\n')
    assert unreported(tmp_path, LAYOUT, DAYS[:1], DAYS[1])[0] == [(DAYS[0], Kind.LIVE)]


@pytest.mark.anyio
@pytest.mark.parametrize("compression", ["none", "zstd"])
async def test_a_start_reports_a_day_that_the_last_run_did_not(
    archive, root, told, batch, compression
):
    async with archive() as storage:
        storage.append(batch(b"1", b"2"))
    async with archive(compression=compression, wall_ns=lambda: NOON + DAY_NS) as storage:
        with anyio.fail_after(10):
            while not told.events:
                await storage.sync()
        ((event, fields),) = told.events
        end = ".zst" if compression == "zstd" else ""
        path = root / DAYS[0] / f"kalshi.jsonl{end}"
        assert (event, fields["file"], fields["lines"]) == (
            "rotated", f"{DAYS[0]}/kalshi.jsonl{end}", 2
        )  # fmt: skip
        assert fields["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
        say(root, DAYS[0], fields["file"])
        storage.append(batch(b"3", at=DAY_NS))
        await storage.sync()
    assert len(told.events) == 1, "a day that was reported is not reported again by midnight"
    async with archive(compression=compression, wall_ns=lambda: NOON + DAY_NS) as storage:
        await storage.sync()
    assert len(told.events) == 1, "nor by a start that finds it in the ledger"


@pytest.mark.anyio
async def test_a_day_that_went_on_is_reported_anew(archive, told, batch):
    """A clock that was ahead at the start: the day seemed over, and was not."""
    async with archive() as storage:
        storage.append(batch(b"1"))
    async with archive(wall_ns=lambda: NOON + DAY_NS) as storage:
        while not told.events:
            await storage.sync()
        storage.append(batch(b"2", at=1))
        storage.append(batch(b"3", at=DAY_NS))
    assert [fields["lines"] for _, fields in told.events] == [1, 2]


@pytest.mark.anyio
async def test_a_ledger_that_cannot_be_read_stops_no_start(archive, root, told, batch):
    async with archive() as storage:
        for day in range(3):
            storage.append(batch(b"1", at=day * DAY_NS))
    told.events.clear()
    (root / DAYS[0] / "kalshi.coverage.jsonl").mkdir()
    async with archive(wall_ns=lambda: NOON + 3 * DAY_NS) as storage:
        storage.append(batch(b"2", at=3 * DAY_NS))
    assert "cannot tell which days are reported: EISDIR" in told.warnings[0]
    assert [fields["file"] for _, fields in told.events] == [f"{DAYS[2]}/kalshi.jsonl"]


@pytest.mark.anyio
@pytest.mark.parametrize("tail", [b'{"ts":"2026', bytes(300)])
async def test_a_corrupt_tail_of_the_ledger_is_set_aside_counted_and_told(
    archive, root, told, noon, tail
):
    line = b'{"ts":"2026-11-22T12:00:00.000000000+00:00","event":"gap"}'
    async with archive() as storage:
        storage.note(noon, line)
    ledger = root / DAYS[0] / "kalshi.coverage.jsonl"
    with ledger.open("ab") as file:
        file.write(tail)
    async with archive() as storage:
        storage.note(noon + 1, line.replace(b"000000000", b"000000001"))
        assert [note async for _, note in storage.notes(0, 1 << 62)] == [
            line, line.replace(b"000000000", b"000000001")
        ]  # fmt: skip
    assert (root / DAYS[0] / "kalshi.torn").read_bytes() == tail + b"\n"
    assert told.metrics.torn_tails == 1
    assert f"partial line of {len(tail)} bytes" in told.warnings[0]
