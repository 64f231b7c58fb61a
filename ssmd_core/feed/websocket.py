"""The WebSocket driver: turns what a socket brings into batches of whole messages.

An ``asyncio.BufferedProtocol`` that hands everything a wake-up brought over as one batch. Plain
text messages are cut out of the stream by ``framing``; the handshake, and every frame of another
sort, are the work of websockets' sans-I/O protocol.
"""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Callable, Collection, Sequence
from collections.abc import Set as AbstractSet
from email.utils import parsedate_to_datetime
from typing import Protocol, cast

from websockets.client import ClientProtocol
from websockets.exceptions import InvalidStatus, PayloadTooBig
from websockets.frames import Frame, Opcode
from websockets.protocol import CONNECTING, OPEN

from ssmd_core.errors import ConnectionEnded
from ssmd_core.feed.framing import Splitter
from ssmd_core.feed.resting import Rest

__all__ = ["Connection", "Listener"]

_MAX_BATCH = 1024
_READ_BYTES = 256 * 1024
_LINGER_SECONDS = 1.0
_NONE: frozenset[int] = frozenset()


class Listener(Protocol):
    """Who is told what a connection brings. Called in the event loop, must not wait."""

    def on_bytes(self, count: int) -> None:
        """Bytes came from the venue."""
        ...

    def on_frames(self, frames: list[bytes], binary: frozenset[int]) -> None:
        """Whole messages of one wake-up, in order; ``binary`` are positions of binary ones."""
        ...

    def on_pong(self) -> None:
        """The venue answered our ping."""
        ...


class Connection(asyncio.BufferedProtocol):
    """One open WebSocket. Made by ``dialing.dial``."""

    def __init__(
        self,
        protocol: ClientProtocol,
        listener: Listener,
        limit_bytes: int,
        secrets: Collection[str] = (),
        read_every_seconds: float = 0.0,
    ) -> None:
        self._protocol = protocol
        self._listener = listener
        self._secrets = secrets
        self._transport: asyncio.Transport | None = None
        self._loop = asyncio.get_running_loop()
        self.accepted: asyncio.Future[None] = self._loop.create_future()
        self._ended: asyncio.Future[ConnectionEnded] = self._loop.create_future()
        self._why: ConnectionEnded | None = None
        self._splitter = Splitter(limit_bytes)
        self._buffer = memoryview(bytearray(_READ_BYTES))
        self._parts: list[bytes] = []
        self._parts_binary = False
        self._early: list[tuple[list[bytes], frozenset[int]]] | None = []
        self._deaf = False
        self._open = False
        """Whether plain text need not go through the protocol."""
        self._paused = False
        self._rest: Rest | None = None
        if read_every_seconds:
            self._rest = Rest(read_every_seconds, self._buffer, self._read)

    # ── what the host calls ──────────────────────────────────────────────────────

    def start(self) -> None:
        """Begin to hand frames over, with those that came together with the handshake."""
        early, self._early = self._early or [], None
        for frames, binary in early:
            self._listener.on_frames(frames, binary)

    def send(self, data: bytes) -> None:
        """Send one text message; once the closing has begun, nothing."""
        if self._protocol.state is OPEN:
            self._protocol.send_text(data)
            self._write()

    def ping(self) -> None:
        """Send a ping; once the closing has begun, none."""
        if self._protocol.state is OPEN:
            self._protocol.send_ping(b"ssmd")
            self._write()

    def pause(self) -> None:
        """Stop reading: the venue feels it through TCP."""
        self._end_rest()
        self._paused = True
        if self._transport is not None and not self._transport.is_closing():
            self._transport.pause_reading()

    def resume(self) -> None:
        """Read on."""
        self._paused = False
        transport = self._transport
        rests = self._rest is not None and self._rest.lasts
        if transport is not None and not rests and not transport.is_closing():
            transport.resume_reading()

    def mask(self, text: str) -> str:
        """Return what the venue said without the header values that it was sent."""
        for secret in self._secrets:
            text = text.replace(secret, "***")
        return text

    def unsent_bytes(self) -> int:
        """Return how much of what was sent has not left the process."""
        return 0 if self._transport is None else self._transport.get_write_buffer_size()

    async def wait_ended(self) -> ConnectionEnded:
        """Return why the connection ended, once it did."""
        # Not awaited itself: cancelling the waiter would cancel the future for all.
        await asyncio.wait([self._ended])
        return self._ended.result()

    async def close(self, within_seconds: float) -> None:
        """Close with 1000. What still comes is not read as data."""
        self._deaf = True
        if not self._ended.done() and self._protocol.state is OPEN:
            self._open = False
            self._protocol.send_close(1000)
            self._write()
            self._end_rest()
            self.resume()
            await asyncio.wait([self._ended], timeout=within_seconds)
        self.abort(ConnectionEnded("closed_by_us", code=1000))

    def abort(self, why: ConnectionEnded) -> None:
        """Give the socket up at once."""
        self._why = self._why or why
        if self._transport is not None:
            self._transport.abort()
        elif not self._ended.done():
            self._ended.set_result(self._why)

    # ── what asyncio calls ───────────────────────────────────────────────────────

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport; let the kernel notice a dead peer too."""
        self._transport = cast("asyncio.Transport", transport)
        sock = transport.get_extra_info("socket")
        if sock is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: ARG002  one size for all
        """Return where the next bytes go: always the same memory, for new memory is slow."""
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        """Take what a wake-up brought."""
        data, rest = bytes(self._buffer[:nbytes]), self._rest
        if rest is not None and rest.keeps(data):
            return
        self._read(data)
        if nbytes == _READ_BYTES:
            self._let_others()
        elif rest is not None and self._open and not self._paused and self._transport is not None:
            rest.begin(self._transport, nbytes)

    def _read(self, data: bytes) -> None:
        if not self._deaf:
            self._listener.on_bytes(len(data))
        splitter = self._splitter
        if not self._open:
            data = self._shake_on(data)
        splitter.feed(data)
        frames = splitter.texts()
        if splitter.left or not self._open:
            self._read_odd(frames)
        elif frames and not self._deaf:
            self._hand_over(frames, _NONE)

    def eof_received(self) -> bool:
        """Take the end of the stream; asyncio then closes the transport."""
        self._end_rest()
        self._protocol.receive_eof()
        frames, binary = list[bytes](), set[int]()
        self._consult(b"", frames, binary)
        self._conclude(frames, binary)
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell whoever waits how it ended."""
        self._end_rest()
        if self._protocol.state is not CONNECTING:
            self._protocol.receive_eof()
        why = self._why or self._reason(exc)
        if not self.accepted.done():
            self.accepted.set_exception(why)
            self.accepted.exception()  # retrieved: nobody may be waiting any more
        if not self._ended.done():
            self._ended.set_result(why)

    # ── between ──────────────────────────────────────────────────────────────────

    def shake_hands(self, headers: Sequence[tuple[str, str]]) -> None:
        """Send the upgrade request; ``accepted`` tells how it went."""
        request = self._protocol.connect()
        for name, value in headers:
            request.headers[name] = value
        self._protocol.send_request(request)
        self._write()

    def _shake_on(self, data: bytes) -> bytes:
        """Let the protocol read the venue's answer; return what comes behind it."""
        while data and self._protocol.state is CONNECTING:
            # By line, so that no frame that came along ends up in the protocol unseen.
            end = data.find(b"\n") + 1 or len(data)
            self._consult(data[:end], [], set())
            data = data[end:]
        return data

    def _read_odd(self, frames: list[bytes]) -> None:
        """Read on behind plain texts, where something else follows, and hand all over."""
        splitter, binary = self._splitter, set[int]()
        while self._open and (odd := splitter.odd()) is not None:
            self._consult(odd, frames, binary)
            frames += splitter.texts()
        if not self._open:
            self._consult(splitter.rest(), frames, binary)
        self._conclude(frames, binary)

    def _consult(self, data: bytes, frames: list[bytes], binary: set[int]) -> None:
        """Let the protocol read what is not plain text, and answer it."""
        if data:
            self._protocol.receive_data(data)
        self._open = self._protocol.state is OPEN
        for event in self._protocol.events_received():
            if type(event) is Frame:
                self._take(event, frames, binary)
            else:
                self._answer()
        self._write()

    def _conclude(self, frames: list[bytes], binary: set[int]) -> None:
        """Hand a wake-up over, and look whether it was the last."""
        if frames and not self._deaf:
            self._hand_over(frames, binary)
        if self._protocol.parser_exc is not None or self._protocol.close_expected():
            self._finish()

    def _take(self, frame: Frame, frames: list[bytes], binary: set[int]) -> None:
        """Take a pong, a message or a fragment of one; pings are answered by the protocol."""
        opcode = frame.opcode
        if opcode is Opcode.PONG:
            self._listener.on_pong()
            return
        if opcode is Opcode.PING or opcode is Opcode.CLOSE:
            return
        if opcode is not Opcode.CONT:
            self._parts_binary = opcode is Opcode.BINARY
        if not frame.fin:
            self._parts.append(bytes(frame.data))
            return
        data = bytes(frame.data)
        if self._parts:
            data = b"".join([*self._parts, data])
            self._parts.clear()
        if self._parts_binary:
            binary.add(len(frames))
        frames.append(data)

    def _hand_over(self, frames: list[bytes], binary: AbstractSet[int]) -> None:
        if self._early is None and not binary and len(frames) <= _MAX_BATCH:
            self._listener.on_frames(frames, _NONE)
            return
        for start in range(0, len(frames), _MAX_BATCH):
            part = frames[start : start + _MAX_BATCH] if len(frames) > _MAX_BATCH else frames
            odd = frozenset(i - start for i in binary if 0 <= i - start < len(part))
            if self._early is None:
                self._listener.on_frames(part, odd)
            else:
                self._early.append((part, odd))

    def _let_others(self) -> None:
        """After as much as fits, look once at all other sockets before reading on.

        uvloop reads up to 32 times in a row, and the bus would starve for its answers.
        """
        transport = self._transport
        if transport is None or self._paused or transport.is_closing():
            return
        if transport.get_extra_info("ssl_object") is None:
            transport.pause_reading()
            self._loop.call_soon(self._read_on)

    def _read_on(self) -> None:
        if not self._paused:
            self.resume()

    def _end_rest(self) -> None:
        if self._rest is not None:
            self._rest.end()

    def _answer(self) -> None:
        refused = self._protocol.handshake_exc
        if self.accepted.done():
            return
        if refused is None:
            self.accepted.set_result(None)
            return
        self._why = _refusal(refused, self.mask)
        self.abort(self._why)

    def _finish(self) -> None:
        """Our side has said its close: let the venue end TCP, but not wait for it for long."""
        if self._deaf and self._why is not None:
            return
        self._deaf = True
        self._why = self._why or self._reason(None)
        # Closing at once, with bytes unread, would reset the connection, and the reset
        # may overtake our close code. Until the venue hangs up, what comes is discarded.
        if self._transport is not None:
            self._loop.call_later(_LINGER_SECONDS, self._transport.abort)

    def _write(self) -> None:
        if self._transport is None or self._transport.is_closing():
            return
        for data in self._protocol.data_to_send():
            if data:
                self._transport.write(data)
            elif self._transport.can_write_eof():
                self._transport.write_eof()

    def _reason(self, exc: Exception | None) -> ConnectionEnded:
        fault = self._protocol.parser_exc
        if isinstance(fault, PayloadTooBig):
            return ConnectionEnded("frame_too_large", str(fault), code=1009)
        received = self._protocol.close_rcvd
        if received is not None:
            detail = self.mask(received.reason) or "the venue closed the connection"
            return ConnectionEnded("closed", detail, code=received.code)
        if fault is not None and not isinstance(fault, EOFError):
            return ConnectionEnded("protocol_error", repr(fault), code=self._protocol.close_code)
        return ConnectionEnded("cut", str(exc or "connection lost without a close"), code=1006)


def _refusal(error: Exception, mask: Callable[[str], str]) -> ConnectionEnded:
    if not isinstance(error, InvalidStatus):
        return ConnectionEnded("handshake", str(error))
    response = error.response
    body = mask(bytes(response.body or b"").decode(errors="replace")).strip()[:200]
    detail = f"HTTP {response.status_code} {response.reason_phrase}".strip()
    if body:
        detail += f": {body}"
    return ConnectionEnded(
        "refused", detail + _skew(response.headers.get("Date")), status=response.status_code
    )


def _skew(date: str | None) -> str:
    """Tell a wrong clock from a wrong key: venues sign against time."""
    try:
        ahead = time.time() - parsedate_to_datetime(date).timestamp() if date else 0.0
    except ValueError:
        return ""
    if abs(ahead) < 5.0:  # noqa: PLR2004  a Date header is whole seconds, and the way takes time
        return ""
    side = "ahead of" if ahead > 0 else "behind"
    return f" (this machine's clock is {abs(ahead):.0f} s {side} the venue's)"
