"""Archives that a real connector wrote, checked as operators do it."""

import json
import signal

import boto3
import pytest
from moto.server import ThreadedMotoServer

from ssmd_core.testing import LoopbackVenue, Recording, until
from ssmd_kalshi.venue import market_names, session

pytestmark = pytest.mark.anyio

COUNT = 1_500


@pytest.fixture(scope="module")
def frames():
    stream = session(5, market_names(20))
    return [next(stream) for _ in range(COUNT)]


@pytest.fixture
def check(program):
    """Run a command of the audit; return the exit code and what it says as JSON."""
    reader = program(**AWS)

    async def run(*words):
        done = await reader.run(*map(str, words), "--json")
        assert done.stdout, done.stderr
        return done.returncode, json.loads(done.stdout)

    return run


AWS = {
    "AWS_ACCESS_KEY_ID": "testing",
    "AWS_SECRET_ACCESS_KEY": "testing",
    "AWS_EC2_METADATA_DISABLED": "true",
}


class Bucket:
    """A bucket of an S3 server on loopback."""

    def __init__(self, url):
        self.place = f"s3://market-data/raw?endpoint_url={url}"
        self.section = (
            "storage:\n  storage_type: s3\n  bucket: market-data\n  prefix: raw\n"
            f"  endpoint_url: {url}\n  region: us-east-1\n  spool: {{spool}}\n"
        )
        self._client = boto3.client(
            "s3",
            endpoint_url=url,
            region_name="us-east-1",
            aws_access_key_id="testing",
            aws_secret_access_key="testing",
        )
        self._client.create_bucket(Bucket="market-data")

    def names(self):
        found = self._client.list_objects_v2(Bucket="market-data").get("Contents", [])
        return [each["Key"] for each in found]

    def delete(self, name):
        self._client.delete_object(Bucket="market-data", Key=name)

    def close(self):
        self._client.close()


@pytest.fixture
def bucket():
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    bucket = Bucket(f"http://{host}:{port}")
    yield bucket
    bucket.close()
    server.stop()


def faults(report):
    return sorted(each["kind"] for each in report["findings"] if not each["explained"])


async def captured(run, venue):
    """Wait until the venue has said all, and what the last client was sent came; then stop."""
    await venue.finished(60)
    await run.received(venue.clients[-1].sent_count)
    assert await run.stop() == 0, run.log()


async def test_an_archive_with_gaps_and_a_reconnect_is_explained(
    program, archive, yaml, face, frames, check
):
    recording = Recording(frames, rate=1_000)
    async with LoopbackVenue(recording, face) as venue:
        run = program()
        run.write(yaml.feed.format(endpoint=venue.url), yaml.file.format(path=archive.path))
        await run.start().ready()
        venue.skip(3, b'"trade"')
        await until(lambda: archive.ledger("gap"), 20)
        code, report = await check("verify", archive.path)
        assert (code, faults(report)) == (0, [])  # while it grows
        venue.cut()
        await until(lambda: len(archive.ledger("session_opened")) == 2, 20)
        await captured(run, venue)
    code, report = await check("verify", archive.path)
    assert (code, report["findings"]) == (0, [])
    assert sum(day["frames"] for day in report["days"]) == len(archive.lines())
    trades = [c for day in report["days"] for c in day["channels"] if c["channel"] == "trade"]
    assert sum(channel["missing"] for channel in trades) == 3
    assert sum(channel["frames"] for channel in trades) > 100


async def test_what_somebody_did_to_an_archive_is_found(
    program, archive, yaml, face, frames, check
):
    async with LoopbackVenue(Recording(frames), face) as venue:
        run = program()
        run.write(yaml.feed.format(endpoint=venue.url), yaml.file.format(path=archive.path))
        await run.start().ready()
        await captured(run, venue)
    (file,) = archive.path.glob("*/kalshi.jsonl")
    lines = file.read_bytes().splitlines(keepends=True)
    trades = [place for place, line in enumerate(lines) if b'"type":"trade"' in line]
    del lines[trades[50]]
    file.write_bytes(b"".join(lines))
    code, report = await check("verify", archive.path)
    assert (code, faults(report)) == (1, ["frames_missing", "hole_undeclared"])

    file.write_bytes(b"".join([*lines, b"not ours\n", lines[0]]))
    code, report = await check("verify", archive.path)
    assert code == 1
    assert {"damaged", "out_of_order"} <= set(faults(report))


async def test_archive_and_bus_hold_the_same_while_they_grow_and_afterwards(
    program, archive, yaml, face, frames, bus, check
):
    await bus.add_stream()
    recording = Recording(frames, rate=1_000)
    async with LoopbackVenue(recording, face) as venue:
        run = program()
        both = yaml.both.format(url=bus.url, path=archive.path)
        run.write(yaml.feed.format(endpoint=venue.url), both)
        await run.start().ready()
        await run.counts("published_total", 300)
        code, report = await check("verify", archive.path, "--bus", bus.url)
        assert (code, faults(report)) == (0, [])
        assert report["bus"][0]["expected"] > 100
        await captured(run, venue)
    code, report = await check("verify", archive.path, "--env", run.folder / "env.yaml")
    assert (code, report["findings"]) == (0, [])
    (compared,) = report["bus"]
    assert compared["expected"] == compared["stored"] > COUNT / 2

    async with bus.client() as client:
        await client.jetstream().delete_msg("PROD_KALSHI", 100)
        await client.jetstream().publish("prod.kalshi.trade.FAKE", b"", headers={"Ssmd-Ts": "1"})
    code, report = await check("verify", archive.path, "--bus", bus.url)
    assert code == 1
    assert faults(report) == ["bus_missing"]
    assert report["bus"][0]["missing"] == 1

    async with bus.client() as client:
        await client.jetstream().purge_stream("PROD_KALSHI")
    code, report = await check("verify", archive.path, "--bus", bus.url)
    (finding,) = report["findings"]
    assert (code, finding["kind"]) == (0, "bus_unchecked")
    assert "holds nothing of prod.kalshi: none of" in finding["text"]


async def test_after_a_crash_archive_and_bus_are_explained(
    program, archive, yaml, face, frames, bus, check
):
    await bus.add_stream()
    async with LoopbackVenue(Recording(frames, rate=1_000), face) as venue:
        run = program()
        both = yaml.both.format(url=bus.url, path=archive.path)
        run.write(yaml.feed.format(endpoint=venue.url), both)
        await run.start().ready()
        await run.counts("published_total", 300)
        run.process.send_signal(signal.SIGKILL)
        await run.wait()
        code, report = await check("verify", archive.path)
        assert (code, faults(report)) == (1, ["never_closed"])
        await run.start().ready()
        await captured(run, venue)
    code, report = await check("verify", archive.path, "--bus", bus.url)
    assert (code, faults(report)) == (0, [])
    assert "crashed" in next(each["text"] for each in report["findings"])


async def test_coverage_shows_the_hole_that_a_reconnect_left(
    program, archive, yaml, face, frames, check
):
    async with LoopbackVenue(Recording(frames, rate=1_000), face) as venue:
        run = program()
        run.write(yaml.feed.format(endpoint=venue.url), yaml.file.format(path=archive.path))
        await run.start().ready()
        venue.cut()
        await until(lambda: len(archive.ledger("subscribed")) == 4, 20)
        await until(lambda: archive.ledger("repaired"), 20)
        await captured(run, venue)
    code, report = await check("coverage", archive.path)
    assert code == 0
    channels = {c["channel"]: c for day in report["days"] for c in day["channels"]}
    assert set(channels) == {"ticker", "trade"}
    (missed,) = channels["ticker"]["holes"]
    assert (missed["repaired"], channels["ticker"]["repair"]) == ("none", "impossible")
    (mended,) = channels["trade"]["holes"]
    assert (mended["repaired"], channels["trade"]["repair"]) == ("whole", "possible")
    assert mended["why"] == missed["why"] == archive.ledger("session_closed")[0]["cause"]


async def test_an_archive_in_object_storage_is_checked_behind_its_url(
    program, yaml, face, frames, check, bucket, tmp_path
):
    async with LoopbackVenue(Recording(frames), face) as venue:
        run = program(**AWS)
        env = yaml.file.partition("storage:")[0] + bucket.section.format(spool=tmp_path / "spool")
        run.write(yaml.feed.format(endpoint=venue.url), env)
        await run.start().ready()
        await captured(run, venue)
        received = venue.clients[0].sent_count
    code, report = await check("verify", bucket.place)
    assert (code, faults(report)) == (0, [])
    assert sum(day["frames"] for day in report["days"]) == received
    code, report = await check("coverage", bucket.place)
    assert (code, len(report["days"])) == (0, 1)

    part = next(name for name in bucket.names() if name.endswith(".jsonl.zst"))
    bucket.delete(part)
    code, report = await check("verify", bucket.place)
    assert code == 1
    assert "frames_missing" in faults(report)
