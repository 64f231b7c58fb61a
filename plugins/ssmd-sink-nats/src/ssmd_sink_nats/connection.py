"""One connection to one server of the bus: keeps watch on it, and hands on what it says."""

from __future__ import annotations

import asyncio
import secrets
import ssl
from dataclasses import dataclass
from typing import Any, Protocol, cast

from ssmd_sink_nats.config import Server
from ssmd_sink_nats.exchange import Exchange, Listening, forbidden_subject
from ssmd_sink_nats.masking import Mask
from ssmd_sink_nats.protocol import (
    PING,
    PONG,
    Acks,
    Delivery,
    Event,
    Info,
    Nack,
    Reader,
    Refusal,
    Reply,
    Verb,
)

__all__ = ["Connection", "Ending", "Receiver"]

_TICK_SECONDS = 0.25
_PING_SECONDS = 5.0
_PONG_SECONDS = 5.0
_CLOSE_SECONDS = 2.0
_REQUEST_SECONDS = 2.0
_READ_BYTES = 256 * 1024
_HIGH_WATER_BYTES = 1024 * 1024
"""Bytes the socket did not take yet: from here on nothing more is written."""


@dataclass(frozen=True, slots=True)
class Ending:
    """Why a connection is over."""

    reason: str
    refused: bool = False
    """The server answered and does not want us: no use to hurry back."""


class Receiver(Protocol):
    """Who is told what happens on a connection. Calls come from the event loop, in order."""

    def on_acks(self, connection: Connection, acks: Acks) -> None:
        """Messages were stored."""

    def on_nack(self, connection: Connection, nack: Nack) -> None:
        """A message was not stored."""

    def on_forbidden(self, connection: Connection, subject: str) -> bool:
        """This user may not publish to ``subject``: say whether to go on without it."""

    def on_writable(self, connection: Connection) -> None:
        """The socket takes data again."""

    def on_tick(self, connection: Connection) -> None:
        """A quarter of a second passed."""

    def on_closed(self, connection: Connection, ending: Ending) -> None:
        """It is over; comes once, and only for a connection that ``dial`` returned."""


class Connection(asyncio.BufferedProtocol):
    """A logged-in connection with one subscription, the inbox of acknowledgements."""

    def __init__(
        self, server: Server, receiver: Receiver, inbox_prefix: str, limit_bytes: int
    ) -> None:
        """``limit_bytes`` bounds what a single message to us may have."""
        self.server = server
        self.info = Info()
        self.inbox = f"{inbox_prefix}.{secrets.token_hex(11)}"
        """Fresh for each connection, so that late answers of an older one go nowhere."""
        self._receiver = receiver
        self._reader = Reader(self.inbox, limit_bytes)
        # Read into the same memory each time: an asyncio.Protocol is given 256 KiB of new
        # memory for every read, which costs more than all that is done with an answer.
        self._memory = memoryview(bytearray(_READ_BYTES))
        self._mask = Mask()
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._heard_info: asyncio.Future[Info] = self._loop.create_future()
        self._heard_pong: asyncio.Future[None] = self._loop.create_future()
        self._gone = asyncio.Event()
        self._ending: Ending | None = None
        self._tls_error: ssl.SSLError | None = None
        self._live = False
        self._choked = False
        self._pinged_at = self._loop.time()
        self._pong_due = False
        self._timer: asyncio.TimerHandle | None = None
        self._exchange = Exchange(self.inbox, self._send)

    @property
    def writable(self) -> bool:
        """Whether it is up and the socket keeps pace."""
        return self._live and self._ending is None and not self._choked

    def write(self, data: bytes) -> None:
        """Hand bytes to the socket."""
        if self._transport is not None and self._ending is None:
            self._transport.write(data)

    def end(self, reason: str, *, refused: bool = False) -> None:
        """Cut the connection now, unsent bytes included."""
        if self._ending is not None:
            return
        reason = self._mask(reason)
        self._ending = Ending(reason, refused)
        if self._timer is not None:
            self._timer.cancel()
        if self._transport is not None:
            self._transport.abort()
        _fail(self._heard_info, reason)
        _fail(self._heard_pong, reason)
        self._exchange.end(reason)
        if self._live:
            self._live = False
            self._receiver.on_closed(self, self._ending)

    async def request(
        self, subject: str, payload: bytes, *, seconds: float = _REQUEST_SECONDS
    ) -> Reply:
        """Ask something rare, and wait for the answer.

        Raises:
            TimeoutError: no answer.
            PermissionError: this user may not ask that.
            ConnectionError: the connection ended.
        """
        return await self._exchange.request(subject, payload, seconds)

    def listen(self) -> Listening:
        """Open a subscription of its own, for what has many answers.

        Raises:
            ConnectionError: the connection ended.
        """
        return self._exchange.listen()

    def hide(self, mask: Mask) -> None:
        """Let nothing that the server says show what ``mask`` hides."""
        self._mask = mask

    async def aclose(self) -> None:
        """Close it politely: what was written still goes out, for two seconds at most."""
        self._live = False
        if self._timer is not None:
            self._timer.cancel()
        if self._transport is None or self._ending is not None:
            return
        self._transport.close()
        try:
            async with asyncio.timeout(_CLOSE_SECONDS):
                await self._gone.wait()
        except TimeoutError:
            self._transport.abort()

    def _send(self, data: bytes) -> None:
        if self._ending is not None:
            raise ConnectionError(self._ending.reason)
        self.write(data)

    # ── what opening it takes ────────────────────────────────────────────────────

    @property
    def ending(self) -> Ending | None:
        """Why it is over, None while it is not."""
        return self._ending

    @property
    def tls_error(self) -> ssl.SSLError | None:
        """What broke the encryption after the handshake, if that ended it."""
        return self._tls_error

    async def greeting(self) -> Info:
        """Return the first thing that the server says of itself.

        Raises:
            ConnectionError: the connection ended.
        """
        return await self._heard_info

    async def first_pong(self) -> None:
        """Return when the server answered the first PING: it accepts what came before.

        Raises:
            ConnectionError: the connection ended.
        """
        await self._heard_pong
        if self._ending is not None:
            # The end came with the PONG in one read: nobody is told of it any more.
            raise ConnectionError(self._ending.reason)

    async def encrypt(self, context: ssl.SSLContext) -> None:
        """Go on with TLS on the open socket.

        Raises:
            OSError: the handshake failed or the connection was lost.
        """
        transport = await self._loop.start_tls(
            cast("asyncio.Transport", self._transport),
            self,
            context,
            server_hostname=self.server.certificate_name or self.server.host,
        )
        if transport is None:
            raise ConnectionError("the connection was lost while encrypting")
        self._use(transport)

    def go_live(self) -> None:
        """Let it take messages, and keep watch on it from now on."""
        self._live = True
        self._pinged_at = self._loop.time()
        self._timer = self._loop.call_later(_TICK_SECONDS, self._tick)

    def _use(self, transport: asyncio.Transport) -> None:
        transport.set_write_buffer_limits(high=_HIGH_WATER_BYTES)
        self._transport = transport

    # ── what the event loop calls ────────────────────────────────────────────────

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Remember the socket."""
        self._use(cast("asyncio.Transport", transport))

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: ARG002  it is large enough
        """Lend the memory that the socket is read into."""
        return self._memory

    def buffer_updated(self, nbytes: int) -> None:
        """Read what came and hand it on."""
        if self._ending is not None:
            return
        try:
            events = self._reader.feed(bytes(self._memory[:nbytes]))
        except ValueError as error:  # msgspec's errors are ValueErrors too
            self.end(f"it does not speak the NATS protocol: {error}")
            return
        for event in events:
            self._handle(event)

    def pause_writing(self) -> None:
        """Stop writing: the socket does not keep pace."""
        self._choked = True

    def resume_writing(self) -> None:
        """Go on writing."""
        self._choked = False
        if self.writable:
            self._receiver.on_writable(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """End, unless we did."""
        self._gone.set()
        if isinstance(exc, ssl.SSLError):
            # With TLS 1.3 a missing client certificate is only told after the handshake.
            self._tls_error = exc
        self.end(str(exc) if exc else "the server closed the connection")

    def _handle(self, event: Event) -> None:
        match event:
            case Acks():
                self._receiver.on_acks(self, event)
            case Nack():
                self._receiver.on_nack(self, event)
            case Delivery() | Reply():
                self._exchange.take(event)
            case Info():
                self._take_info(event)
            case Refusal(text):
                self._take_refusal(text)
            case Verb.PING:
                self.write(PONG)
            case Verb.PONG:
                self._take_pong()
            case Verb.OK:
                pass

    def _take_pong(self) -> None:
        self._pong_due = False
        if not self._heard_pong.done():
            self._heard_pong.set_result(None)

    def _take_refusal(self, text: str) -> None:
        if self._exchange.denied(text, self._mask(text)):
            return
        subject = forbidden_subject(text)
        if not (subject and self._live and self._receiver.on_forbidden(self, subject)):
            # Credentials that run out were good until now, and may have been renewed: they
            # are read again for the next connection, which need not wait.
            expired = self._live and "expired" in text.lower()
            self.end(text, refused=_is_refusal(text) and not expired)

    def _take_info(self, info: Info) -> None:
        self.info = info
        if not self._heard_info.done():
            self._heard_info.set_result(info)
        elif info.ldm:
            self.end("the server is about to shut down (lame duck mode)")

    def _tick(self) -> None:
        self._timer = self._loop.call_later(_TICK_SECONDS, self._tick)
        since = self._loop.time() - self._pinged_at
        if self._pong_due and since > _PONG_SECONDS:
            self.end(f"no PONG for {_PONG_SECONDS:g} s")
            return
        if not self._pong_due and since > _PING_SECONDS:
            self._pinged_at, self._pong_due = self._loop.time(), True
            self.write(PING)
        self._receiver.on_tick(self)


def _fail(future: asyncio.Future[Any], reason: str) -> None:
    if not future.done():
        future.set_exception(ConnectionError(reason))
        future.exception()  # nobody may be waiting, and that is no fault


def _is_refusal(text: str) -> bool:
    words = text.lower()
    return any(word in words for word in ("authorization", "authentication", "permissions"))
