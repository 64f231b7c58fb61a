"""Decides the text of a command: what we ask of Kalshi, and how it is said."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from ssmd_kalshi.config import BOOKS

__all__ = ["MARKETS_PER_COMMAND", "Ask", "Verb", "command"]

MARKETS_PER_COMMAND: Final = 500
"""Kalshi's own cap is not published; 1000 in one command have been seen to work."""

_encode = msgspec.json.Encoder().encode


class Verb(enum.Enum):
    """What a request does to a subscription."""

    SUBSCRIBE = "subscribe"
    ADD = "add_markets"
    SNAPSHOT = "get_snapshot"
    UNSUBSCRIBE = "unsubscribe"


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    """One request, and what is to follow once it was answered."""

    verb: Verb
    channel: str
    markets: tuple[str, ...] = ()
    """Of UNSUBSCRIBE: what to subscribe to again. Empty: all."""
    rest: tuple[str, ...] = ()
    """Markets whose turn comes after the reply."""
    sid: int | None = None
    is_over: bool = False
    """Of UNSUBSCRIBE: Kalshi ended the subscription itself, and need not answer for it."""
    attempt: int = 0

    @property
    def opens(self) -> bool:
        """Say whether data is to flow from it."""
        return self.verb in {Verb.SUBSCRIBE, Verb.ADD}


def command(ask: Ask, request: int, *, initial_snapshot: bool) -> bytes:
    """Return the JSON text of a request.

    Args:
        ask: what to do.
        request: the id that the reply will carry, from 1.
        initial_snapshot: ask for the present ticker of each market listed.
    """
    params: dict[str, Any]
    verb = ask.verb
    match verb:
        case Verb.SUBSCRIBE:
            params = {"channels": [ask.channel], "skip_ticker_ack": True}
        case Verb.ADD | Verb.SNAPSHOT:
            params = {"sids": [ask.sid], "action": verb.value}
        case Verb.UNSUBSCRIBE:
            params = {"sids": [ask.sid]}
    if verb is Verb.SUBSCRIBE and ask.channel == BOOKS:
        # Kalshi means to flip its default: never leave it to them.
        params["use_yes_price"] = False
    if ask.markets and verb is not Verb.UNSUBSCRIBE:
        params["market_tickers"] = ask.markets
        if ask.opens and ask.channel == "ticker":
            params["send_initial_snapshot"] = initial_snapshot
    name = "update_subscription" if "action" in params else verb.value
    return _encode({"id": request, "cmd": name, "params": params})
