"""How a stream is read back: in bounded pages, through a consumer that leaves nothing behind."""

from __future__ import annotations

import re
import secrets
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Protocol

import msgspec

from ssmd_core.sink.bus import StoredMessage
from ssmd_sink_nats.exchange import Listening
from ssmd_sink_nats.protocol import ApiError, Delivery, Info, Reply

__all__ = ["Selection", "Source", "Unreadable", "read", "stored_message"]

_PAGE = 2_048
_PAGE_WITH_PAYLOADS = 512
_PAGE_BYTES = 4 * 1024 * 1024
_ENVELOPE_BYTES = 16 * 1024
"""For what a page counts beside headers and payload of a message."""
_IDLE_NS = 30 * 10**9
"""A consumer that nobody asks for so long is gone at the server, whatever became of us."""
_ATTEMPTS = 3
_NO_RESPONDERS = 503
_NO_MESSAGES = 404
_TOO_MANY_BYTES = 409
_SERVER_FAULT = 500
_MAX_TS_DIGITS = 20
_ACK_WORDS = 9
"""Of ``$JS.ACK.stream.consumer.delivered.sequence.…``; newer ones have two more in front."""
_HEADER = re.compile(rb"\r\n(Nats-Msg-Id|Ssmd-Ts|Ssmd-Origin|Ssmd-Schema):[ \t]*([^\r\n]*)")


class Unreadable(Exception):
    """The bus answers, and does not let us read: asking again is of no use."""


class Source(Protocol):
    """A connection, as far as reading is concerned."""

    @property
    def info(self) -> Info:
        """What the server says of itself."""

    async def request(self, subject: str, payload: bytes) -> Reply:
        """Ask what has one answer."""

    def listen(self) -> Listening:
        """Open a subscription for what has many."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """Which messages are wanted, in the order of their sequence."""

    api: str
    """The subject that API requests start with."""
    stream: str
    subjects: str
    """One pattern."""
    after: int = 0
    """Leave out up to this sequence."""
    since: datetime | None = None
    """Begin at this time of the server instead."""
    upto: int
    """End with this sequence."""
    payloads: bool = False


async def read(source: Source, wanted: Selection) -> AsyncGenerator[list[StoredMessage], None]:
    """Yield what a selection finds, page by page; ``place`` is the sequence.

    To be closed when left early. Where the consumer is lost it goes on with another.

    Raises:
        Unreadable: the bus does not let us.
        PermissionError: this user may not.
        ValueError: it says what no JetStream says.
        OSError: no answer in time, or the connection ended.
    """
    after, attempts = wanted.after, _ATTEMPTS
    while True:
        consumer = _Consumer(source, wanted)
        try:
            if not await consumer.create(after):
                return
            while page := await consumer.page():
                attempts, after = _ATTEMPTS, page[-1].place
                yield [message for message in page if message.place <= wanted.upto]
                if after >= wanted.upto:
                    return
        except TimeoutError:
            attempts -= 1
            if not attempts:
                raise
        else:
            return
        finally:
            consumer.close()


class _Consumer:
    """An ephemeral pull consumer that acknowledges nothing."""

    def __init__(self, source: Source, wanted: Selection) -> None:
        self._source = source
        self._wanted = wanted
        self._name = f"ssmd-{secrets.token_hex(8)}"
        self._listening = source.listen()
        self._page = _PAGE_WITH_PAYLOADS if wanted.payloads else _PAGE
        self._next = {"batch": self._page, "no_wait": True}
        if wanted.payloads:
            # Less than the largest message would never bring that one.
            most = max(_PAGE_BYTES, source.info.max_payload + _ENVELOPE_BYTES)
            self._next["max_bytes"] = most

    async def create(self, after: int) -> bool:
        """Make it, to begin after a sequence; say whether anything is there for it."""
        wanted = self._wanted
        subject = f"{wanted.api}.CONSUMER.CREATE.{wanted.stream}.{self._name}.{wanted.subjects}"
        body = {"stream_name": wanted.stream, "config": _config(self._name, wanted, after)}
        reply = await self._source.request(subject, msgspec.json.encode(body))
        if reply.status == _NO_RESPONDERS:
            raise Unreadable("nothing answers")
        created = msgspec.json.decode(reply.payload, type=_Created)
        if (error := created.error) is not None:
            text = f"{error.description} ({error.err_code})"
            if error.code >= _SERVER_FAULT:
                raise TimeoutError(text)
            raise Unreadable(text)
        return created.num_pending > 0

    async def page(self) -> list[StoredMessage]:
        """Return the next messages; none when no more are there."""
        subject = f"{self._wanted.api}.CONSUMER.MSG.NEXT.{self._wanted.stream}.{self._name}"
        asked = msgspec.json.encode(self._next)
        answers = await self._listening.ask(subject, asked, most=self._page)
        status = answers[-1].status
        full = status == _TOO_MANY_BYTES and len(answers) > 1
        if status not in {0, _NO_MESSAGES} and not full:
            raise TimeoutError(f"the consumer is gone ({status})")
        return [stored_message(answer) for answer in answers if not answer.status]

    def close(self) -> None:
        """Let the server forget it, without waiting."""
        api, stream = self._wanted.api, self._wanted.stream
        self._listening.close(f"{api}.CONSUMER.DELETE.{stream}.{self._name}")


class _Created(msgspec.Struct, frozen=True):
    error: ApiError | None = None
    num_pending: int = 0


def _config(name: str, wanted: Selection, after: int) -> dict[str, Any]:
    config: dict[str, Any] = {
        "name": name,
        "filter_subject": wanted.subjects,
        "ack_policy": "none",
        "headers_only": not wanted.payloads,
        "inactive_threshold": _IDLE_NS,
        "mem_storage": True,
        "num_replicas": 1,
    }
    if after:
        return config | {"deliver_policy": "by_start_sequence", "opt_start_seq": after + 1}
    if wanted.since is not None:
        start = wanted.since.astimezone(UTC).isoformat()
        return config | {"deliver_policy": "by_start_time", "opt_start_time": start}
    return config | {"deliver_policy": "all"}


def stored_message(delivery: Delivery) -> StoredMessage:
    """Return a message as the bus holds it, from what a consumer delivered."""
    found = dict(_HEADER.findall(delivery.headers))
    ts = found.get(b"Ssmd-Ts", b"")
    words = delivery.reply.split(b".")
    if len(words) < _ACK_WORDS:
        raise ValueError("a message that no consumer delivered")
    return StoredMessage(
        place=int(words[5] if len(words) == _ACK_WORDS else words[7]),
        subject=delivery.subject.decode("utf-8", "replace"),
        msg_id=found.get(b"Nats-Msg-Id", b"").decode("utf-8", "replace"),
        ts=int(ts) if ts.isdigit() and len(ts) <= _MAX_TS_DIGITS else 0,
        origin=found.get(b"Ssmd-Origin", b"").decode("utf-8", "replace"),
        schema=found.get(b"Ssmd-Schema", b"").decode("utf-8", "replace"),
        payload=delivery.payload,
    )
