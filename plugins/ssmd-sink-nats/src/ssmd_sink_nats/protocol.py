"""The NATS client protocol without I/O: reads what the server says, words what we say."""

from __future__ import annotations

import enum
import re
from typing import NamedTuple

import msgspec

__all__ = [
    "LIMIT_BYTES",
    "PING",
    "PONG",
    "Acks",
    "ApiError",
    "Delivery",
    "Event",
    "Info",
    "Nack",
    "Reader",
    "Refusal",
    "Reply",
    "Verb",
    "connect_line",
    "listen_line",
    "publish_line",
    "request_line",
    "subscribe_line",
    "unlisten_line",
]

PING = b"PING\r\n"
PONG = b"PONG\r\n"

_SID = b"1"
"""The subscription that every connection has: its inbox. Others have other numbers."""
_REQUEST = b"r"
"""Begins the last token of a request's inbox; an acknowledgement's is a number."""
LIMIT_BYTES = 1024 * 1024
"""An INFO of a large cluster is tens of kilobytes, a list of streams perhaps more."""
_PLAIN_HEADERS = b"NATS/1.0\r\n"
_MSG_WORDS = (4, 5)
_HMSG_WORDS = (5, 6)


class Verb(enum.Enum):
    """Words of the server that carry nothing."""

    PING = b"PING"
    PONG = b"PONG"
    OK = b"+OK"


class Info(msgspec.Struct, frozen=True, kw_only=True):
    """What a server says of itself."""

    server_id: str = ""
    version: str = ""
    max_payload: int = 1024 * 1024
    """Bytes of headers and payload together."""
    headers: bool = False
    auth_required: bool = False
    tls_required: bool = False
    tls_available: bool = False
    nonce: str = ""
    connect_urls: tuple[str, ...] = ()
    ldm: bool = False
    """Lame duck mode: it is about to shut down and asks clients to leave."""


class Refusal(NamedTuple):
    """An ``-ERR`` of the server."""

    text: str


class Acks(NamedTuple):
    """Messages that JetStream stored, by number."""

    numbers: list[int]
    duplicates: int
    """How many of them it had already."""


class Nack(NamedTuple):
    """A message that was not stored, and why."""

    number: int
    code: int
    err_code: int
    description: str


class Reply(NamedTuple):
    """The answer to a request."""

    number: int
    status: int
    """503: nobody answers there. 0: see the payload."""
    payload: bytes


class Delivery(NamedTuple):
    """A message of another subscription than the inbox."""

    sid: int
    subject: bytes
    """The one it was published to, however it was asked for."""
    reply: bytes
    status: int
    """Of a message that is only about the asking; 0 for one that was asked for."""
    headers: bytes
    payload: bytes


Event = Verb | Info | Refusal | Acks | Nack | Reply | Delivery


class ApiError(msgspec.Struct, frozen=True):
    """What JetStream says when it does not do as asked."""

    code: int = 0
    err_code: int = 0
    description: str = ""


class _PubAck(msgspec.Struct, frozen=True):
    error: ApiError | None = None
    stream: str = ""
    duplicate: bool = False


_decode_info = msgspec.json.Decoder(Info).decode
_decode_ack = msgspec.json.Decoder(_PubAck).decode
_decode_numbers = msgspec.json.Decoder(list[int]).decode


class Reader:
    """Cuts the byte stream of one connection into events."""

    __slots__ = ("_ack", "_head", "_inbox", "_limit", "_numbers", "_rest", "_run")

    def __init__(self, inbox: str, limit_bytes: int = LIMIT_BYTES) -> None:
        """``inbox`` is the subject, without the number, that acknowledgements come to."""
        self._limit = limit_bytes
        self._inbox = f"{inbox}.".encode()
        self._rest = b""
        # Plain acknowledgements come by the hundred. Mostly a read holds nothing else:
        # one pass cuts it at them, and nothing is left between the numbers. Else one
        # pass finds how far they run without a break, and a second takes their numbers.
        self._head = b"MSG " + self._inbox
        line = re.escape(self._head) + rb"%b " + _SID + rb" \d+\r\n"
        self._ack = re.compile((line % rb"(\d+)") + rb'\{"stream":[^}]*\}\r\n')
        self._run = re.compile(rb'(?:%b\{"stream":[^{}\r\n]*\}\r\n)++' % (line % rb"\d+"))
        self._numbers = re.compile(line % rb"(\d+)")

    def feed(self, data: bytes) -> list[Event]:
        """Take bytes as they came and return what is complete.

        Raises:
            ValueError: the peer does not speak the protocol.
        """
        if self._rest:
            data = self._rest + data
        events: list[Event] = []
        at = 0
        if data.startswith(self._head):
            pieces = self._ack.split(data)
            end = len(data) - len(pieces[-1])
            if not any(pieces[:-1:2]) and data.count(b"\n", 0, end) == len(pieces) - 1:
                events += [_stored(pieces[1::2], data, 0, end)] if end else []
                at = end
        while at < len(data):
            if run := self._run.match(data, at):
                end = run.end()
                events.append(_stored(self._numbers.findall(data, at, end), data, at, end))
                at = end
                continue
            step = self._one(data, at)
            if step is None:
                break
            events.append(step[0])
            at = step[1]
        self._rest = data[at:]
        if len(self._rest) > self._limit:
            raise ValueError(f"an operation of more than {self._limit} bytes")
        return events

    def _one(self, data: bytes, at: int) -> tuple[Event, int] | None:
        """Read one operation at ``at``; None while it is incomplete."""
        end = data.find(b"\r\n", at)
        if end < 0:
            return None
        line, after = data[at:end], end + 2
        verb, _, rest = line.partition(b" ")
        match verb.upper():
            case b"MSG":
                return self._message(data, after, rest.split(), headed=False)
            case b"HMSG":
                return self._message(data, after, rest.split(), headed=True)
            case b"INFO":
                return _decode_info(rest), after
            case b"-ERR":
                return Refusal(rest.strip().strip(b"'").decode("utf-8", "replace")), after
            case word:
                return Verb(word.strip()), after

    def _message(
        self, data: bytes, at: int, words: list[bytes], *, headed: bool
    ) -> tuple[Event, int] | None:
        if len(words) + 1 not in (_HMSG_WORDS if headed else _MSG_WORDS):
            raise ValueError("a MSG line with the wrong number of words")
        size = int(words[-1])
        head = int(words[-2]) if headed else 0
        if not 0 <= head <= size <= self._limit:
            raise ValueError(f"a message of {size} bytes in the inbox")
        end = at + size
        if len(data) < end + 2:
            return None
        headers, payload = data[at : at + head], data[at + head : end]
        status = _status(headers)
        if words[1] != _SID:
            reply = words[2] if len(words) > (4 if headed else 3) else b""
            return Delivery(int(words[1]), words[0], reply, status, headers, payload), end + 2
        if not words[0].startswith(self._inbox):
            raise ValueError("a message that was not asked for")
        token = words[0][len(self._inbox) :]
        if token.startswith(_REQUEST):
            return Reply(int(token[1:]), status, payload), end + 2
        return _answer(int(token), status, payload), end + 2


def _stored(numbers: list[bytes], data: bytes, start: int, end: int) -> Acks:
    return Acks(
        _decode_numbers(b"[%b]" % b",".join(numbers)), data.count(b'"duplicate":', start, end)
    )


def _status(headers: bytes) -> int:
    if headers.startswith(_PLAIN_HEADERS):
        return 0
    words = headers.partition(b"\r\n")[0].split()
    return int(words[1]) if len(words) > 1 else 0


def _answer(number: int, status: int, payload: bytes) -> Event:
    if status:
        return Nack(number, status, 0, "no stream takes the subject")
    ack = _decode_ack(payload)
    if ack.error is not None:
        return Nack(number, ack.error.code, ack.error.err_code, ack.error.description)
    if not ack.stream:
        raise ValueError("an acknowledgement that names no stream")
    return Acks([number], int(ack.duplicate))


def connect_line(name: str, *, tls: bool, login: dict[str, str]) -> bytes:
    """Return the CONNECT that answers an INFO."""
    options = {
        "verbose": False,
        "pedantic": False,
        "lang": "python-ssmd",
        "version": "1",
        "protocol": 1,
        "headers": True,
        "no_responders": True,
        "name": name,
        "tls_required": tls,
    }
    return b"CONNECT %b\r\n" % msgspec.json.encode(options | login)


def subscribe_line(inbox: str) -> bytes:
    """Return the SUB for everything that is addressed to an inbox."""
    return b"SUB %b.* %b\r\n" % (inbox.encode(), _SID)


def request_line(subject: str, inbox: str, number: int, payload: bytes) -> bytes:
    """Return the PUB of a request whose answer will be a ``Reply`` of that number."""
    return publish_line(subject, f"{inbox}.{_REQUEST.decode()}{number}", payload)


def publish_line(subject: str, reply: str, payload: bytes) -> bytes:
    """Return the PUB of a request that is answered at ``reply``; nowhere where that is empty."""
    words = f"PUB {subject} {reply} {len(payload)}" if reply else f"PUB {subject} {len(payload)}"
    return b"%b\r\n%b\r\n" % (words.encode(), payload)


def listen_line(subject: str, sid: int) -> bytes:
    """Return the SUB for another subject."""
    return f"SUB {subject} {sid}\r\n".encode()


def unlisten_line(sid: int) -> bytes:
    """Return the UNSUB that ends it."""
    return f"UNSUB {sid}\r\n".encode()
