"""What is archived: parts, their names, what stands in them, and when one ends."""

from __future__ import annotations

import gzip
import hashlib

import anyio
import pytest

from ssmd_core.errors import StorageFailed
from ssmd_core.records import Stream
from ssmd_core.sink import Health, Mark
from ssmd_core.testing import until

pytestmark = pytest.mark.anyio

NOON = 1_795_348_800_000_000_000
DAY_NS = 86_400_000_000_000
MIDNIGHT = 12 * 3_600_000_000_000
FOLDER = "date=2026-11-22/feed=kalshi"
EVER = 1 << 62


async def settled(storage, condition):
    """Do what the host does until a condition holds."""

    async def holds():
        await storage.sync()
        return condition()

    await until(holds)


async def read_all(storage, after=0, upto=EVER):
    return [batch async for batch in storage.read(after, upto)]


async def notes(storage, after=0, upto=EVER):
    return [line async for _, line in storage.notes(after, upto)]


async def test_what_was_appended_stands_in_the_bucket_after_the_end(
    s3_archive, bucket, batch, ledger_line, files
):
    async with s3_archive() as storage:
        storage.note(NOON, ledger_line(0))
        storage.append(batch(b'{"a":1}', b"[\n]", at=1))
        storage.append(batch(b"\xff", at=10, raw=frozenset({0})))
        storage.release(EVER)
    part = f"{FOLDER}/{NOON + 1}-{NOON + 10}"
    assert bucket.names() == [f"{part}.coverage.jsonl", f"{part}.jsonl.zst"]
    assert bucket.frames() == [b'{"a":1}', b"[ ]", b"\xff"]
    assert bucket.get(f"{part}.coverage.jsonl") == ledger_line(0) + b"\n"
    assert files() == [], "what is uploaded and released leaves the spool"


async def test_names_stand_below_the_prefix(s3_archive, bucket, batch):
    async with s3_archive(config={"prefix": "/raw/eu/"}) as storage:
        storage.append(batch(b"1"))
    assert {name.rpartition("/")[0] for name in bucket.names()} == {f"raw/eu/{FOLDER}"}


async def test_what_came_over_rest_stands_in_a_part_of_its_own(archive, memory, batch):
    async with archive() as storage:
        storage.append(batch(b"1", at=1))
        storage.append(batch(b"2", b"3", at=5, stream=Stream.REST))
    assert memory.names() == [
        f"{FOLDER}/{NOON + 1}-{NOON + 1}.coverage.jsonl",
        f"{FOLDER}/{NOON + 1}-{NOON + 1}.jsonl.zst",
        f"{FOLDER}/rest/{NOON + 5}-{NOON + 6}.rest.jsonl.zst",
    ]
    assert memory.frames("rest.jsonl.zst") == [b"2", b"3"]


async def test_a_part_without_ledger_lines_has_an_empty_ledger_beside_it(archive, memory, batch):
    async with archive() as storage:
        storage.append(batch(b"1"))
    assert memory.get(f"{FOLDER}/{NOON}-{NOON}.coverage.jsonl") == b""


async def test_ledger_lines_without_frames_are_a_part_named_by_their_own_times(
    archive, memory, ledger_line
):
    async with archive() as storage:
        storage.note(NOON + 3, ledger_line(3))
        storage.note(NOON + 9, ledger_line(9))
    assert memory.names() == [f"{FOLDER}/{NOON + 3}-{NOON + 9}.coverage.jsonl"]


async def test_nothing_appended_is_nothing_uploaded(archive, memory, batch):
    async with archive() as storage:
        storage.append(batch())
    assert memory.names() == []


async def test_gzip_parts_are_what_gunzip_reads(archive, memory, batch):
    async with archive(config={"compression": "gzip"}) as storage:
        storage.append(batch(b'"x"', b'"y"'))
    data = memory.get(f"{FOLDER}/{NOON}-{NOON + 1}.jsonl.gz")
    assert gzip.decompress(data).count(b"\n") == 2


async def test_the_same_frames_give_the_same_object(archive, memory, batch, tmp_path):
    contents = []
    for number in range(2):
        path = f"{memory.section['path']}/p{number}"
        config = {"path": path, "spool": str(tmp_path / f"spool{number}")}
        async with archive(config=config) as storage:
            for at in range(0, 5000, 10):
                storage.append(batch(b'{"n":%d}' % at, at=at))
        contents.append(memory.get(f"p{number}/{FOLDER}/{NOON}-{NOON + 4990}.jsonl.zst"))
    assert contents[0] == contents[1]


# ── when a part ends ─────────────────────────────────────────────────────────────


async def test_a_part_ends_at_its_size(archive, memory, batch):
    async with archive(config={"part_bytes": 1000}) as storage:
        for at in range(20):
            storage.append(batch(b'"%s"' % (b"x" * 100), at=at))
            await storage.sync()
        await settled(storage, lambda: len(memory.frames()) > 10)
    names = [name for name in memory.names() if name.endswith(".jsonl.zst")]
    assert len(names) == 4
    assert len(memory.frames()) == 20


async def test_a_part_ends_at_its_age(archive, memory, batch):
    now = [100.0]
    async with archive(config={"part_seconds": 30}, monotonic=lambda: now[0]) as storage:
        storage.append(batch(b"1"))
        now[0] += 29
        await storage.sync()
        storage.append(batch(b"2", at=1))
        now[0] += 1
        await storage.sync()
        storage.append(batch(b"3", at=2))
        await settled(storage, lambda: memory.frames() == [b"1", b"2"])
    assert memory.frames() == [b"1", b"2", b"3"]


async def test_a_part_ends_at_midnight_and_a_batch_over_it_stands_in_both(archive, memory, batch):
    async with archive() as storage:
        storage.append(batch(b"1", b"2", b"3", at=MIDNIGHT - 2))
        assert storage.mark() == Mark("date=2026-11-23/feed=kalshi/1795392000000000000-", 70)
        await settled(storage, lambda: len(memory.names()) == 2)
    assert [name for name in memory.names() if name.endswith(".zst")] == [
        f"{FOLDER}/{NOON + MIDNIGHT - 2}-{NOON + MIDNIGHT - 1}.jsonl.zst",
        "date=2026-11-23/feed=kalshi/1795392000000000000-1795392000000000000.jsonl.zst",
    ]
    assert memory.frames() == [b"1", b"2", b"3"]


async def test_lines_of_yesterday_that_come_late_still_go_to_yesterday(
    archive, memory, batch, ledger_line
):
    async with archive() as storage:
        storage.append(batch(b"1", at=0))
        storage.append(batch(b"4", at=DAY_NS))
        storage.append(batch(b"2", b"3", at=5))
        storage.append(batch(b"5", at=DAY_NS + 1))
        storage.note(NOON + 7, ledger_line(7))
        assert [f for b in await read_all(storage) for f in b.frames] == [
            b"1",
            b"2",
            b"3",
            b"4",
            b"5",
        ]
    assert memory.frames() == [b"1", b"2", b"3", b"4", b"5"]
    days = [name.partition("/")[0] for name in memory.names() if name.endswith("coverage.jsonl")]
    assert days.count("date=2026-11-22") == 3


# ── what is told ─────────────────────────────────────────────────────────────────


async def test_a_part_that_ended_is_told_with_its_digest(archive, memory, batch, told):
    async with archive() as storage:
        storage.append(batch(b"1", b"2"))
        storage.append(batch(b"3", at=5, stream=Stream.REST))
    rotated = {fields["file"]: fields for event, fields in told.events if event == "rotated"}
    assert set(rotated) == {name for name in memory.names() if name.endswith(".zst")}
    for name, fields in rotated.items():
        data = memory.get(name)
        assert fields["bytes"] == len(data)
        assert fields["sha256"] == hashlib.sha256(data).hexdigest()
    assert sorted(fields["lines"] for fields in rotated.values()) == [1, 2]


async def test_what_is_told_of_the_last_part_reaches_the_store_too(
    archive, memory, batch, told, ledger_line, monkeypatch
):
    at = iter(range(100, 200))

    def write(event, **fields):
        moment = next(at)
        storage.note(NOON + moment, ledger_line(moment, event))

    monkeypatch.setattr(told, "report", write)
    async with archive() as storage:
        storage.append(batch(b"1"))
    ledger = b"\n".join(memory.lines("coverage.jsonl"))
    assert b'"event":"rotated"' in ledger


async def test_frames_are_counted(archive, batch, told):
    async with archive() as storage:
        storage.append(batch(b"1", b"2"))
        await storage.sync()
        assert told.metrics.archived == 2
        assert told.metrics.archived_bytes > 100
        assert told.metrics.archive_sync.total > 0
        assert told.metrics.archive_free_bytes > 0
        assert told.metrics.upload_backlog_bytes == 0
        assert storage.health() == Health(ok=True)


async def test_a_mark_is_the_beginning_of_the_name_of_the_object_to_come(archive, memory, batch):
    async with archive() as storage:
        assert storage.mark() == Mark(f"{FOLDER}/", 0)
        storage.append(batch(b"1", at=7))
        mark = storage.mark()
        storage.append(batch(b"2", at=8))
    (name,) = (name for name in memory.names() if name.endswith(".jsonl.zst"))
    assert name.startswith(mark.file)
    assert mark.offset == len(memory.lines("jsonl.zst")[0]) + 1


# ── reading back, and release ────────────────────────────────────────────────────


async def test_frames_of_both_streams_are_read_in_order_wherever_they_lie(
    archive, memory, batch, files
):
    given = [
        batch(b"1", b"2", at=0),
        batch(b"3", at=5, stream=Stream.REST),
        batch(b"4", at=7, conn=2),
        batch(b"5", b"6", at=9, stream=Stream.REST),
        batch(b"7", at=20),
    ]
    async with archive() as storage:
        for item in given:
            storage.append(item)
            assert await read_all(storage, NOON - 1, NOON + 30) == given[: given.index(item) + 1]
            await storage.drain()
        assert await read_all(storage) == given
        assert await read_all(storage, NOON, NOON + 8) == [
            batch(b"2", at=1),
            given[1],
            given[2],
        ]
        assert len(memory.frames()) == 4
        assert all("-" in name for name in files()), "everything is closed, nothing is released"


async def test_ledger_lines_are_read_in_order_wherever_they_lie(archive, ledger_line, batch):
    async with archive() as storage:
        for at in (0, 10, 20):
            storage.note(NOON + at, ledger_line(at))
            storage.append(batch(b"1", at=at + 1))
            if at < 20:
                await storage.drain()
        assert await notes(storage) == [ledger_line(at) for at in (0, 10, 20)]
        assert await notes(storage, NOON, NOON + 15) == [ledger_line(10)]


async def test_the_spool_is_read_without_a_lock(archive, make, batch):
    async with archive() as storage:
        storage.append(batch(b"1"))
        assert await read_all(make()) == [batch(b"1")]


async def test_a_part_leaves_the_spool_once_it_is_uploaded_and_released(
    archive, memory, batch, files, ledger_line
):
    async with archive() as storage:
        storage.append(batch(b"1"))
        storage.note(NOON + 5, ledger_line(5))
        await storage.drain()
        storage.release(NOON + 4)
        await storage.sync()
        assert memory.frames() == [b"1"]
        assert await read_all(storage) == [batch(b"1")], "a ledger line of it is not released"
        assert files() != []
        storage.release(NOON + 5)
        await storage.sync()
        assert files() == []


async def test_reading_goes_on_while_parts_are_closed_and_uploaded(archive, batch):
    config = {"part_bytes": 20_000}
    async with archive(config=config) as storage:
        seen, count = [], 3000

        async def write():
            for at in range(0, count * 2, 2):
                storage.append(batch(b'{"at":%d}' % at, at=at))
                if at % 100 == 0:
                    await storage.sync()

        async def follow():
            while len(seen) < count:
                after = seen[-1] if seen else 0
                async for item in storage.read(after, EVER):
                    seen.extend(range(item.first_ts, item.last_ts + 1))
                storage.release(seen[-1] if seen else 0)
                await anyio.lowlevel.checkpoint()

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(write)
            tasks.start_soon(follow)
    assert seen == [NOON + at for at in range(0, count * 2, 2)]


# ── room ─────────────────────────────────────────────────────────────────────────


async def test_a_spool_at_its_limit_refuses_frames_until_parts_have_left(archive, batch, memory):
    config = {"part_bytes": 1000, "max_spool_bytes": 2000}
    async with archive(config=config) as storage:
        large = b'"%s"' % (b"x" * 1100)
        storage.append(batch(large))
        storage.append(batch(large, at=1))
        with pytest.raises(StorageFailed, match=r"holds the 2000 bytes that `max_spool_bytes`"):
            storage.append(batch(large, at=2))
        assert not storage.health().ok
        storage.release(EVER)

        async def fits():
            await storage.sync()
            try:
                storage.append(batch(large, at=2))
            except StorageFailed:
                return False
            return True

        await until(fits)
        assert storage.health() == Health(ok=True)
    assert len(memory.frames()) == 3
