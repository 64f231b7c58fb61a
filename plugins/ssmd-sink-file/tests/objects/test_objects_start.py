"""Starts: what an earlier run left goes on; what cannot work is said before anything starts."""

from __future__ import annotations

import errno
import importlib.util
import os

import anyio
import pytest

from ssmd_core.errors import StorageUnusable
from ssmd_core.records import Stream
from ssmd_core.testing import until
from ssmd_sink_file.objects.config import ObjectConfig, S3Config
from ssmd_sink_file.objects.sink import ObjectStorage

pytestmark = pytest.mark.anyio

NOON = 1_795_348_800_000_000_000
DAY = "2026-11-22"
FOLDER = f"date={DAY}/feed=kalshi"
EVER = 1 << 62


async def abandon(storage):
    """Leave a storage as ``kill -9`` would, but for what runs: nothing is closed or uploaded."""
    storage._parts.forget()
    storage._shipping.stop(storage._lock.release)
    await anyio.to_thread.run_sync(storage._shipping.join)


async def settled(storage, condition):
    async def holds():
        await storage.sync()
        return condition()

    await until(holds)


# ── going on ─────────────────────────────────────────────────────────────────────


async def test_the_first_start_finds_nothing(make):
    storage = make()
    assert await storage.open() == 0
    await storage.aclose()


async def test_what_a_crash_left_open_is_uploaded_by_the_next_start(
    make, memory, batch, ledger_line, files
):
    first = make()
    await first.open()
    first.append(batch(b"1", b"2"))
    first.append(batch(b"3", at=5, stream=Stream.REST))
    first.note(NOON + 9, ledger_line(9))
    await abandon(first)
    assert memory.names() == []
    second = make()
    assert await second.open() == NOON + 9
    await settled(second, lambda: len(memory.names()) == 3)
    assert memory.frames() == [b"1", b"2"]
    assert memory.frames("rest.jsonl.zst") == [b"3"]
    assert memory.lines("coverage.jsonl") == [ledger_line(9)]
    second.release(EVER)
    await second.sync()
    assert files() == []
    await second.aclose()


async def test_the_torn_tail_of_a_crash_is_cut_counted_and_kept(make, memory, batch, spool, told):
    first = make()
    await first.open()
    first.append(batch(b"1"))
    await abandon(first)
    (path,) = spool.glob(f"kalshi/{DAY}/*.jsonl")
    with path.open("ab") as file:
        file.write(b'{"ts":"2026-11-22T12')
    second = make()
    assert await second.open() == NOON
    await settled(second, memory.names)
    await second.aclose()
    assert memory.frames() == [b"1"]
    assert told.metrics.torn_tails == 1
    assert (path.parent / "torn").read_bytes() == b'{"ts":"2026-11-22T12\n'


async def test_receipt_time_goes_on_above_what_has_left_the_spool(archive, make, batch, files):
    async with archive() as storage:
        storage.append(batch(b"1", at=50))
        storage.release(EVER)
    assert files() == []
    storage = make()
    assert await storage.open() == NOON + 50
    await storage.aclose()


async def test_with_a_new_spool_the_names_in_the_store_tell_where_receipt_time_goes_on(
    s3_archive, make_s3, batch, tmp_path
):
    async with s3_archive() as storage:
        storage.append(batch(b"1", b"2", at=50))
    async with s3_archive(feed="other", config={"spool": str(tmp_path / "third")}) as storage:
        storage.append(batch(b"1", at=10**15))
    storage = make_s3(config={"spool": str(tmp_path / "other")})
    assert await storage.open() == NOON + 51
    await storage.aclose()


async def test_parts_that_were_uploaded_before_the_crash_are_recognised(
    make, memory, batch, files, told
):
    first = make()
    await first.open()
    first.append(batch(b"1"))
    await first.drain()
    await abandon(first)
    names = memory.names()
    assert len(names) == 2
    assert len(files()) == 2, "not released"
    second = make()
    await second.open()
    second.release(EVER)
    await settled(second, lambda: not files())
    assert memory.names() == names
    assert [event for event, _ in told.events if event == "sink_failed"] == []
    await second.aclose()


async def test_values_are_kept_beside_the_spool(archive, make, spool):
    async with archive() as storage:
        assert storage.load("connector") is None
        storage.save("connector", b"c1")
    assert make().load("connector") == b"c1"
    assert (spool / ".kalshi.connector").read_bytes() == b"c1"


async def test_feeds_share_a_spool(archive, memory, batch):
    async with archive() as one, archive(feed="other") as other:
        one.append(batch(b"1"))
        other.append(batch(b"2"))
    assert {name.split("/")[1] for name in memory.names()} == {"feed=kalshi", "feed=other"}


# ── damage ───────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "damage",
    [
        pytest.param(lambda data: b"garbage", id="garbage"),
        pytest.param(lambda data: data[: len(data) // 2], id="cut short"),
        pytest.param(lambda data: b"", id="empty"),
    ],
)
async def test_a_part_that_is_damaged_in_the_spool_is_set_aside_and_told(
    make, memory, batch, spool, told, damage
):
    first = make()
    await first.open()
    first.append(batch(b"1"))
    first._parts.close_older(0)
    await first.sync()
    await first._shipping.made()
    await abandon(first)
    assert memory.names() == [], "made ready, not handed to the upload"
    (path,) = spool.glob(f"kalshi/{DAY}/*.jsonl.zst")
    path.write_bytes(damage(path.read_bytes()))
    second = make()
    await second.open()
    second.append(batch(b"2", at=5))
    await settled(second, lambda: any(event == "sink_failed" for event, _ in told.events))
    await second.aclose()
    assert memory.frames() == [b"2"], "capture goes on"
    assert (spool / "kalshi/damaged" / DAY / path.name).exists()
    (reason,) = [fields["reason"] for event, fields in told.events if event == "sink_failed"]
    assert "is damaged" in reason
    assert str(spool / "kalshi/damaged") in reason


async def test_an_open_part_without_a_readable_line_is_set_aside(make, memory, batch, spool, told):
    first = make()
    await first.open()
    first.append(batch(b"1"))
    await abandon(first)
    (path,) = spool.glob(f"kalshi/{DAY}/*.jsonl")
    path.write_bytes(b"\0" * 4096 + b"\n")
    second = make()
    assert await second.open() == 0
    await settled(second, lambda: told.events)
    await second.aclose()
    assert memory.names() == []
    assert (spool / "kalshi/damaged" / DAY / path.name).exists()


async def test_foreign_files_in_the_spool_are_left_alone(make, memory, batch, spool):
    foreign = [
        spool / "kalshi" / DAY / "notes.txt",
        spool / "kalshi" / DAY / "1-2.jsonl.zst",
        spool / "kalshi/README",
        spool / "kalshi" / "not-a-day" / f"{NOON}-{NOON}.jsonl.zst",
    ]
    for path in foreign:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("mine")
    (spool / "kalshi/2026-11-21").write_text("a file where a day would be")
    storage = make()
    assert await storage.open() == 0
    storage.append(batch(b"1"))
    storage.release(EVER)
    await storage.aclose()
    assert [path.read_text() for path in foreign] == ["mine"] * 4
    assert len(memory.names()) == 2


async def test_what_was_being_compressed_is_compressed_anew(make, memory, batch, spool, files):
    first = make()
    await first.open()
    first.append(batch(b"1"))
    await abandon(first)
    draft = spool / "kalshi" / DAY / f"{NOON}-{NOON}.jsonl.zst.tmp"
    draft.write_bytes(b"half")
    second = make()
    await second.open()
    second.release(EVER)
    await settled(second, lambda: not files())
    await second.aclose()
    assert memory.frames() == [b"1"]


# ── what cannot work ─────────────────────────────────────────────────────────────


async def test_a_bucket_that_is_missing_is_told_before_anything_starts(make_s3, spool):
    storage = make_s3(config={"bucket": "no-such-bucket"})
    with pytest.raises(StorageUnusable, match=r"s3://no-such-bucket: there is no bucket no-such"):
        await storage.open()
    again = make_s3(lock_seconds=0.0)
    assert await again.open() == 0, "the lock was given back"
    await again.aclose()


@pytest.mark.parametrize("status", ["403"])
async def test_credentials_that_are_refused_are_told_before_anything_starts(make_s3, proxy, status):
    await proxy.turn(status)
    storage = make_s3(config={"endpoint_url": proxy.url})
    with pytest.raises(StorageUnusable, match=r"cannot archive to s3://market.*may list, read"):
        await storage.open()


async def test_no_credentials_at_all_are_told_before_anything_starts(make_s3, monkeypatch):
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    with pytest.raises(StorageUnusable, match="Unable to locate credentials"):
        await make_s3().open()


@pytest.mark.parametrize("mode", ["503", "stall"])
async def test_a_store_that_does_not_answer_is_no_fault(
    make_s3, proxy, mode, batch, told, monkeypatch
):
    monkeypatch.setattr(
        "ssmd_sink_file.objects.shipping._REACH_SECONDS", 0.5 if mode == "stall" else 20.0
    )
    await proxy.turn(mode)
    storage = make_s3(config={"endpoint_url": proxy.url})
    assert await storage.open() == 0
    assert any("cannot be reached" in warning for warning in told.warnings)
    storage.append(batch(b"1"))
    await storage.sync()
    assert storage.health().ok
    with anyio.move_on_after(0.2):
        await storage.aclose()


@pytest.mark.parametrize(("type_", "library"), [("gs", "gcsfs"), ("abfs", "adlfs"), ("s3", "s3fs")])
def test_a_library_that_is_missing_is_named_with_what_installs_it(
    told, type_, library, monkeypatch
):
    found = importlib.util.find_spec
    monkeypatch.setattr(
        "importlib.util.find_spec", lambda name: None if name == library else found(name)
    )
    with pytest.raises(StorageUnusable) as refusal:
        ObjectStorage(told.context(), ObjectConfig(path=f"{type_}://market"))
    assert f"pip install 'ssmd-sink-file[{type_}]'" in str(refusal.value)


def test_a_protocol_that_nobody_knows_is_told(told):
    with pytest.raises(StorageUnusable, match="nosuch:// cannot be used"):
        ObjectStorage(told.context(), ObjectConfig(path="nosuch://market"))


def test_making_a_storage_opens_nothing(told, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    ObjectStorage(told.context(), S3Config(bucket="market"))
    assert list(tmp_path.iterdir()) == []


async def test_a_second_connector_is_told_who_holds_the_spool(archive, make):
    async with archive():
        with pytest.raises(StorageUnusable, match=r"held by pid \d+.*another `storage.spool`"):
            await make(lock_seconds=0.0).open()


async def test_a_spool_that_cannot_be_made_is_told(make, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageUnusable, match=r"ENOTDIR.*another `storage.spool`"):
        await make(config={"spool": str(tmp_path / "file" / "spool")}).open()


async def test_parts_for_another_place_are_not_mixed_up(make, batch, memory):
    first = make()
    await first.open()
    first.append(batch(b"1"))
    await abandon(first)
    elsewhere = {"path": "memory://elsewhere"}
    with pytest.raises(StorageUnusable, match=r"holds parts for memory:/.*not for memory://els"):
        await make(config=elsewhere).open()
    again = make()
    await again.open()
    again.release(EVER)
    await again.aclose()
    moved = make(config=elsewhere)
    assert await moved.open() == NOON, "an empty spool may go elsewhere"
    await moved.aclose()


async def test_a_spool_that_cannot_be_read_is_told(make, spool, monkeypatch):
    def refuse(*_args):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr("ssmd_sink_file.objects.sink.look", refuse)
    with pytest.raises(StorageUnusable, match=r"cannot read the spool .*EACCES.*move it away"):
        await make().open()


@pytest.mark.parametrize("name", ["place", "uploaded"])
async def test_a_damaged_value_beside_the_spool_stops_no_start(make, memory, batch, spool, name):
    first = make()
    await first.open()
    first.append(batch(b"1"))
    await abandon(first)
    (spool / f".kalshi.{name}").write_bytes(b"\0\0\0\0")
    second = make()
    assert await second.open() == NOON
    await second.aclose()
    assert memory.frames() == [b"1"]
