"""Decides what an answer of Kalshi's means, whatever shape it has had."""

from __future__ import annotations

from typing import Any, ClassVar, Final

from ssmd_core.feed import Acknowledged, Event, FrameKind, Parsed, Refused, Subscribed, Unsubscribed
from ssmd_kalshi.envelope import Frame
from ssmd_kalshi.remedies import ENDS_SID

__all__ = ["ErrorFrame", "OkFrame", "SubscribedFrame", "UnsubscribedFrame"]

_LONGEST_CODE: Final = 64
_CODE_DIGITS: Final = 9
_LONGEST_REASON: Final = 300


class _Reply(Frame):
    kind: ClassVar[FrameKind] = FrameKind.REPLY

    id: int | str | None = None

    def said(self, event: Event) -> Parsed:
        """Return the reply with what it means."""
        return Parsed(self.label, (), self.kind, self.sid, self.seq, self.seq, event)


class SubscribedFrame(_Reply, tag="subscribed"):
    """A channel begins. Without channel and sid it is still an answer."""

    label: ClassVar[str] = "subscribed"

    msg: Any = None

    def read(self) -> Parsed:
        """Return the confirmation."""
        match self.msg:
            case {"channel": str(channel), "sid": int(sid)}:
                return self.said(Subscribed(request=self.id, channel=channel, sid=sid))
        return self.said(Acknowledged(request=self.id, sid=self.sid))


class OkFrame(_Reply, tag="ok"):
    """A command was carried out. Three shapes so far, of which only the envelope is needed."""

    label: ClassVar[str] = "ok"

    def read(self) -> Parsed:
        """Return the acknowledgement."""
        return self.said(Acknowledged(request=self.id, sid=self.sid))


class UnsubscribedFrame(_Reply, tag="unsubscribed"):
    """A channel ended as asked."""

    label: ClassVar[str] = "unsubscribed"

    def read(self) -> Parsed:
        """Return the end of the channel."""
        return self.said(Unsubscribed(request=self.id, sid=self.sid))


class ErrorFrame(_Reply, tag="error"):
    """A command was refused, or a channel broke."""

    label: ClassVar[str] = "error"

    msg: Any = None

    def read(self) -> Parsed:
        """Return the refusal, whatever its body looks like."""
        body = self.msg if isinstance(self.msg, dict) else {"msg": self.msg}
        code = _code(body.get("code"))
        event = Refused(
            request=self.id,
            code=code,
            reason=str(body.get("msg") or "no reason given")[:_LONGEST_REASON],
            sid=self.sid,
            ends_sid=self.sid is not None and code in ENDS_SID,
        )
        return self.said(event)


def _code(value: Any) -> int | str:
    if type(value) is int:
        return value
    text = str(value or "unknown")[:_LONGEST_CODE]
    known = text.isascii() and text.isdecimal() and len(text) <= _CODE_DIGITS
    return int(text) if known else text
