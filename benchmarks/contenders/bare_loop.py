"""The least that a program in Python can do with a venue: no more than one read and one write.

On uvloop, everything that a wake-up brought is cut into frames and their type and number are
decoded; then one time stamp is taken and one line a frame is written at once. Or, with a bus:
one message a frame with a ready-made payload, and its acknowledgement read. There is no sync,
no ledger, no sequence check, no reconnecting: what a recorder costs comes on top.
"""

from __future__ import annotations

import asyncio
import os
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import cast
from urllib.parse import urlsplit

import msgspec
import uvloop

from benchmarks.contenders.common import SUBSCRIBE
from ssmd_core.feed.framing import Splitter

_BUFFER_BYTES = 64 * 1024
_PUBLISHED = frozenset({"ticker", "trade"})
_PAYLOAD = bytes(112)
"""As large as a ticker of ``trade:v1``."""


class _Frame(msgspec.Struct, gc=False):
    type: str
    sid: int | None = None
    seq: int | None = None


_decode = msgspec.json.Decoder(_Frame).decode


class _Lines:
    """The archive."""

    def __init__(self, archive: Path) -> None:
        now = datetime.now(UTC)
        day = archive / now.strftime("%Y-%m-%d")
        day.mkdir(parents=True)
        self._fd = os.open(day / "kalshi.jsonl", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        self._begin = now.strftime('{"ts":"%Y-%m-%dT').encode()

    def take(self, frames: list[bytes], kinds: list[str]) -> None:  # noqa: ARG002  proven only
        head = b'%b%020d","feed":"kalshi","data":' % (self._begin, time.time_ns())
        os.write(self._fd, head + (b"}\n" + head).join(frames) + b"}\n")


class _Messages(asyncio.BufferedProtocol):
    """The bus."""

    def __init__(self) -> None:
        self._buffer = memoryview(bytearray(_BUFFER_BYTES))
        self._transport: asyncio.Transport | None = None
        self._sent = 0
        self.acknowledged = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._transport.write(
            b'CONNECT {"verbose":false,"headers":true,"no_responders":true}\r\n'
            b"SUB _INBOX.bare.* 1\r\n"
        )

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: ARG002  one size for all
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        data = bytes(self._buffer[:nbytes])
        self.acknowledged += data.count(b'"seq":')
        if self._transport is not None and b"PING\r\n" in data:
            self._transport.write(b"PONG\r\n")

    def take(self, frames: list[bytes], kinds: list[str]) -> None:  # noqa: ARG002  the kinds do
        assert self._transport is not None
        now_ns = time.time_ns()
        operations: list[bytes] = []
        out = [kind.encode() for kind in kinds if kind in _PUBLISHED]
        for number, kind in enumerate(out, self._sent):
            head = b"NATS/1.0\r\nNats-Msg-Id: bare:%d:%d\r\n\r\n" % (now_ns, number)
            sizes = (len(head), len(head) + len(_PAYLOAD))
            line = b"HPUB prod.kalshi.%b.BARE _INBOX.bare.%d %d %d\r\n" % (kind, number, *sizes)
            operations += (line, head, _PAYLOAD, b"\r\n")
        self._sent += len(operations) // 4
        if operations:
            self._transport.write(b"".join(operations))


class _Venue(asyncio.BufferedProtocol):
    """The connection to the venue."""

    def __init__(self, path: str, sink: _Lines | _Messages) -> None:
        self._path = path
        self._sink = sink
        self._buffer = memoryview(bytearray(_BUFFER_BYTES))
        self._splitter = Splitter(1 << 20)
        self._transport: asyncio.Transport | None = None
        self._is_open = False
        self._head = b""
        self.ended = asyncio.Event()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._transport.write(
            b"GET %b HTTP/1.1\r\nHost: venue\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
            % self._path.encode()
        )

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002  over is over
        self.ended.set()

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: ARG002  one size for all
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        data = bytes(self._buffer[:nbytes])
        if not self._is_open:
            data = self._shake_hands(data)
        self._splitter.feed(data)
        frames = self._splitter.texts()
        if frames:
            self._sink.take(frames, [_decode(frame).type for frame in frames])

    def _shake_hands(self, data: bytes) -> bytes:
        head, end, rest = (self._head + data).partition(b"\r\n\r\n")
        if not end:
            self._head = head
            return b""
        self._is_open = True
        assert self._transport is not None
        body = SUBSCRIBE.encode()
        # With a mask of zeros the masked body is the body.
        self._transport.write(b"\x81" + bytes((0x80 | len(body),)) + bytes(4) + body)
        return rest


async def main(url: str, target: str) -> None:
    """Record until the venue hangs up."""
    loop, venue = asyncio.get_running_loop(), urlsplit(url)
    sink: _Lines | _Messages
    if "://" in target:
        bus = urlsplit(target)
        _, sink = await loop.create_connection(_Messages, bus.hostname or "", bus.port or 0)
    else:
        sink = _Lines(Path(target))
    _, receiver = await loop.create_connection(
        lambda: _Venue(venue.path, sink), venue.hostname or "", venue.port or 0
    )
    await receiver.ended.wait()


if __name__ == "__main__":
    uvloop.run(main(sys.argv[1], sys.argv[2]))
