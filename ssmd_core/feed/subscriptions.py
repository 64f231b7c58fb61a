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

__all__ = ["Counts", "Refusal", "Subscriptions"]


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
    markets: int
    """How many markets the refused command asked for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Counts:
    """Sums over the subscriptions of a connection; markets are 0 where all are meant."""

    requested: int = 0
    confirmed: int = 0
    refused: int = 0
    markets_requested: int = 0
    markets_confirmed: int = 0


class Subscriptions:
    """What one connection asked for and what the venue said to it. Replies match by id."""

    def __init__(self) -> None:
        self._open: dict[Hashable, _Open] = {}
        self._asked: dict[str, int] = {}
        self._confirmed: dict[str, int] = {}
        self.channels: dict[Hashable, str] = {}
        """Channel id → channel, of confirmed subscriptions."""
        self.refusals: dict[str, Refusal] = {}

    def ask(self, send: Send, now: float) -> None:
        """Note a command that is about to leave."""
        if send.subscribes:
            refused = self.refusals.pop(send.subscribes, None)
            again = refused.markets if refused else 0
            _add(self._asked, send.subscribes, send.markets - again)
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
                self._end(event.sid)
            case Refused():
                if event.ends_sid:
                    self._end(event.sid)
                if send is not None and send.subscribes:
                    self.refusals[send.subscribes] = Refusal(
                        send.subscribes, event.code, event.reason, send.markets
                    )
        return send

    def counts(self) -> Counts:
        """Return how many subscriptions and markets were asked for, confirmed, refused."""
        return Counts(
            requested=len(self._asked),
            confirmed=len(self._confirmed),
            refused=len(self.refusals),
            markets_requested=sum(self._asked.values()),
            markets_confirmed=sum(self._confirmed.values()),
        )

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
            _add(self._confirmed, send.subscribes, send.markets)

    def _end(self, sid: Hashable) -> None:
        channel = self.channels.pop(sid, None)
        if channel is not None:
            self._asked.pop(channel, None)
            self._confirmed.pop(channel, None)


def _add(totals: dict[str, int], channel: str, markets: int) -> None:
    totals[channel] = totals.get(channel, 0) + markets
