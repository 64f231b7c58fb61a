"""A real S3 server on loopback, and archives that go there."""

from __future__ import annotations

import contextlib
import functools
import gzip
import socket
import uuid
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import boto3
import fsspec
import pytest
import zstandard
from moto.server import ThreadedMotoServer

from ssmd_core.clock import iso
from ssmd_sink_file.lines.parser import LineParser
from ssmd_sink_file.objects.config import ObjectConfig
from ssmd_sink_file.objects.sink import ObjectStorage

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


class Place(ABC):
    """Where objects are, as somebody else sees it."""

    section: dict[str, Any]
    """What the settings say of it."""

    @abstractmethod
    def names(self) -> list[str]: ...

    @abstractmethod
    def get(self, name: str) -> bytes: ...

    @abstractmethod
    def put(self, name: str, data: bytes) -> None: ...

    def lines(self, ending: str) -> list[bytes]:
        """Return the lines of the objects whose names end so after the times, in order."""
        names = [n for n in self.names() if n.partition(".")[2] == ending]
        return b"".join(plain(name, self.get(name)) for name in names).splitlines()

    def frames(self, ending: str = "jsonl.zst", feed: str = "kalshi") -> list[bytes]:
        """Return the frames of such objects."""
        return [LineParser(feed).parse(line).data for line in self.lines(ending)]


class Bucket(Place):
    """A bucket of the S3 server."""

    def __init__(self, name: str, url: str, client: Any) -> None:
        self.section = {"bucket": name, "endpoint_url": url}
        self.name = name
        self._client = client

    def names(self) -> list[str]:
        listed = self._client.list_objects_v2(Bucket=self.name)
        return sorted(item["Key"] for item in listed.get("Contents", ()))

    def get(self, name: str) -> bytes:
        return self._client.get_object(Bucket=self.name, Key=name)["Body"].read()

    def put(self, name: str, data: bytes) -> None:
        self._client.put_object(Bucket=self.name, Key=name, Body=data)


class Memory(Place):
    """A folder of the store that fsspec keeps in memory: quick, where no server is the point."""

    def __init__(self) -> None:
        self._root = f"/{uuid.uuid4().hex}"
        self._fs = fsspec.filesystem("memory")
        self.section = {"path": f"memory:/{self._root}"}

    def names(self) -> list[str]:
        try:
            return sorted(name.removeprefix(self._root)[1:] for name in self._fs.find(self._root))
        except FileNotFoundError:
            return []

    def get(self, name: str) -> bytes:
        return self._fs.cat_file(f"{self._root}/{name}")

    def put(self, name: str, data: bytes) -> None:
        self._fs.pipe_file(f"{self._root}/{name}", data)


def plain(name: str, data: bytes) -> bytes:
    match name.rpartition(".")[2]:
        case "zst":
            reader = zstandard.ZstdDecompressor().stream_reader(data, read_across_frames=True)
            return reader.read()
        case "gz":
            return gzip.decompress(data)
    return data


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
def make_server() -> type[Server]:
    return Server


@pytest.fixture
def bucket(s3: Server, credentials: None, request: pytest.FixtureRequest) -> Iterator[Bucket]:
    client = boto3.client("s3", endpoint_url=s3.url)
    name = f"market-{abs(hash(request.node.nodeid)):x}"
    client.create_bucket(Bucket=name)
    yield Bucket(name, s3.url, client)
    client.close()


@pytest.fixture
def memory() -> Memory:
    return Memory()


@pytest.fixture
def make_memory() -> type[Memory]:
    return Memory


class Proxy:
    """Stands between a connector and the S3 server; ``mode`` says how it behaves from now on."""

    def __init__(self, target_port: int) -> None:
        self._target_port = target_port
        self.mode = "pass"
        self.requests = 0
        self.url = ""
        self._streams: set[Any] = set()

    async def serve(self, *, task_status: Any = anyio.TASK_STATUS_IGNORED) -> None:
        listener = await anyio.create_tcp_listener(local_host="127.0.0.1", local_port=0)
        port = listener.extra(anyio.abc.SocketAttribute.local_port)
        self.url = f"http://127.0.0.1:{port}"
        async with listener:
            task_status.started()
            await listener.serve(self._handle)

    async def turn(self, mode: str) -> None:
        """Behave so: ``pass``, ``slow``, ``stall`` or a status such as ``503``."""
        self.mode = mode
        for stream in list(self._streams):
            await stream.aclose()

    async def _handle(self, client: Any) -> None:
        self._streams.add(client)
        with contextlib.suppress(anyio.BrokenResourceError, anyio.ClosedResourceError, OSError):
            async with client:
                await self._answer(client)
        self._streams.discard(client)

    async def _answer(self, client: Any) -> None:
        self.requests += 1
        match self.mode:
            case "pass" | "slow":
                await self._relay(client)
            case "stall":
                with contextlib.suppress(anyio.EndOfStream):
                    while True:
                        await client.receive()
            case status:
                await client.receive()
                body = b"<Error><Code>Broken</Code><Message>as told</Message></Error>"
                head = f"HTTP/1.1 {status} No\r\nContent-Length: {len(body)}\r\n"
                await client.send(f"{head}Connection: close\r\n\r\n".encode() + body)

    async def _relay(self, client: Any) -> None:
        async with (
            await anyio.connect_tcp("127.0.0.1", self._target_port) as server,
            anyio.create_task_group() as tasks,
        ):
            tasks.start_soon(self._copy, server, client)
            await self._copy(client, server)
            tasks.cancel_scope.cancel()

    async def _copy(self, source: Any, target: Any) -> None:
        with contextlib.suppress(
            anyio.EndOfStream, anyio.BrokenResourceError, anyio.ClosedResourceError
        ):
            while True:
                data = await source.receive(256 if self.mode == "slow" else 65_536)
                if self.mode == "slow":
                    await anyio.sleep(0.001)
                await target.send(data)


@pytest.fixture
async def proxy(s3: Server) -> AsyncIterator[Proxy]:
    async with anyio.create_task_group() as tasks:
        proxy = Proxy(s3.port)
        await tasks.start(proxy.serve)
        yield proxy
        tasks.cancel_scope.cancel()


@pytest.fixture
def spool(tmp_path: Path) -> Path:
    return tmp_path / "spool"


def make_storage(
    place: Place,
    spool: Path,
    told: Any,
    *,
    feed: str = "kalshi",
    config: Any = None,
    **options: Any,
) -> ObjectStorage:
    section = {**place.section, "spool": str(spool), **(config or {})}
    options.setdefault("lock_seconds", 10.0)
    options.setdefault("wall_ns", lambda: NOON)
    options.setdefault("wait_seconds", lambda failures: 0.02)
    return ObjectStorage(told.context(feed), ObjectConfig(**section), **options)


@asynccontextmanager
async def opened(
    place: Place, spool: Path, told: Any, **options: Any
) -> AsyncIterator[ObjectStorage]:
    storage = make_storage(place, spool, told, **options)
    await storage.open()
    try:
        yield storage
    finally:
        await storage.aclose()


@pytest.fixture
def make(memory: Memory, spool: Path, told: Any) -> Callable[..., ObjectStorage]:
    """Make a storage on the store in memory, not opened."""
    return functools.partial(make_storage, memory, spool, told)


@pytest.fixture
def archive(memory: Memory, spool: Path, told: Any) -> Callable[..., Any]:
    """Open a storage on the store in memory for the length of an ``async with``."""
    return functools.partial(opened, memory, spool, told)


@pytest.fixture
def make_s3(bucket: Bucket, spool: Path, told: Any) -> Callable[..., ObjectStorage]:
    """Make a storage on the bucket, not opened."""
    return functools.partial(make_storage, bucket, spool, told)


@pytest.fixture
def s3_archive(bucket: Bucket, spool: Path, told: Any) -> Callable[..., Any]:
    """Open a storage on the bucket for the length of an ``async with``."""
    return functools.partial(opened, bucket, spool, told)


@pytest.fixture
def files(spool: Path) -> Callable[[], list[str]]:
    """Tell what waits in the spool of the feed, the days' folders apart."""

    def list_files() -> list[str]:
        base = spool / "kalshi"
        names = (str(path.relative_to(base)) for path in base.rglob("*") if path.is_file())
        return sorted(name for name in names if not name.startswith("kept/"))

    return list_files


@pytest.fixture
def kept(spool: Path) -> Callable[[], list[str]]:
    """Tell which uploaded files lie in the spool of the feed for the next start."""

    def list_files() -> list[str]:
        base = spool / "kalshi" / "kept"
        return sorted(str(path.relative_to(base)) for path in base.rglob("*") if path.is_file())

    return list_files


@pytest.fixture
def ledger_line() -> Callable[..., bytes]:
    """Make a line of the coverage ledger, ``at`` nanoseconds after noon."""

    def make_line(at: int, event: str = "subscribed") -> bytes:
        return b'{"ts":"%b","session":null,"conn":null,"event":"%b"}' % (
            iso(NOON + at).encode(),
            event.encode(),
        )

    return make_line
