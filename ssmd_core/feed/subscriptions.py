"""Decides which requests are open, which channels are confirmed, and what was refused."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass

from ssmd_core.feed.contract import (
    Acknowledged,
    Event,
    Refused,
    Send,
    Subscribed,
    Unsubscribed,
)

__all__ = ["Refusal", "Subscriptions"]


@dataclass(frozen=True, slots=True)
class _Open:
    send: Send
    deadline: float


@dataclass(frozen=True, slots=True)
class Refusal:
    """A channel that was asked for and is not captured."""

    channel: str
    code: int | str
    reason: str


class Subscriptions:
    """What one connection asked for and what the venue said to it. Replies match by id."""

    def __init__(self) -> None:
        self._open: dict[Hashable, _Open] = {}
        self.channels: dict[Hashable, str] = {}
        """Channel id → channel, of confirmed subscriptions."""
        self.refusals: dict[str, Refusal] = {}
        self.requested = 0
        self.confirmed = 0
        self.markets_requested = 0
        self.markets_confirmed = 0

    def ask(self, send: Send, now: float) -> None:
        """Note a command that is about to leave."""
        if send.subscribes:
            self.requested += 1
            self.markets_requested += send.markets
            self.refusals.pop(send.subscribes, None)
        if send.request is not None:
            self._open[send.request] = _Open(send, now + send.reply_seconds)

    def take(self, event: Event) -> Send | None:
        """Note a reply; return the command that it answers."""
        answered = self._open.pop(event.request, None) if event.request is not None else None
        send = answered.send if answered else None
        match event:
            case Subscribed():
                self.channels[event.sid] = event.channel
                self._confirm(send)
            case Acknowledged():
                self._confirm(send)
            case Unsubscribed():
                self.channels.pop(event.sid, None)
            case Refused():
                if event.ends_sid:
                    self.channels.pop(event.sid, None)
                if send is not None and send.subscribes:
                    self.refusals[send.subscribes] = Refusal(
                        send.subscribes, event.code, event.reason
                    )
        return send

    def answered(self) -> bool:
        """Say whether no subscription waits for its reply."""
        return not any(request.send.subscribes for request in self._open.values())

    def overdue(self, now: float) -> list[Hashable]:
        """Take out and return the requests whose reply did not come in time."""
        late = [request for request, waiting in self._open.items() if now > waiting.deadline]
        for request in late:
            del self._open[request]
        return late

    def _confirm(self, send: Send | None) -> None:
        if send is not None and send.subscribes:
            self.confirmed += 1
            self.markets_confirmed += send.markets
