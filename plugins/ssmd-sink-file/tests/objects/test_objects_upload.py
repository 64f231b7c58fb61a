"""Stores that are down, broken, slow or hold something else: capture goes on, nothing is lost."""

from __future__ import annotations

import subprocess
import sys

import anyio
import boto3
import pytest

from ssmd_core.sink import Health
from ssmd_core.testing import until

pytestmark = pytest.mark.anyio

NOON = 1_795_348_800_000_000_000
DAY = "2026-11-22"
FOLDER = f"date={DAY}/feed=kalshi"
EVER = 1 << 62


async def settled(storage, condition):
    """Do what the host does until a condition holds."""

    async def holds():
        await storage.sync()
        return condition()

    await until(holds, 60.0)


def failures(told):
    return [fields for event, fields in told.events if event == "sink_failed"]


def recoveries(told):
    return [fields for event, fields in told.events if event == "sink_recovered"]


def fill(storage, batch, first, count):
    """Append frames that close a part each."""
    for at in range(first, first + count):
        storage.append(batch(b'"%d %s"' % (at, b"x" * 1000), at=at))


SMALL = {"part_bytes": 1000}


# ── down and back ────────────────────────────────────────────────────────────────


@pytest.fixture
def own_server(make_server):
    server = make_server()
    server.start()
    yield server
    server.stop()


async def test_a_server_that_goes_down_and_comes_back_gets_everything(
    own_server, s3_archive, batch, told, files
):
    client = boto3.client("s3", endpoint_url=own_server.url)
    client.create_bucket(Bucket="market-down")
    config = {"bucket": "market-down", "endpoint_url": own_server.url, **SMALL}
    async with s3_archive(config=config) as storage:
        await anyio.to_thread.run_sync(own_server.stop)
        fill(storage, batch, 0, 5)
        await settled(storage, lambda: failures(told))
        fill(storage, batch, 5, 5)
        await storage.sync()
        assert storage.health() == Health(ok=True), "the spool takes data"
        read = [frame async for item in storage.read(0, EVER) for frame in item.frames]
        assert len(read) == 10
        assert len(files()) >= 10
        await anyio.to_thread.run_sync(own_server.start)
        storage.release(EVER)
        await settled(storage, lambda: recoveries(told) and not files())
    listed = client.list_objects_v2(Bucket="market-down")["Contents"]
    client.close()
    parts = [item["Key"] for item in listed if item["Key"].endswith(".jsonl.zst")]
    assert [name.rpartition("/")[2] for name in sorted(parts)] == [
        f"{NOON + at}-{NOON + at}.jsonl.zst" for at in range(10)
    ]
    (failed,) = failures(told)
    assert failed["sink"] == "storage"
    assert failed["reason"].startswith(f"cannot upload to s3://market-down/{FOLDER}/{NOON}")
    assert "wait in" in failed["reason"]
    assert len(recoveries(told)) == 1


@pytest.mark.parametrize("status", ["500", "503", "403"])
async def test_a_store_that_answers_with_an_error_is_asked_again(
    bucket, s3_archive, proxy, batch, told, status
):
    async with s3_archive(config={"endpoint_url": proxy.url}) as storage:
        await proxy.turn(status)
        storage.append(batch(b"1"))
        storage._parts.close_older(0)
        await settled(storage, lambda: failures(told))
        asked = proxy.requests
        await until(lambda: proxy.requests > asked + 2)
        assert bucket.names() == []
        await proxy.turn("pass")
        await settled(storage, lambda: recoveries(told))
        assert bucket.frames() == [b"1"]
    assert len(failures(told)) == 1, "a spell of failures is told once"


async def test_a_slow_store_delays_nobody(bucket, s3_archive, proxy, batch):
    async with s3_archive(config={"endpoint_url": proxy.url, **SMALL}) as storage:
        await proxy.turn("slow")
        for at in range(0, 24, 2):
            fill(storage, batch, at, 1)
            with anyio.fail_after(5):
                await storage.sync()
        assert len(bucket.frames()) < 12
        await proxy.turn("pass")
        await settled(storage, lambda: len(bucket.frames()) == 12)


async def test_after_a_minute_a_store_that_takes_nothing_makes_us_not_ready(
    s3_archive, proxy, batch, told, spool, monkeypatch
):
    async with s3_archive(config={"endpoint_url": proxy.url}) as storage:
        await proxy.turn("503")
        storage.append(batch(b"1"))
        storage._parts.close_older(0)
        await settled(storage, lambda: failures(told))
        assert storage.health() == Health(ok=True)
        monkeypatch.setattr("ssmd_sink_file.objects.shipping._PATIENCE_SECONDS", 0.0)
        health = storage.health()
        assert not health.ok
        assert f"1 parts (0.0 MB compressed) wait in {spool / 'kalshi'}" in health.reason
        await proxy.turn("pass")
        await settled(storage, lambda: storage.health().ok)


async def test_no_credential_is_ever_told(s3_archive, proxy, batch, told):
    async with s3_archive(config={"endpoint_url": proxy.url}) as storage:
        for mode in ("403", "503"):
            await proxy.turn(mode)
            told.events.clear()
            storage.append(batch(b"1", at=int(mode)))
            storage._parts.close_older(0)
            await settled(storage, lambda: failures(told))
            await proxy.turn("pass")
            await settled(storage, lambda: recoveries(told))
    said = repr(told.events) + repr(told.warnings) + repr(storage._config)
    assert "secret-of-tests" not in said
    assert "key-of-tests" not in said


# ── the object is already there ──────────────────────────────────────────────────


async def test_an_object_that_is_already_there_and_equal_is_ours(
    bucket, s3_archive, batch, told, tmp_path, files
):
    for name in ("one", "two"):
        async with s3_archive(config={"spool": str(tmp_path / name)}) as storage:
            storage.append(batch(b"1", b"2"))
            storage.release(EVER)
    assert bucket.frames() == [b"1", b"2"]
    assert failures(told) == []


async def test_an_object_that_is_already_there_and_different_is_left_alone_and_ours_is_kept(
    bucket, s3_archive, batch, told, files, spool
):
    name = f"{FOLDER}/{NOON}-{NOON}.jsonl.zst"
    bucket.put(name, b"somebody else's")
    async with s3_archive() as storage:
        storage.append(batch(b"1"))
        await storage.drain()
        assert [item async for item in storage.read(0, EVER)] == [batch(b"1")]
        storage.release(EVER)
        await settled(storage, lambda: files() == [f"conflict/{DAY}/{NOON}-{NOON}.jsonl.zst"])
        assert storage.health() == Health(ok=True)
    assert bucket.get(name) == b"somebody else's"
    (failed,) = failures(told)
    assert f"{name} is another object" in failed["reason"]
    assert str(spool / "kalshi/conflict") in failed["reason"]
    assert told.warnings == [failed["reason"]]


async def test_an_object_of_the_same_size_and_other_bytes_is_different(
    bucket, s3_archive, batch, told
):
    async with s3_archive() as storage:
        storage.append(batch(b"1"))
    (name,) = (name for name in bucket.names() if name.endswith(".zst"))
    data = bytearray(bucket.get(name))
    data[-1] ^= 1
    bucket.put(name, bytes(data))
    async with s3_archive():
        pass
    (failed,) = failures(told)
    assert f"{name} is another object" in failed["reason"]


async def test_an_object_whose_digest_is_no_md5_is_read_back(
    bucket, s3_archive, batch, told, tmp_path, monkeypatch
):
    async with s3_archive() as storage:
        storage.append(batch(b"1"))
    monkeypatch.setattr("ssmd_sink_file.objects.store._digests", lambda info: {"f" * 32})
    async with s3_archive(config={"spool": str(tmp_path / "again")}) as storage:
        storage.append(batch(b"1"))
    assert failures(told) == []
    assert len(bucket.names()) == 2


async def test_a_part_that_is_gone_from_the_spool_is_told_and_holds_up_nothing(
    s3_archive, proxy, batch, told, spool, bucket
):
    async with s3_archive(config={"endpoint_url": proxy.url}) as storage:
        await proxy.turn("503")
        storage.append(batch(b"1"))
        storage._parts.close_older(0)
        await settled(storage, lambda: failures(told))
        for path in (spool / "kalshi" / DAY).iterdir():
            path.unlink()
        await proxy.turn("pass")
        storage.append(batch(b"2", at=2))
        storage._parts.close_older(0)
        await settled(storage, lambda: bucket.frames() == [b"2"])
    assert any("ENOENT" in failed["reason"] for failed in failures(told))


# ── the end ──────────────────────────────────────────────────────────────────────


async def test_an_end_with_the_store_down_is_quick_and_the_next_start_uploads(
    bucket, s3_archive, proxy, batch, files, told
):
    config = {"endpoint_url": proxy.url}
    async with s3_archive(config=config) as storage:
        storage.append(batch(b"1"))
        await proxy.turn("503")
        storage.release(EVER)
    assert bucket.names() == []
    assert len(files()) == 2, "the part and its ledger"
    await proxy.turn("pass")
    async with s3_archive(config=config) as storage:
        storage.release(EVER)
    assert bucket.frames() == [b"1"]
    assert files() == []


async def test_an_end_that_is_cut_off_by_a_store_that_hangs_loses_nothing(
    bucket, s3_archive, make_s3, proxy, batch, files
):
    storage = make_s3(config={"endpoint_url": proxy.url})
    await storage.open()
    storage.append(batch(b"1", b"2"))
    await proxy.turn("stall")
    with anyio.move_on_after(0.5):
        await storage.aclose()
    assert bucket.names() == []
    async with s3_archive(lock_seconds=5.0) as storage:
        storage.release(EVER)
    assert bucket.frames() == [b"1", b"2"]
    assert files() == []


HANGING = """
import sys, anyio
from ssmd_core.metrics import Metrics
from ssmd_core.records import Batch
from ssmd_core.sink import StorageContext
from ssmd_sink_file.objects import shipping
from ssmd_sink_file.objects.config import ObjectConfig
from ssmd_sink_file.objects.sink import ObjectStorage

async def main(bucket, url, spool):
    shipping._REACH_SECONDS = 0.1
    context = StorageContext(feed="kalshi", environment="t", metrics=Metrics(),
                             report=lambda event, **fields: None, environ={}, warn=str)
    storage = ObjectStorage(context, ObjectConfig(bucket=bucket, endpoint_url=url, spool=spool))
    await storage.open()
    storage.append(Batch(1_795_348_800_000_000_000, [b"1"]))
    with anyio.move_on_after(0.3):
        await storage.aclose()

anyio.run(main, *sys.argv[1:])
"""


async def test_a_process_ends_although_the_store_hangs(bucket, s3_archive, proxy, spool):
    await proxy.turn("stall")
    with anyio.fail_after(20):
        done = await anyio.run_process(
            [sys.executable, "-c", HANGING, bucket.name, proxy.url, str(spool)]
        )
    assert done.stderr == b""
    async with s3_archive():
        pass
    assert bucket.frames() == [b"1"]


# ── kill -9 ──────────────────────────────────────────────────────────────────────


WRITER = """
import sys, anyio
from ssmd_core.metrics import Metrics
from ssmd_core.records import Batch
from ssmd_core.sink import StorageContext
from ssmd_sink_file.objects.config import ObjectConfig
from ssmd_sink_file.objects.sink import ObjectStorage

async def main(bucket, url, spool):
    context = StorageContext(feed="kalshi", environment="t", metrics=Metrics(),
                             report=lambda event, **fields: None, environ={}, warn=str)
    config = ObjectConfig(path=f"s3://{bucket}", endpoint_url=url, spool=spool, part_bytes=20_000)
    storage = ObjectStorage(context, config)
    ts = await storage.open() or 1_795_348_800_000_000_000
    print("open", flush=True)
    while True:
        frames = [b'"%d %s"' % (ts + 1 + n, b"x" * 500) for n in range(5)]
        storage.append(Batch(ts + 1, frames))
        ts += len(frames)
        print(ts, flush=True)
        await storage.sync()
        storage.release(ts)
        await anyio.sleep(0.001)

anyio.run(main, *sys.argv[1:])
"""


def run_and_kill(bucket, url, spool, after):
    """Let a writer run until it has appended so much; return the last ts that it told."""
    with subprocess.Popen(
        [sys.executable, "-c", WRITER, bucket, url, spool], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout.readline() == "open\n"
        told = [process.stdout.readline() for _ in range(after)]
        process.kill()
        return int(("".join(told) + process.stdout.read()).rpartition("\n")[0].split("\n")[-1])


async def test_kills_in_the_middle_of_uploads_lose_nothing_and_store_nothing_twice(
    bucket, s3_archive, proxy, spool, files
):
    await proxy.turn("slow")
    for after in (60, 25):
        acknowledged = await anyio.to_thread.run_sync(
            run_and_kill, bucket.name, proxy.url, spool, after
        )
    async with s3_archive() as storage:
        assert storage._last_ts >= acknowledged
        last_ts = storage._last_ts
        storage.release(EVER)
        await settled(storage, lambda: not [name for name in files() if "torn" not in name])
    frames = bucket.frames()
    assert frames == [b'"%d %s"' % (ts, b"x" * 500) for ts in range(NOON + 1, last_ts + 1)]
    names = [name.rpartition("/")[2] for name in bucket.names()]
    for name in names:
        assert name.partition(".")[0] + ".coverage.jsonl" in names
