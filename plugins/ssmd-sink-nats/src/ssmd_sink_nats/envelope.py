"""How a message stands on the wire, and which ones no server would take."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import NamedTuple

from ssmd_core.sink import Message
from ssmd_sink_nats.subjects import Subjects

__all__ = ["Envelope", "Packed", "Rejected"]

_MAX_CONTROL_LINE = 4_096
"""The server closes the connection on a longer one."""
_LINE_ROOM = 64
"""For the verb, the message's number and both sizes."""
_UNFIT = re.compile("[\x00-\x1f\x7f\ud800-\udfff]")


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

    __slots__ = ("_subjects",)

    def __init__(self, subjects: Subjects) -> None:
        self._subjects = subjects

    def pack(
        self, numbered: Iterable[tuple[int, Message]], *, inbox: str, max_payload: int
    ) -> Packed:
        """Return the bytes of all messages, in order; the hot call, once a batch.

        Each asks for its acknowledgement at ``{inbox}.{number}``. ``max_payload`` bounds
        headers and payload together.
        """
        pieces: list[bytes] = []
        rejected: list[Rejected] = []
        put = pieces.append
        find = self._subjects.subject
        longest = _MAX_CONTROL_LINE - _LINE_ROOM - len(inbox)
        schema = origin = before = after = ""
        stamped = False
        for number, message in numbered:
            if not stamped or message.schema != schema or message.origin != origin:
                schema, origin, stamped = message.schema, message.origin, True
                before = _header("Ssmd-Schema", schema) + "\r\nSsmd-Ts: "
                after = _header("Ssmd-Origin", origin) + "\r\n\r\n"
            msg_id, payload = message.msg_id, message.payload
            subject = find(message.kind, message.ticker)
            headers = f"NATS/1.0\r\nNats-Msg-Id: {msg_id}{before}{message.ts}{after}"
            size, width = len(headers), len(subject)
            if not (msg_id.isascii() and msg_id.isprintable()):
                if _UNFIT.search(msg_id):
                    reason = "its message id holds a control character"
                    rejected.append(Rejected(number, message, "bad_header", reason))
                    continue
                size = len(headers.encode())
            if not subject.isascii():
                width = len(subject.encode())
            total = size + len(payload)
            if width > longest or total > max_payload:
                fault = _oversize(width, longest, total, max_payload)
                rejected.append(Rejected(number, message, *fault))
                continue
            put(f"HPUB {subject} {inbox}.{number} {size} {total}\r\n{headers}".encode())
            put(payload)
            put(b"\r\n")
        return Packed(b"".join(pieces), rejected)


def _header(name: str, value: str) -> str:
    # Both come from the host and are its own words; a line break in one would forge headers.
    return f"\r\n{name}: {_UNFIT.sub('', value)}" if value else ""


def _oversize(width: int, longest: int, total: int, max_payload: int) -> tuple[str, str]:
    if width > longest:
        return "bad_subject", f"its subject has {width} bytes, the bus takes {longest}"
    return "too_large", f"{total} bytes with headers, the bus takes {max_payload}"
