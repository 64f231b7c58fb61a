"""Objects read as an archive: against a real S3 server, and against fsspec's memory."""

from __future__ import annotations

import hashlib
import os
import socket
import uuid
from unittest import mock

import boto3
import fsspec
import pytest
import zstandard
from moto.server import ThreadedMotoServer

from ssmd_core.errors import StorageFailed
from ssmd_core.records import Batch, Stream
from ssmd_core.sink.archive import Content, Damaged, Digest
from ssmd_sink_file.archive import open_archive
from ssmd_sink_file.lines.writer import LineWriter
from ssmd_sink_file.reading import objects as object_archive

NOON = 1_795_348_800_000_000_000
TODAY = "2026-11-22"
FOLDER = f"date={TODAY}/feed=kalshi"


def lines(*frames, at=0):
    return b"".join(part.data for part in LineWriter("kalshi").parts(Batch(NOON + at, [*frames])))


def packed(*pieces):
    return b"".join(map(zstandard.ZstdCompressor(write_checksum=True).compress, pieces))


def part(first, last, end=".jsonl.zst"):
    return f"{FOLDER}/{NOON + first:019d}-{NOON + last:019d}{end}"


@pytest.fixture(scope="module")
def server():
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def bucket(server, monkeypatch):
    """Make a bucket of its own; return it with the place that names it."""
    for name, value in {
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
    }.items():
        monkeypatch.setenv(name, value)
    for name in ("AWS_SESSION_TOKEN", "AWS_PROFILE", *object_archive._ENDPOINTS):
        monkeypatch.delenv(name, raising=False)
    store = boto3.resource("s3", endpoint_url=server)
    bucket = store.create_bucket(Bucket=f"b{uuid.uuid4().hex}")
    yield bucket
    store.meta.client.close()


@pytest.fixture
def read(bucket, server):
    """Open what lies below a prefix of the bucket."""

    def open_it(prefix="raw", environ=None):
        found = {"AWS_ENDPOINT_URL": server} if environ is None else environ
        return open_archive(f"s3://{bucket.name}/{prefix}", found)

    return open_it


@pytest.fixture
def put(bucket):
    def write(name, data=b"", prefix="raw"):
        bucket.put_object(Key=f"{prefix}/{name}", Body=data)

    return write


def frames(archive, day=TODAY):
    return [
        item
        for file in archive.files("kalshi", day)
        if file.content is not Content.LEDGER
        for item in archive.frames(file)
    ]


def test_feeds_days_and_files_are_told_from_names(put, read):
    put(part(9, 12))
    put(part(1, 8))
    put(part(0, 8, ".coverage.jsonl"))
    put(part(5, 6, ".rest.jsonl.zst"))
    put("date=2026-11-20/feed=other/1-2.jsonl.zst")
    for foreign in (
        f"{FOLDER}/README",
        part(1, 8, ".jsonl.zst.tmp"),
        "date=2026-13-01/feed=x/y",
        f"date={TODAY}/feed=X/y",
        f"date={TODAY}/loose",
        "loose",
        f"{TODAY}/kalshi.jsonl",
    ):
        put(foreign)
    archive = read()
    assert archive.feeds() == ["kalshi", "other"]
    assert archive.days("kalshi") == [TODAY]
    assert archive.days("other") == ["2026-11-20"]
    assert archive.files("other", "2026-11-20") == []
    found = archive.files("kalshi", TODAY)
    assert [file.name for file in found if file.content is Content.LIVE] == [
        part(1, 8),
        part(9, 12),
    ]
    assert {file.content: file.name for file in found if file.content is not Content.LIVE} == {
        Content.REST: part(5, 6, ".rest.jsonl.zst"),
        Content.LEDGER: part(0, 8, ".coverage.jsonl"),
    }
    assert not any(file.is_open for file in found)


def test_parts_are_read_in_ranges(put, read):
    batches = [Batch(NOON + 10 * n, [b'"%b"' % (b"%d" % n * 900)] * 3) for n in range(9)]
    pieces = [b"".join(p.data for p in LineWriter("kalshi").parts(batch)) for batch in batches]
    put(part(0, 42), packed(*pieces[:5]))
    put(part(50, 82, ".jsonl"), b"".join(pieces[5:]))
    with mock.patch.object(object_archive, "_RANGE_BYTES", 100):
        assert frames(read()) == batches


def test_a_part_whose_ledger_is_missing_is_damaged(put, read):
    put(part(0, 1), packed(lines(b"1", b"2")))
    put(part(0, 1, ".coverage.jsonl"))
    put(part(5, 5), packed(lines(b"3", at=5)))
    assert frames(read()) == [
        Batch(NOON, [b"1", b"2"]),
        Damaged(
            part(5, 5, ".coverage.jsonl"), 1, 1, "the ledger of the part is missing; each has one"
        ),
        Batch(NOON + 5, [b"3"]),
    ]
    put(part(5, 5, ".coverage.jsonl"))
    assert frames(read()) == [Batch(NOON, [b"1", b"2"]), Batch(NOON + 5, [b"3"])]


def test_what_came_over_rest_is_read_from_its_folder_and_from_beside_live_frames(put, read):
    rest = f"{FOLDER}/rest/{NOON}-{NOON}.rest.jsonl.zst"
    put(rest, packed(lines(b"1")))
    put(part(5, 5, ".rest.jsonl.zst"), packed(lines(b"2", at=5)))
    archive = read()
    assert {file.name: file.content for file in archive.files("kalshi", TODAY)} == {
        rest: Content.REST,
        part(5, 5, ".rest.jsonl.zst"): Content.REST,
    }
    assert frames(archive) == [
        Batch(NOON, [b"1"], stream=Stream.REST),
        Batch(NOON + 5, [b"2"], stream=Stream.REST),
    ]


def test_what_came_over_rest_and_the_ledger_are_read(put, read):
    put(part(1, 2, ".rest.jsonl.zst"), packed(lines(b"[]", b"{}", at=1)))
    note = b'{"ts":"2026-11-22T12:00:00.000000001+00:00","event":"gap"}'
    put(part(1, 2, ".coverage.jsonl"), note + b"\nx\n")
    archive = read()
    assert frames(archive) == [Batch(NOON + 1, [b"[]", b"{}"], stream=Stream.REST)]
    (ledger,) = (f for f in archive.files("kalshi", TODAY) if f.content is Content.LEDGER)
    damaged = Damaged(ledger.name, 2, 1, "not a line of a ledger")
    assert list(archive.notes(ledger)) == [(NOON + 1, note), damaged]


def test_a_damaged_part_is_told_and_the_rest_of_it_read(put, read):
    one, two = packed(lines(b"1")), packed(lines(b"2", at=1))
    put(part(0, 2), one[:-4] + two + packed(lines(b"3", at=2))[:-1])
    found = frames(read())
    assert [item.line for item in found if isinstance(item, Damaged)] == [1, 3]
    assert [item.frames for item in found if isinstance(item, Batch)] == [[b"2"]]


def test_the_digest_is_of_the_object_as_it_lies(put, read):
    data = packed(lines(b"1", b"2"), lines(b"3", at=9))
    put(part(0, 9), data)
    archive = read()
    (file,) = archive.files("kalshi", TODAY)
    assert archive.digest(file) == Digest(3, len(data), hashlib.sha256(data).hexdigest())


def test_what_comes_later_is_seen(put, read):
    put(part(0, 1), packed(lines(b"1")))
    archive = read()
    assert len(archive.files("kalshi", TODAY)) == 1
    put(part(2, 3), packed(lines(b"2", at=2)))
    put("date=2026-11-23/feed=kalshi/x")
    assert len(archive.files("kalshi", TODAY)) == 2
    assert archive.days("kalshi") == [TODAY, "2026-11-23"]


def test_a_day_alone_is_an_archive_of_that_day(put, read):
    put(part(0, 1), packed(lines(b"1")))
    put("date=2026-11-20/feed=kalshi/x")
    archive = read(f"raw/date={TODAY}/")
    assert archive.days("kalshi") == [TODAY]
    assert frames(archive) == [Batch(NOON, [b"1"])]
    assert archive.place.endswith(f"/raw/date={TODAY}")


def test_the_bucket_itself_may_be_the_root(put, read, bucket):
    bucket.put_object(Key=part(0, 1), Body=packed(lines(b"1")))
    assert frames(read("")) == [Batch(NOON, [b"1"])]


@pytest.mark.parametrize(
    "variable", ["AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3", "FSSPEC_S3_ENDPOINT_URL"]
)
def test_the_address_of_the_store_comes_from_the_environment(put, read, server, variable):
    put(part(0, 1), packed(lines(b"1")))
    assert read(environ={variable: server}).feeds() == ["kalshi"]


def test_the_address_of_the_store_may_stand_in_the_url(put, read, server):
    put(part(0, 1), packed(lines(b"1")))
    wrong = {"AWS_ENDPOINT_URL": "http://127.0.0.1:1"}
    archive = read(f"raw?endpoint_url={server}", wrong)
    assert archive.feeds() == ["kalshi"]
    assert server not in archive.place


def test_values_beside_the_archive_are_read(put, read):
    put(part(0, 1))
    put(".kalshi.connector", b"abc")
    archive = read()
    assert archive.load("kalshi", "connector") == b"abc"
    assert archive.load("kalshi", "cursor") is None
    assert archive.torn_bytes("kalshi", TODAY) == 0


def test_where_no_archive_is_the_message_says_where_and_what_was_expected(read, bucket):
    with pytest.raises(StorageFailed, match=r"no archive at s3://\w+/raw: .*feed=kalshi"):
        read()
    bucket.delete()
    with pytest.raises(StorageFailed, match=r"s3://\w+/raw: there is no bucket"):
        read()


def test_a_store_that_is_not_there_is_told(bucket, read):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    with pytest.raises(StorageFailed, match=r"names of s3://\w+/raw: EndpointConn"):
        read(environ={"AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}"})


def test_an_object_that_was_removed_is_named(put, read, bucket):
    put(part(0, 1))
    archive = read()
    (file,) = archive.files("kalshi", TODAY)
    bucket.Object(f"raw/{file.name}").delete()
    with pytest.raises(StorageFailed, match=f"cannot read {file.name} of s3://.* not there"):
        list(archive.frames(file))


def test_a_password_in_a_url_is_not_shown():
    with pytest.raises(StorageFailed, match="credentials do not stand in a URL") as caught:
        open_archive("s3://key:hunter2@bucket/raw", {})
    assert "hunter2" not in str(caught.value)


def test_any_store_that_fsspec_knows_will_do():
    store = fsspec.filesystem("memory")
    root = f"/{uuid.uuid4().hex}"
    store.pipe_file(f"{root}/{part(0, 1)}", packed(lines(b"1")))
    archive = open_archive(f"memory:/{root}", {})
    assert archive.feeds() == ["kalshi"]
    assert frames(archive) == [Batch(NOON, [b"1"])]
