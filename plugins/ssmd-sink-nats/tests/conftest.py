"""Real servers on loopback, a proxy that misbehaves, and a transport run as the host runs it."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

import nats
import pytest
from nats.js.api import StreamConfig

from ssmd_core.metrics import Metrics
from ssmd_core.sink import Message, TransportContext
from ssmd_core.testing import NatsServer
from ssmd_sink_nats.config import NatsConfig
from ssmd_sink_nats.sink import NatsTransport


@pytest.fixture
def anyio_backend():
    return "asyncio"


@pytest.fixture
def make_server(tmp_path):
    """Start servers; all are gone after the test."""
    servers: list[NatsServer] = []

    def make(config: str = "", *, start: bool = True, jetstream: bool = True) -> NatsServer:
        server = NatsServer(tmp_path / f"nats{len(servers)}", config, jetstream=jetstream)
        servers.append(server)
        return server.start() if start else server

    yield make
    for server in servers:
        server.kill()


@pytest.fixture
def server(make_server):
    return make_server()


class Proxy:
    """A TCP relay in front of a server that can swallow what the server says, and reset."""

    def __init__(self, port: int) -> None:
        self.target = port
        self.swallow = False
        self.writers: list[asyncio.StreamWriter] = []
        self.accepted = 0

    async def start(self) -> Proxy:
        self.listener = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.url = f"nats://127.0.0.1:{self.listener.sockets[0].getsockname()[1]}"
        return self

    async def _serve(self, reader, writer):
        self.accepted += 1
        up_reader, up_writer = await asyncio.open_connection("127.0.0.1", self.target)
        self.writers += [writer, up_writer]

        async def pump(source, sink, *, down):
            with contextlib.suppress(OSError):
                while data := await source.read(65536):
                    if not (down and self.swallow):
                        sink.write(data)
                        await sink.drain()
            sink.close()

        await asyncio.gather(
            pump(reader, up_writer, down=False), pump(up_reader, writer, down=True)
        )

    def reset(self) -> None:
        for writer in self.writers:
            writer.transport.abort()
        self.writers.clear()

    async def aclose(self) -> None:
        self.listener.close()
        self.reset()
        await asyncio.sleep(0)


@pytest.fixture
def make_proxy():
    return Proxy


@contextlib.asynccontextmanager
async def talking(talk):
    """Run a peer that says what a test wants; yield its address."""
    tasks: set[asyncio.Task[None]] = set()

    async def serve(reader, writer):
        tasks.add(asyncio.current_task())
        with contextlib.suppress(OSError, EOFError, asyncio.CancelledError):
            await talk(reader, writer)
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()

    listener = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with listener:
        yield f"nats://127.0.0.1:{listener.sockets[0].getsockname()[1]}"
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


@pytest.fixture
def peer():
    return talking


class Bench:
    """A transport with what the host would give it, and what it told the host."""

    def __init__(self, config: dict[str, Any], *, kinds, archived: bool) -> None:
        self.metrics = Metrics()
        self.rejected: list[tuple[Message, str]] = []
        self.warnings: list[str] = []
        self.rooms = asyncio.Event()
        self.context = TransportContext(
            feed="kalshi",
            environment="prod",
            metrics=self.metrics,
            report=lambda event, **fields: None,
            environ={},
            warn=self.warnings.append,
            kinds=frozenset(kinds),
            archived=archived,
            on_room=self.rooms.set,
            on_rejected=lambda message, reason: self.rejected.append((message, reason)),
        )
        self.transport = NatsTransport(self.context, NatsConfig.model_validate(config))
        self.task: asyncio.Task[None] | None = None

    async def __aenter__(self):
        await self.transport.open()
        self.task = asyncio.create_task(self.transport.run())
        return self

    async def __aexit__(self, *exc: object) -> None:
        self.task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self.task
        await self.transport.aclose()

    async def feed(self, messages: list[Message], batch: int = 500) -> None:
        """Publish as the host does: as much as there is room for, then wait to be told."""
        at = 0
        while at < len(messages):
            self.rooms.clear()
            room = min(self.transport.room(), batch, len(messages) - at)
            if not room:
                async with asyncio.timeout(30):
                    await self.rooms.wait()
                continue
            self.transport.publish(messages[at : at + room])
            at += room
            await asyncio.sleep(0)

    async def flush(self, seconds: float = 30) -> None:
        async with asyncio.timeout(seconds):
            await self.transport.flush()


@pytest.fixture
def bench():
    """Make a transport for a configuration; enter it to run it."""

    def make(*, kinds=("trade", "ticker"), archived=False, **config: Any) -> Bench:
        return Bench(config, kinds=kinds, archived=archived)

    return make


def trades(count: int, first: int = 0, ticker: str = "KXBTC-26", **fields: Any) -> list[Message]:
    return [
        Message(
            kind="trade",
            ticker=ticker,
            payload=b"%d" % number,
            msg_id=f"kalshi:trade:{number}",
            ts=1_000_000 + number,
            schema="trade:v1",
            **fields,
        )
        for number in range(first, first + count)
    ]


@pytest.fixture
def make_trades():
    return trades


async def quiet(error: Exception) -> None:
    """Keep nats-py from logging what a test provokes."""


class Consumer:
    """What an independent client, nats-py, sees of the bus."""

    def __init__(self, url: str, **options: Any) -> None:
        self.url, self.options = url, options

    async def __aenter__(self):
        self.client = await nats.connect(
            self.url, allow_reconnect=False, error_cb=quiet, **self.options
        )
        self.jetstream = self.client.jetstream()
        return self

    async def __aexit__(self, *exc: object) -> None:
        with contextlib.suppress(Exception):
            await self.client.close()

    async def add_stream(self, name: str = "PROD_KALSHI", subjects=("prod.kalshi.>",), **fields):
        await self.jetstream.add_stream(StreamConfig(name=name, subjects=list(subjects), **fields))

    async def count(self, name: str = "PROD_KALSHI") -> int:
        return (await self.jetstream.stream_info(name)).state.messages

    async def stored(self, name: str = "PROD_KALSHI", subject: str = ">") -> list[Any]:
        """Return every message of a stream, in order."""
        expected = await self.count(name)
        subscription = await self.jetstream.subscribe(subject, stream=name, ordered_consumer=True)
        subscription._pending_bytes_limit = 1 << 30
        found = [await subscription.next_msg(timeout=10) for _ in range(expected)]
        await subscription.unsubscribe()
        return found


@pytest.fixture
def consumer():
    return Consumer
