"""A venue on loopback: a real WebSocket server that plays a session, and the faults it can have."""

from __future__ import annotations

import asyncio
import enum
import socket
from collections.abc import Callable, Iterable, Sequence
from contextlib import AsyncExitStack
from types import TracebackType
from typing import Self

import anyio

from ssmd_core.testing.face import Client, Face, Handshake, PlainFace, Refusal
from ssmd_core.testing.front import Front
from ssmd_core.testing.http_faults import RequestFaults
from ssmd_core.testing.peer import Peer
from ssmd_core.testing.player import Player
from ssmd_core.testing.pulse import Pulse
from ssmd_core.testing.recording import Recording

__all__ = ["Garbage", "LoopbackVenue"]

_HOST = "127.0.0.1"


class Garbage(enum.Enum):
    """A message that no venue should send."""

    NOT_JSON = b'{"type":"trade","sid":1,"msg":{"price":'
    NAN = b'{"type":"trade","sid":1,"msg":{"price":NaN}}'
    INVALID_UTF8 = b'{"type":"trade","name":"\xff\xfe"}'
    BINARY = b"\x00\x01\x02\xff"


class LoopbackVenue:
    """Serve a recording as a venue would. An async context manager.

    All clients hear the same recording at the same time, each what it subscribed to.
    The recording starts with the first listener, stands still while there is none (unless
    ``waits`` is False), and goes no faster than the slowest client reads. The same port
    answers plain HTTP where the face does.

    Faults are methods. They hit the clients connected now, or the one given as
    ``client``; those that say "until ``resume``" hit later clients too.

    Args:
        recording: what to play; an iterable of frames is played once at full speed.
        face: how the venue behaves; by default it sends everything to everyone.
        silent: begin without data; ``play`` starts the recording.
        waits: stand still while nobody listens. A real venue does not: with False the
            recording goes on once somebody has listened, and only the face hears it.
        ping_seconds: a WebSocket ping so often; None sends none.
        compression: accept permessage-deflate where a client offers it.
        keep: keep the messages sent, for comparison; counts are kept always.
        host: the address to listen on; by default no other machine gets in.
        port: the port to listen on; 0 takes a free one.
    """

    def __init__(
        self,
        recording: Recording | Iterable[bytes] = (),
        face: Face | None = None,
        *,
        silent: bool = False,
        waits: bool = True,
        ping_seconds: float | None = 10.0,
        compression: bool = False,
        keep: bool = True,
        host: str = _HOST,
        port: int = 0,
    ) -> None:
        if not isinstance(recording, Recording):
            recording = Recording(recording)
        self.face: Face = face or PlainFace()
        self.port = port
        self._host = host
        self._stack = AsyncExitStack()
        self._server: asyncio.Server | None = None
        self._held_port: socket.socket | None = None
        self._ping_seconds = ping_seconds
        self._pulse = Pulse()
        self._front = Front(self.face, self._pulse, compression=compression, keep=keep)
        self._player = Player(recording, self.face, self._front.peers, self._pulse)
        self._player.silent = silent
        self._player.waits = waits

    # ── running ──────────────────────────────────────────────────────────────────

    async def __aenter__(self) -> Self:
        tasks = await self._stack.enter_async_context(anyio.create_task_group())
        self._stack.callback(tasks.cancel_scope.cancel)
        self._held_port = _bound_socket(self._host, self.port)
        self.port = self._held_port.getsockname()[1]
        self._stack.callback(self._give_up_port)
        await self.come_back()
        tasks.start_soon(self._front.run)
        tasks.start_soon(self._player.run)
        if self._ping_seconds is not None:
            tasks.start_soon(self._ping_forever, self._ping_seconds)
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool | None:
        # Only a cancellation is the task group's business: a failed test shall show its
        # own exception, and a broken face its own, not a group around either.
        cancelled = exc is not None and not isinstance(exc, Exception)
        try:
            if cancelled:
                return await self._stack.__aexit__(exc_type, exc, traceback)
            await self._stack.aclose()
        except BaseExceptionGroup as group:
            raise _only_one_of(group) from None
        return None

    @property
    def url(self) -> str:
        """Where to connect."""
        return f"ws://{self._host}:{self.port}{self.face.path}"

    @property
    def clients(self) -> Sequence[Client]:
        """Every client that was let in, in order, gone ones too."""
        return self._front.clients

    @property
    def attempts(self) -> Sequence[Handshake]:
        """Every handshake asked for, in order, refused ones too."""
        return self._front.attempts

    @property
    def requests(self) -> Sequence[Handshake]:
        """Every plain HTTP request that the face answered, in order, failed ones too."""
        return self._front.requests

    @property
    def played(self) -> int:
        """How many frames of the recording were played."""
        return self._player.played

    @property
    def ended(self) -> bool:
        """Whether the recording was played to its end."""
        return self._player.ended

    async def until(self, condition: Callable[[], object], seconds: float = 10.0) -> None:
        """Return once the condition holds; looked at whenever something happens here.

        Raises:
            TimeoutError: it did not within ``seconds``.
        """
        with anyio.fail_after(seconds):
            await self._pulse.until(condition)

    async def listening(self, count: int = 1, seconds: float = 10.0) -> None:
        """Return once ``count`` connected clients have subscribed to something."""
        listens = self.face.listening
        await self.until(lambda: sum(c.open and listens(c) for c in self.clients) >= count, seconds)

    async def finished(self, seconds: float = 30.0) -> None:
        """Return once the recording was played to its end and written to the sockets."""
        await self.until(
            lambda: self.ended and all(peer.drained for peer in self._front.peers), seconds
        )

    # ── what is played ───────────────────────────────────────────────────────────

    def silence(self) -> None:
        """Send no data until ``play`` or ``resume``; pings and replies go on."""
        self._player.silent = True

    def play(self) -> None:
        """End a silence."""
        self._player.silent = False
        self._pulse.beat()

    def flood(self, count: int) -> None:
        """Play the next ``count`` frames as fast as possible."""
        self._player.flood(count)

    def skip(self, count: int, matching: bytes = b"", *, client: Client | None = None) -> None:
        """Number the next ``count`` frames that contain ``matching``, but do not send them."""
        for peer in self._meant(client):
            peer.skip(count, matching)

    def inject(self, message: bytes, *, binary: bool = False, client: Client | None = None) -> None:
        """Send a message of your own, now and verbatim."""
        for peer in self._meant(client):
            peer.send([message], binary=binary)

    def garble(self, kind: Garbage = Garbage.NOT_JSON, *, client: Client | None = None) -> None:
        """Send a message that cannot be read."""
        self.inject(kind.value, binary=kind is Garbage.BINARY, client=client)

    def oversize(self, size_bytes: int, *, client: Client | None = None) -> None:
        """Send a JSON string of so many bytes."""
        self.inject(b'"' + b"x" * (size_bytes - 2) + b'"', client=client)

    def errors_only(self, message: bytes) -> None:
        """Send this message in place of each frame until ``resume``; the recording waits."""
        self._player.instead = message
        self._pulse.beat()

    # ── replies and pings ────────────────────────────────────────────────────────

    def delay_replies(self, seconds: float) -> None:
        """Carry out commands only after ``seconds``, until ``resume``."""
        self._front.reply_delay_seconds = seconds

    def lose_replies(self, count: int) -> None:
        """Carry out the next ``count`` commands without a reply."""
        self._front.replies_to_lose = count

    def ping(self, body: bytes = b"", *, client: Client | None = None) -> None:
        """Send a WebSocket ping."""
        for peer in self._meant(client):
            peer.ping(body)

    # ── plain HTTP ───────────────────────────────────────────────────────────────

    def fail_requests(self, status: int = 500, count: int = 1) -> None:
        """Answer the next ``count`` HTTP requests with a status."""
        self._front.request_faults.failing.extend([status] * count)

    def garble_requests(self, count: int = 1) -> None:
        """Answer the next ``count`` HTTP requests with half of the body, as if it were all."""
        self._front.request_faults.garbled += count

    def cut_requests(self, count: int = 1) -> None:
        """Reset the next ``count`` HTTP requests in the middle of the body."""
        self._front.request_faults.cut += count

    def delay_requests(self, seconds: float) -> None:
        """Answer HTTP requests only after ``seconds``, until ``resume``."""
        self._front.request_faults.delay_seconds = seconds

    # ── connections ──────────────────────────────────────────────────────────────

    def cut(self, *, mid_frame: bool = False, client: Client | None = None) -> None:
        """Reset the TCP connection, in the middle of a frame if asked.

        The half frame never counts as sent.
        """
        for peer in self._meant(client):
            peer.cut(b'{"cut":"here"}' if mid_frame else b"")

    def close(self, code: int = 1000, reason: str = "", *, client: Client | None = None) -> None:
        """Close the WebSocket with a code."""
        for peer in self._meant(client):
            peer.close(code, reason)

    def deafen(self, *, client: Client | None = None) -> None:
        """Read nothing more until ``resume``; data and pings go on."""
        for peer in self._meant(client):
            peer.deafen()

    def half_open(self, *, client: Client | None = None) -> None:
        """Neither read nor send anything until ``resume``, and keep the socket open."""
        for peer in self._meant(client):
            peer.mute = True
            peer.deafen()
        self._pulse.beat()

    def refuse(self, status: int = 401, body: str = "") -> None:
        """Answer every handshake with an HTTP status, until ``resume``."""
        self._front.refusal = Refusal(status, body)

    def go_down(self) -> None:
        """Cut every client and refuse TCP connections until ``come_back``; the port stays ours."""
        if self._server is not None:
            self._server.close()
            self._server = None
            self._held_port = _bound_socket(self._host, self.port)
        for peer in [*self._front.peers, *self._front.connecting]:
            peer.cut()

    async def come_back(self) -> None:
        """Accept connections again."""
        held, self._held_port = self._held_port, None
        if held is not None:
            self._server = await asyncio.get_running_loop().create_server(
                lambda: Peer(self._front), sock=held
            )

    def resume(self) -> None:
        """End every fault except ``go_down``: data, reading, replies, handshakes, requests."""
        self._player.silent = False
        self._player.instead = None
        self._front.refusal = None
        self._front.reply_delay_seconds = 0.0
        self._front.replies_to_lose = 0
        self._front.request_faults = RequestFaults()
        for peer in list(self._front.peers):
            peer.recover()
        self._pulse.beat()

    # ── inside ───────────────────────────────────────────────────────────────────

    def _meant(self, client: Client | None) -> Sequence[Peer]:
        return [p for p in self._front.peers if client is None or p.client is client]

    def _give_up_port(self) -> None:
        self.go_down()
        if self._held_port is not None:
            self._held_port.close()

    async def _ping_forever(self, seconds: float) -> None:
        while True:
            await anyio.sleep(seconds)
            self.ping(self.face.ping_body)


def _only_one_of(group: BaseExceptionGroup[BaseException]) -> BaseException:
    inner: BaseException = group
    while isinstance(inner, BaseExceptionGroup) and len(inner.exceptions) == 1:
        inner = inner.exceptions[0]
    return inner


def _bound_socket(host: str, port: int) -> socket.socket:
    """Return a socket that holds a port without listening: connecting to it is refused."""
    held = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        held.bind((host, port))
    except OSError:
        held.close()
        raise
    return held
