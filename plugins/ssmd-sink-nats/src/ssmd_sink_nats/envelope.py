"""How a message stands on the wire, and which ones no server would take."""

from __future__ import annotations

import re
from typing import NamedTuple, TypeAlias

from ssmd_core.sink import Message
from ssmd_sink_nats.subjects import Subjects
from ssmd_sink_nats.window import Run

__all__ = ["Envelope", "Packed", "Rejected"]

_MAX_CONTROL_LINE = 4_096
"""The server closes the connection on a longer one."""
_LINE_ROOM = 64
"""For the verb, the message's number and both sizes."""
_VERB = "\r\nHPUB "
_FIRST = "\r\nNATS/1.0\r\nNats-Msg-Id: "
_CRLF = b"\r\n"
_MAX_KINDS = 64
_MAX_LEAD = 512
_TS_19, _TS_20 = 10**18, 10**19
"""Between them a number has 19 digits: the years 2001 to 2286 in nanoseconds."""
_UNFIT = re.compile("[\x00-\x1f\x7f\ud800-\udfff]")


_Headers: TypeAlias = tuple[str, str, int]
"""Those before and after ``ts``, and the bytes of all but the values between them."""


class Rejected(NamedTuple):
    """A message that the bus will never take, and why."""

    number: int
    message: Message
    label: str
    """For metrics."""
    reason: str


class Packed(NamedTuple):
    """One write, and what is not in it."""

    data: bytes
    rejected: list[Rejected]


class Envelope:
    """Turns numbered messages into ``HPUB`` operations."""

    __slots__ = ("_headers", "_leads", "_subjects")

    def __init__(self, subjects: Subjects) -> None:
        self._subjects = subjects
        self._leads: dict[str, str] = {}
        """By kind: how an operation begins, up to the ticker."""
        self._headers: dict[tuple[str, str], _Headers] = {}
        """By schema and origin."""

    def pack(self, run: Run, *, inbox: str, max_payload: int) -> Packed:
        """Return the bytes of all messages, in order; the hot call, once a batch.

        Each asks for its acknowledgement at ``{inbox}.{number}``. ``max_payload`` bounds
        headers and payload together.
        """
        pieces: list[bytes] = []
        rejected: list[Rejected] = []
        put, find, lead_of = pieces.append, self._subjects.plain_tails.get, self._leads.get
        schema = origin = None
        number = run.first - 1
        for message in run.messages:
            number += 1
            if message is None:
                continue
            if message.schema != schema or message.origin != origin:
                schema, origin = message.schema, message.origin
                before, after, fixed = self._headers_of(schema, origin)
            msg_id, ts, payload = message.msg_id, message.ts, message.payload
            size = fixed + len(msg_id) + (19 if _TS_19 <= ts < _TS_20 else len(str(ts)))
            total = size + len(payload)
            lead, tail = lead_of(message.kind), find(message.ticker)
            if (
                lead is None
                or tail is None
                or total > max_payload
                or not (msg_id.isascii() and msg_id.isprintable())
            ):
                fault, lead, tail, more = self._look(message, total, max_payload, inbox)
                if fault is not None:
                    rejected.append(Rejected(number, message, *fault))
                    continue
                size, total = size + more, total + more
            # The line break that ends the message before stands in ``lead``.
            put(
                f"{lead}{tail} {inbox}.{number} {size} {total}{_FIRST}"
                f"{msg_id}{before}{ts}{after}".encode()
            )
            put(payload)
        if pieces:
            pieces[0] = pieces[0].removeprefix(_CRLF)
            put(_CRLF)
        return Packed(b"".join(pieces), rejected)

    def _look(
        self, message: Message, total: int, max_payload: int, inbox: str
    ) -> tuple[tuple[str, str] | None, str, str, int]:
        """Look closer at a message that is not plain, or that is the first of its kind.

        Return the fault, if any, how the operation begins up to and with the ticker, and
        how many bytes its headers have more than characters.
        """
        lead, tail = self._place(message.kind, message.ticker)
        longest = _MAX_CONTROL_LINE - _LINE_ROOM - len(inbox)
        width = len(f"{lead}{tail}".encode()) - len(_VERB)
        if width > longest:
            reason = f"its subject has {width} bytes, the bus takes {longest}"
            return ("bad_subject", reason), lead, tail, 0
        if _UNFIT.search(message.msg_id):
            return ("bad_header", "its message id holds a control character"), lead, tail, 0
        more = len(message.msg_id.encode()) - len(message.msg_id)
        if total + more > max_payload:
            reason = f"{total + more} bytes with headers, the bus takes {max_payload}"
            return ("too_large", reason), lead, tail, 0
        return None, lead, tail, more

    def _place(self, kind: str, ticker: str) -> tuple[str, str]:
        """Return how the operation begins: up to the ticker, and the ticker."""
        if not ticker:
            return f"{_VERB}{self._subjects.subject(kind, ticker)}", ""
        lead = self._leads.get(kind)
        if lead is None:
            lead = f"{_VERB}{self._subjects.lead(kind)}"
            # A feed's own words, and few; a long one is looked at each time.
            if lead.isascii() and len(lead) <= _MAX_LEAD and len(self._leads) < _MAX_KINDS:
                self._leads[kind] = lead
        return lead, self._subjects.tail(ticker)

    def _headers_of(self, schema: str, origin: str) -> _Headers:
        found = self._headers.get((schema, origin))
        if found is None:
            before = _header("Ssmd-Schema", schema) + "\r\nSsmd-Ts: "
            after = _header("Ssmd-Origin", origin) + "\r\n\r\n"
            fixed = len(f"{_FIRST}{before}{after}".encode()) - len(_CRLF)
            found = before, after, fixed
            if len(self._headers) < _MAX_KINDS:
                self._headers[schema, origin] = found
        return found


def _header(name: str, value: str) -> str:
    # Both come from the host and are its own words; a line break in one would forge headers.
    return f"\r\n{name}: {_UNFIT.sub('', value)}" if value else ""
