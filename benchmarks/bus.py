"""What the bus holds: a stream of the guide's, how many messages, and when each was stored."""

from __future__ import annotations

import array
import asyncio
import re
import socket
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeVar
from urllib.parse import urlsplit

import nats
from nats.js import JetStreamContext
from nats.js.api import (
    AckPolicy,
    ConsumerConfig,
    DeliverPolicy,
    DiscardPolicy,
    RetentionPolicy,
    StorageType,
    StreamConfig,
)

from benchmarks.contenders.common import STREAM

__all__ = ["Stored", "add_stream", "await_messages", "read_back", "remove_stream"]

_T = TypeVar("_T")
_POLL_SECONDS = 0.05
_HOUR_SECONDS = 3_600
_STATUS = b"prod.kalshi.status"
_INBOX = "bench.readback"
_DELIVERED = re.compile(rb"HMSG (\S+) 1 \$JS\.ACK\.\S+\.(\d+)\.(\d+) \d+ \d+\r\n")
"""Subject, when it was stored in Unix nanoseconds, and how many follow."""


@dataclass(frozen=True, slots=True)
class Stored:
    """The records of a stream in order, those of the ledger left out."""

    subjects: list[bytes]
    stored_ns: array.array[int]


def add_stream(url: str) -> None:
    """Make the stream as the deployment guide's command does."""

    async def add(stream: JetStreamContext) -> None:
        config = StreamConfig(
            name=STREAM,
            subjects=["prod.kalshi.>"],
            retention=RetentionPolicy.LIMITS,
            max_age=_HOUR_SECONDS,
            storage=StorageType.FILE,
            num_replicas=1,
            discard=DiscardPolicy.OLD,
        )
        await stream.add_stream(config)

    asyncio.run(_with_client(url, add))


def remove_stream(url: str) -> None:
    """Remove the stream with everything in it."""

    async def remove(stream: JetStreamContext) -> None:
        await stream.delete_stream(STREAM)

    asyncio.run(_with_client(url, remove))


def await_messages(url: str, messages: int, quiet_seconds: float) -> int:
    """Wait until so many are stored, or none was for a while; return how many there are.

    Messages of the ledger count here, so more may come.
    """

    async def wait(stream: JetStreamContext) -> int:
        before, quiet = -1, 0.0
        while quiet < quiet_seconds:
            now = (await stream.stream_info(STREAM)).state.messages
            if now >= messages:
                return now
            quiet = quiet + _POLL_SECONDS if now == before else 0.0
            before = now
            await asyncio.sleep(_POLL_SECONDS)
        return before

    return asyncio.run(_with_client(url, wait))


def read_back(url: str) -> Stored:
    """Read subject and time of every stored record.

    Raises:
        OSError: the server says nothing for ten seconds.
    """
    address = urlsplit(url)
    with socket.create_connection((address.hostname, address.port or 0), timeout=10) as peer:
        peer.sendall(b'CONNECT {"verbose":false,"headers":true}\r\n')
        peer.sendall(b"SUB %b 1\r\nPING\r\n" % _INBOX.encode())
        torn = b""
        while b"PONG" not in torn:
            torn += peer.recv(65_536)
        if not asyncio.run(_with_client(url, _start_delivery)):
            return Stored([], array.array("q"))
        return _collect(peer)


async def _start_delivery(stream: JetStreamContext) -> int:
    config = ConsumerConfig(
        deliver_subject=_INBOX,
        deliver_policy=DeliverPolicy.ALL,
        ack_policy=AckPolicy.NONE,
        headers_only=True,
    )
    count = (await stream.stream_info(STREAM)).state.messages
    if count:
        await stream.add_consumer(STREAM, config)
    return count


def _collect(peer: socket.socket) -> Stored:
    subjects: list[bytes] = []
    stored_ns = array.array("q")
    torn, pending = b"", 1
    while pending:
        data = peer.recv(1 << 20)
        if not data:
            raise ConnectionError("the server closed the connection while its stream was read")
        if b"PING\r\n" in data:
            peer.sendall(b"PONG\r\n")
        data = torn + data
        end = 0
        for match in _DELIVERED.finditer(data):
            end = match.end()
            pending = int(match[3])
            if match[1] != _STATUS:
                subjects.append(match[1])
                stored_ns.append(int(match[2]))
        torn = data[end:]
    return Stored(subjects, stored_ns)


async def _with_client(url: str, work: Callable[[JetStreamContext], Awaitable[_T]]) -> _T:
    client = await nats.connect(url, connect_timeout=5, allow_reconnect=False)
    try:
        return await work(client.jetstream())
    finally:
        await client.close()
