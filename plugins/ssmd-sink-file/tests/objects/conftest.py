"""A real S3 server on loopback, and archives that go there."""

from __future__ import annotations

import functools
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import boto3
import pytest
import zstandard
from moto.server import ThreadedMotoServer

from ssmd_core.clock import iso
from ssmd_sink_file.object_config import S3Config
from ssmd_sink_file.objects import ObjectStorage

NOON = 1_795_348_800_000_000_000
"""2026-11-22T12:00:00Z."""


class Server:
    """An S3 server whose port stays the same when it is stopped and started."""

    def __init__(self) -> None:
        with socket.socket() as sock:
            sock.bind(("127.0.0.1", 0))
            self.port = sock.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self._server: ThreadedMotoServer | None = None

    def start(self) -> None:
        self._server = ThreadedMotoServer(ip_address="127.0.0.1", port=self.port, verbose=False)
        self._server.start()

    def stop(self) -> None:
        server, self._server = self._server, None
        if server is not None:
            server.stop()


@dataclass
class Bucket:
    """A bucket as somebody else sees it."""

    name: str
    url: str
    client: Any = field(repr=False)

    def names(self) -> list[str]:
        listed = self.client.list_objects_v2(Bucket=self.name)
        return sorted(item["Key"] for item in listed.get("Contents", ()))

    def get(self, name: str) -> bytes:
        return self.client.get_object(Bucket=self.name, Key=name)["Body"].read()

    def put(self, name: str, data: bytes) -> None:
        self.client.put_object(Bucket=self.name, Key=name, Body=data)

    def lines(self, ending: str = ".jsonl.zst", *, but: str = ".rest") -> list[bytes]:
        """Return the lines of the objects whose names end so, in order of their names."""
        names = [n for n in self.names() if n.endswith(ending) and but + ending not in n]
        return b"".join(plain(name, self.get(name)) for name in names).splitlines()


def plain(name: str, data: bytes) -> bytes:
    if not name.endswith(".zst"):
        return data
    reader = zstandard.ZstdDecompressor().stream_reader(data, read_across_frames=True)
    return reader.read()


@pytest.fixture(autouse=True)
def credentials(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Credentials as a pod has them, and none of whoever runs the tests."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key-of-tests")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret-of-tests")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "no-config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "no-credentials"))
    for name in ("AWS_SESSION_TOKEN", "AWS_PROFILE", "AWS_ENDPOINT_URL", "FSSPEC_S3_ENDPOINT_URL"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(scope="session")
def s3() -> Iterator[Server]:
    server = Server()
    server.start()
    yield server
    server.stop()


@pytest.fixture
def bucket(s3: Server, credentials: None, request: pytest.FixtureRequest) -> Iterator[Bucket]:
    client = boto3.client("s3", endpoint_url=s3.url)
    name = f"market-{abs(hash(request.node.nodeid)):x}"
    client.create_bucket(Bucket=name)
    yield Bucket(name, s3.url, client)
    client.close()


@pytest.fixture
def spool(tmp_path: Path) -> Path:
    return tmp_path / "spool"


def make_storage(
    bucket: Bucket,
    spool: Path,
    told: Any,
    *,
    feed: str = "kalshi",
    config: Any = None,
    **options: Any,
) -> ObjectStorage:
    section = {"bucket": bucket.name, "endpoint_url": bucket.url, "spool": str(spool)}
    options.setdefault("lock_seconds", 10.0)
    options.setdefault("wall_ns", lambda: NOON)
    options.setdefault("wait_seconds", lambda failures: 0.02)
    return ObjectStorage(told.context(feed), S3Config(**section | (config or {})), **options)


@asynccontextmanager
async def opened(
    bucket: Bucket, spool: Path, told: Any, **options: Any
) -> AsyncIterator[ObjectStorage]:
    storage = make_storage(bucket, spool, told, **options)
    await storage.open()
    try:
        yield storage
    finally:
        await storage.aclose()


@pytest.fixture
def make(bucket: Bucket, spool: Path, told: Any) -> Callable[..., ObjectStorage]:
    """Make a storage on the bucket, not opened."""
    return functools.partial(make_storage, bucket, spool, told)


@pytest.fixture
def archive(bucket: Bucket, spool: Path, told: Any) -> Callable[..., Any]:
    """Open a storage on the bucket for the length of an ``async with``."""
    return functools.partial(opened, bucket, spool, told)


@pytest.fixture
def ledger_line() -> Callable[..., bytes]:
    """Make a line of the coverage ledger, ``at`` nanoseconds after noon."""

    def make_line(at: int, event: str = "subscribed") -> bytes:
        return b'{"ts":"%b","session":null,"conn":null,"event":"%b"}' % (
            iso(NOON + at).encode(),
            event.encode(),
        )

    return make_line
