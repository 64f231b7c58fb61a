"""What the venue does in one run: let a subject in, answer it, and send as fast as is asked."""

from __future__ import annotations

import array
import base64
import contextlib
import hashlib
import json
import os
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import islice
from multiprocessing.connection import Connection
from pathlib import Path

from benchmarks.load import BOOK_SID, TICKER_SID, TRADE_SID, Load, LoadSpec, goes_out
from ssmd_core.testing.wire import pack

__all__ = ["BURST_FRAMES", "PATH", "SATURATING", "Go", "Open", "Pace", "Sent", "serve"]

PATH = "/trade-api/ws/v2"
BURST_FRAMES = 50
_WANTED = frozenset({"ticker", "trade"})
_SIDS = {"ticker": TICKER_SID, "trade": TRADE_SID, "orderbook_delta": BOOK_SID}
_SETTLE_SECONDS = 0.5
"""A watched file is watched until it has not grown for so long."""
_ACCEPT = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"  # RFC 6455, 1.3
_EMPTY_PAGE = b'{"trades":[],"cursor":""}'


@dataclass(frozen=True, slots=True)
class Open:
    """Listen for a subject, and have this load ready."""

    load: LoadSpec


@dataclass(frozen=True, slots=True)
class Pace:
    """How fast: ``rate`` frames a second, None as fast as the socket takes them."""

    rate: int | None = None
    bursts: bool = False
    """Fifty frames in one write and then a pause, instead of evenly spaced ones."""


SATURATING = Pace()


@dataclass(frozen=True, slots=True)
class Go:
    """Send the first frames of the load, and watch a file grow meanwhile where there is one."""

    frames: int
    pace: Pace = SATURATING
    watch: Path | None = None


@dataclass(frozen=True, slots=True)
class Sent:
    """What was sent when, and how the watched file grew. Times are Unix nanoseconds."""

    frames: int
    first_ns: int
    last_ns: int
    published: array.array[int]
    """Positions of the frames that belong on the bus too."""
    sent_ns: array.array[int] = field(default_factory=lambda: array.array("q"))
    """For each frame of a paced run, when its write began."""
    grown_ns: array.array[int] = field(default_factory=lambda: array.array("q"))
    grown_bytes: array.array[int] = field(default_factory=lambda: array.array("q"))


def serve(control: Connection) -> None:
    """Carry out the commands of the other end until it closes: Open, Go, None to hang up."""
    with contextlib.suppress(EOFError):
        _serve(control)


def _serve(control: Connection) -> None:
    load: Load | None = None
    while True:
        command = control.recv()
        assert isinstance(command, Open)
        if load is None or load.spec != command.load:
            load = Load(command.load)
        with socket.create_server(("127.0.0.1", 0)) as listener:
            control.send(listener.getsockname()[1])
            _play(control, listener, load)


def _play(control: Connection, listener: socket.socket, load: Load) -> None:
    desk = _Desk(listener)
    threading.Thread(target=_receive, args=(listener, desk), daemon=True).start()
    while True:
        match control.recv():
            case Go() as order:
                try:
                    control.send(_send(desk, load, order))
                except OSError as error:
                    control.send(error)
            case "subscribed":
                control.send(desk.subscribed_ns)
            case _:
                desk.hang_up()
                return


class _Desk:
    """The one client, what it subscribed to, and the pongs it is owed."""

    def __init__(self, listener: socket.socket) -> None:
        self._listener = listener
        self.subscribed_ns = 0
        self.client: socket.socket | None = None
        self._writing = threading.Lock()
        self._channels: set[str] = set()

    def write(self, data: bytes) -> None:
        """Write whole frames; whoever writes next waits."""
        if self.client is None:
            raise ConnectionError("nobody is connected")
        with self._writing:
            self.client.sendall(data)

    def answer(self, command: bytes) -> None:
        """Confirm a subscription, each channel of its own."""
        asked = json.loads(command)
        for channel in asked.get("params", {}).get("channels", ()):
            said = {"channel": channel, "sid": _SIDS.get(channel, 9)}
            reply = {"type": "subscribed", "id": asked.get("id"), "msg": said}
            self.write(pack((json.dumps(reply).encode(),)))
            self._channels.add(channel)
        if self._channels >= _WANTED and not self.subscribed_ns:
            self.subscribed_ns = time.time_ns()

    def hang_up(self) -> None:
        """Let the client go, and nobody else in."""
        self._listener.shutdown(socket.SHUT_RDWR)  # wakes who waits in accept, close does not
        if self.client is not None:
            self.client.close()


def _receive(listener: socket.socket, desk: _Desk) -> None:
    """Let one WebSocket in, serve empty pages to plain requests, and read to the end."""
    try:
        while True:
            peer, _ = listener.accept()
            request = b""
            while b"\r\n\r\n" not in request and (more := peer.recv(65_536)):
                request += more
            head, _, rest = request.partition(b"\r\n\r\n")
            key = _header(head, b"sec-websocket-key")
            if key:
                peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                peer.sendall(_upgrade(key))
                desk.client = peer
                threading.Thread(target=_read, args=(peer, rest, desk), daemon=True).start()
            else:
                size = len(_EMPTY_PAGE)
                head = b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: %d\r\n\r\n" % size
                peer.sendall(head + _EMPTY_PAGE)
                peer.close()
    except OSError:
        return  # the run is over


def _header(head: bytes, name: bytes) -> bytes:
    for line in head.split(b"\r\n"):
        found, _, value = line.partition(b":")
        if found.strip().lower() == name:
            return value.strip()
    return b""


def _upgrade(key: bytes) -> bytes:
    accept = base64.b64encode(hashlib.sha1(key + _ACCEPT.encode()).digest())
    return (
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Accept: %b\r\n\r\n" % accept
    )


def _read(peer: socket.socket, buffer: bytes, desk: _Desk) -> None:
    """Take the client's frames: commands, pings and the end."""
    try:
        while True:
            while (taken := _unmask(buffer)) is not None:
                opcode, body, buffer = taken
                match opcode:
                    case 1:
                        desk.answer(body)
                    case 8:
                        desk.write(b"\x88" + bytes((len(body),)) + body)
                        peer.shutdown(socket.SHUT_RDWR)
                        return
                    case 9:
                        desk.write(b"\x8a" + bytes((len(body),)) + body)
                    case _:
                        pass
            more = peer.recv(65_536)
            if not more:
                return
            buffer += more
    except OSError:
        return  # it went without a word


def _unmask(buffer: bytes) -> tuple[int, bytes, bytes] | None:
    """Return opcode, body and the rest, or None while a frame is not whole."""
    if len(buffer) < 2:
        return None
    size, start = buffer[1] & 0x7F, 2
    if size == 126:
        size, start = int.from_bytes(buffer[2:4], "big"), 4
    end = start + 4 + size
    if len(buffer) < end:
        return None
    mask = buffer[start : start + 4]
    body = bytes(byte ^ mask[place & 3] for place, byte in enumerate(buffer[start + 4 : end]))
    return buffer[0] & 0x0F, body, buffer[end:]


def _send(desk: _Desk, load: Load, order: Go) -> Sent:
    if order.pace.rate is None:
        chunks = list(load.chunks(order.frames))
        first_ns = time.time_ns()
        for chunk in chunks:
            desk.write(chunk)
        last_ns = time.time_ns()
        return Sent(order.frames, first_ns, last_ns, load.published(order.frames))
    return _send_paced(desk, load, order, order.pace.rate)


def _send_paced(desk: _Desk, load: Load, order: Go, rate: int) -> Sent:
    """Send each frame, or burst, when it is due; look at the file while none is."""
    step = BURST_FRAMES if order.pace.bursts else 1
    following = enumerate(load.first(order.frames))
    sent, published, tail = array.array("q"), array.array("q"), _Tail(order.watch)
    begin_ns = time.time_ns() + 10_000_000
    turn = 0
    while burst := list(islice(following, step)):
        data = pack(frame for _, frame in burst)
        published.extend(place for place, frame in burst if goes_out(frame))
        due_ns = begin_ns + turn * step * 1_000_000_000 // rate
        while (now_ns := time.time_ns()) < due_ns:
            tail.idle(due_ns - now_ns)
        sent.extend((now_ns,) * len(burst))
        desk.write(data)
        turn += 1
    last_ns = time.time_ns()
    while time.time_ns() < max(last_ns, tail.last_ns) + _SETTLE_SECONDS * 1e9:
        tail.idle(1_000_000)
    tail.close()
    return Sent(len(sent), sent[0], last_ns, published, sent, tail.grown_ns, tail.grown_bytes)


class _Tail:
    """Notes when a file has grown. Without a file it sleeps, and leaves the core to the server."""

    def __init__(self, path: Path | None) -> None:
        self.grown_ns = array.array("q")
        self.grown_bytes = array.array("q")
        self._fd = None if path is None else os.open(path, os.O_RDONLY)
        self._size = 0
        self.idle: Callable[[int], None] = self._sleep if self._fd is None else self._look

    @property
    def last_ns(self) -> int:
        """When it last grew; 0 before it did."""
        return self.grown_ns[-1] if self.grown_ns else 0

    def close(self) -> None:
        """Let the file go."""
        if self._fd is not None:
            os.close(self._fd)

    def _sleep(self, spare_ns: int) -> None:
        time.sleep(spare_ns / 1e9)

    def _look(self, _spare_ns: int) -> None:
        assert self._fd is not None
        size = os.fstat(self._fd).st_size
        if size != self._size:
            self._size = size
            self.grown_ns.append(time.time_ns())
            self.grown_bytes.append(size)
