"""Carries one client's connection: handshake, messages both ways, and how it is broken."""

from __future__ import annotations

import asyncio
import logging
import socket
import struct
from collections import deque
from collections.abc import Callable, Sequence
from typing import Protocol

from websockets.extensions.permessage_deflate import ServerPerMessageDeflateFactory
from websockets.frames import Frame, Opcode
from websockets.http11 import Request
from websockets.protocol import SEND_EOF, State
from websockets.server import ServerProtocol
from websockets.typing import Subprotocol

from ssmd_core.testing.face import Answer, Client, Handshake, Refusal
from ssmd_core.testing.wire import BINARY, TEXT, pack

__all__ = ["Host", "Peer"]

_LOG = logging.getLogger("ssmd.loopback")
_LOG.setLevel(logging.WARNING)

_WRITE_BUFFER_BYTES = 256 * 1024
_MAX_COMMAND_BYTES = 16 * 1024 * 1024
_RESET_ON_CLOSE = struct.pack("ii", 1, 0)
"""SO_LINGER with time 0: closing sends RST instead of FIN."""


class Host(Protocol):
    """What a peer tells the venue."""

    compression: bool
    subprotocols: Sequence[str]

    def on_made(self, peer: Peer) -> None:
        """Take note of a TCP connection."""

    def on_handshake(self, handshake: Handshake) -> Refusal | None:
        """Decide whether the client comes in."""

    def on_request(self, peer: Peer, request: Handshake) -> bool:
        """Take a plain HTTP request; say whether it gets an answer of its own."""
        ...

    def on_open(self, peer: Peer, handshake: Handshake) -> Client:
        """Take note of a client that came in, and return its record."""
        ...

    def on_message(self, peer: Peer, message: bytes) -> None:
        """Take a whole message of the client."""

    def on_change(self) -> None:
        """Take note that a peer has room again, or is gone."""

    def on_lost(self, peer: Peer) -> None:
        """Take note that the connection is over."""


class Peer(asyncio.Protocol):
    """One connection to the venue."""

    client: Client

    def __init__(self, host: Host) -> None:
        self._host = host
        self._transport: asyncio.Transport | None = None
        self._incoming: list[bytes] = []
        self._skips: deque[tuple[int, bytes]] = deque()
        self._protocol = ServerProtocol(
            extensions=[ServerPerMessageDeflateFactory()] if host.compression else None,
            select_subprotocol=_first_known(host.subprotocols),
            max_size=_MAX_COMMAND_BYTES,
            logger=_LOG,
        )
        self._writable = True
        self.mute = False
        """Nothing goes out, pongs included."""

    # ── asyncio ──────────────────────────────────────────────────────────────────

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        assert isinstance(transport, asyncio.Transport)  # noqa: S101  tells mypy what TCP gives
        transport.set_write_buffer_limits(high=_WRITE_BUFFER_BYTES)
        self._transport = transport
        self._host.on_made(self)

    def data_received(self, data: bytes) -> None:
        """Carry out what arrived."""
        self._protocol.receive_data(data)
        self._carry_out()

    def eof_received(self) -> bool:
        """Answer the end of the client's stream by ending ours."""
        self._protocol.receive_eof()
        self._carry_out()
        return False

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002  asyncio's signature
        """Take note that the connection is over."""
        self._transport = None
        self._host.on_lost(self)

    def pause_writing(self) -> None:
        """Take note that the client reads too slowly."""
        self._writable = False

    def resume_writing(self) -> None:
        """Take note that the client has read."""
        self._writable = True
        self._host.on_change()

    # ── state ────────────────────────────────────────────────────────────────────

    @property
    def open(self) -> bool:
        """Whether messages can be sent."""
        transport = self._transport
        return (
            transport is not None
            and not transport.is_closing()
            and self._protocol.state is State.OPEN
        )

    @property
    def drained(self) -> bool:
        """Whether nobody has to wait for this client to read."""
        return self._writable or self.mute or not self.open

    # ── sending ──────────────────────────────────────────────────────────────────

    def send(self, messages: Sequence[bytes], *, data: bool = False, binary: bool = False) -> None:
        """Send messages in one write. Dropped, and not counted, once the connection is over."""
        if data and self._skips:
            messages = self._withhold(messages)
        if not messages or not self.open or self.mute:
            return
        self.client.note_sent(messages, data=data)
        if self._protocol.extensions:
            for message in messages:
                if binary:
                    self._protocol.send_binary(message)
                else:
                    self._protocol.send_text(message)
            self._flush()
        else:
            self._write(pack(messages, BINARY if binary else TEXT))

    def skip(self, count: int, matching: bytes) -> None:
        """Keep back the next ``count`` data messages that contain ``matching``."""
        self._skips.append((count, matching))

    def ping(self, body: bytes) -> None:
        """Send a ping."""
        if self.open and not self.mute:
            self._protocol.send_ping(body)
            self._flush()

    def reply(self, answer: Answer, *, cut: bool = False) -> None:
        """Answer a plain HTTP request, and reset the connection in mid-body if asked."""
        transport = self._transport
        if transport is None or transport.is_closing():
            return
        response = self._protocol.reject(answer.status, "")
        response.body = answer.body
        for name, value in {
            "Content-Type": answer.content_type,
            "Content-Length": str(len(answer.body)),
        }.items():
            del response.headers[name]
            response.headers[name] = value
        if cut:
            transport.write(response.serialize()[: -max(1, len(answer.body) // 2)])
            self.cut()
            return
        self._protocol.send_response(response)
        self._flush()

    # ── misbehaving ──────────────────────────────────────────────────────────────

    def close(self, code: int, reason: str) -> None:
        """Begin the closing handshake."""
        if self.open:
            self._protocol.send_close(code, reason)
            self._flush()

    def cut(self, message: bytes = b"") -> None:
        """Reset the TCP connection; with a message, in the middle of sending it."""
        transport = self._transport
        if transport is None:
            return
        if message and self.open:
            frame = pack([message])
            transport.write(frame[: len(frame) // 2])
        sock: socket.socket = transport.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
        transport.abort()

    def deafen(self) -> None:
        """Stop reading."""
        if self._transport is not None and not self._transport.is_closing():
            self._transport.pause_reading()

    def recover(self) -> None:
        """Read and send again."""
        self.mute = False
        self._skips.clear()
        if self._transport is not None and not self._transport.is_closing():
            self._transport.resume_reading()
            self._flush()

    # ── inside ───────────────────────────────────────────────────────────────────

    def _carry_out(self) -> None:
        for event in self._protocol.events_received():
            if isinstance(event, Request):
                self._shake_hands(event)
            elif isinstance(event, Frame):
                self._take(event)
        self._flush()

    def _shake_hands(self, request: Request) -> None:
        handshake = Handshake(request.path, request.headers)
        is_plain = "Upgrade" not in request.headers
        if is_plain and self._host.on_request(self, handshake):
            return
        refusal = self._host.on_handshake(handshake)
        if refusal is None:
            response = self._protocol.accept(request)
        else:
            response = self._protocol.reject(refusal.status, refusal.body)
            del response.headers["Content-Type"]
            response.headers["Content-Type"] = refusal.content_type
        self._protocol.send_response(response)
        if self._protocol.state is State.OPEN:
            self._flush()
            self.client = self._host.on_open(self, handshake)

    def _take(self, frame: Frame) -> None:
        match frame.opcode:
            case Opcode.TEXT | Opcode.BINARY | Opcode.CONT:
                self._incoming.append(bytes(frame.data))
                if frame.fin:
                    message, self._incoming = b"".join(self._incoming), []
                    self._host.on_message(self, message)
            case Opcode.PONG:
                self.client.pongs.append(bytes(frame.data))
                self._host.on_change()
            case Opcode.CLOSE:
                received = self._protocol.close_rcvd
                self.client.close_code = received.code if received else None
            case _:
                pass

    def _withhold(self, messages: Sequence[bytes]) -> list[bytes]:
        out: list[bytes] = []
        for message in messages:
            left, matching = self._skips[0] if self._skips else (0, b"")
            if left and matching in message:
                if self.client.keep:
                    self.client.withheld.append(message)
                self._skips.popleft()
                if left > 1:
                    self._skips.appendleft((left - 1, matching))
            else:
                out.append(message)
        return out

    def _flush(self) -> None:
        if self.mute:
            return
        for data in self._protocol.data_to_send():
            if data == SEND_EOF:
                if self._transport is not None:
                    self._transport.close()
            else:
                self._write(data)

    def _write(self, data: bytes) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(data)


def _first_known(
    known: Sequence[str],
) -> Callable[[ServerProtocol, Sequence[Subprotocol]], Subprotocol | None]:
    """Agree on the first subprotocol offered that is known; a client may offer none."""

    def select(_: ServerProtocol, offered: Sequence[Subprotocol]) -> Subprotocol | None:
        return next((name for name in offered if name in known), None)

    return select
