"""Kalshi as a loopback venue plays it: handshakes, subscriptions, numbered data, books, REST."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from decimal import Decimal
from typing import Any, NamedTuple

import msgspec

from ssmd_core.testing import Answer, Client, Face, Handshake, Refusal
from ssmd_kalshi.venue_commands import (
    BOOKS,
    ERRORS,
    LIFECYCLE,
    Desk,
    Subscription,
    Subscriptions,
)
from ssmd_kalshi.venue_history import TRADES_PATH, TradeHistory
from ssmd_kalshi.venue_keys import KeyPair, PublicKey, new_key, signature_fault
from ssmd_kalshi.venue_session import market_names, session

__all__ = ["KalshiFace", "KeyPair", "market_names", "new_key", "session"]

_CHANNEL_OF = {
    "ticker": "ticker",
    "trade": "trade",
    "orderbook_snapshot": BOOKS,
    "orderbook_delta": BOOKS,
    "market_lifecycle_v2": LIFECYCLE,
    "event_lifecycle": LIFECYCLE,
    "event_fee_update": LIFECYCLE,
}
_TOLERANCE_SECONDS = 5.0
_MISSING_MARKET = b'{"market_ticker":%b,"market_id":""}'


class _Envelope(msgspec.Struct):
    type: str
    msg: msgspec.Raw


class _Market(msgspec.Struct):
    market_ticker: str | None = None


class _Snapshot(msgspec.Struct):
    market_ticker: str
    market_id: str = ""
    yes_dollars_fp: list[tuple[str, str]] | None = None
    no_dollars_fp: list[tuple[str, str]] | None = None


class _Delta(msgspec.Struct):
    market_ticker: str
    price_dollars: str
    delta_fp: str
    side: str
    market_id: str = ""


class _Item(NamedTuple):
    """A recorded frame without its numbers."""

    kind: str
    channel: str
    market: str | None
    msg: bytes


class _Book(NamedTuple):
    market_id: str
    yes: dict[str, Decimal]
    no: dict[str, Decimal]


class KalshiFace(Face):
    """Behaves as Kalshi's WebSocket does, and its REST as far as past trades go.

    Frames of the recording count for their type and message; channel ids and sequence
    numbers are made anew for each client. Order books are kept as the recording goes, so
    that whoever subscribes later gets the book of that moment. ``history`` holds every
    trade that was played, whoever got it, at the time of the venue's clock.

    Args:
        keys: API key id → public key; a handshake signed with another is refused.
        tolerance_seconds: how far a timestamp may be off.
        max_markets: more markets in one subscription give error 26.
        now_ms: the venue's clock, Unix milliseconds.
    """

    path = "/trade-api/ws/v2"
    ping_body = b"heartbeat"

    def __init__(
        self,
        keys: Mapping[str, PublicKey],
        *,
        tolerance_seconds: float = _TOLERANCE_SECONDS,
        max_markets: int | None = None,
        now_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
    ) -> None:
        self._keys = dict(keys)
        self._tolerance_ms = int(tolerance_seconds * 1000)
        self._now_ms = now_ms
        self.history = TradeHistory()
        self._desk = Desk(self._snapshot, self._quote, max_markets)
        self._books: dict[str, _Book] = {}
        self._quotes: dict[str, bytes] = {}

    @classmethod
    def for_key(cls, key: KeyPair) -> KalshiFace:
        """Return a face that lets one key in."""
        return cls({key.key_id: key.public})

    def admit(self, handshake: Handshake) -> Refusal | None:
        """Check path and signature; 401 in the venue's own words."""
        if handshake.path.partition("?")[0] != self.path:
            return Refusal(404, '{"code":"not_found"}')
        fault = signature_fault(
            handshake.headers,
            handshake.path,
            self._keys,
            now_ms=self._now_ms(),
            tolerance_ms=self._tolerance_ms,
        )
        if fault is None:
            return None
        return Refusal(401, f'{{"code":"authentication_error","details":"{fault}"}}')

    def serve(self, request: Handshake) -> Answer | None:
        """Answer a page of past trades; no credentials needed."""
        path = request.path.partition("?")[0]
        if path == TRADES_PATH:
            return self.history.answer(request.path)
        return None if path == self.path else Answer(b'{"code":"not_found"}', status=404)

    def new_state(self) -> Subscriptions:
        """Return no subscriptions."""
        return Subscriptions()

    def answer(self, command: bytes, client: Client) -> Iterable[bytes]:
        """Carry out subscribe, unsubscribe, update_subscription and list_subscriptions."""
        return self._desk.answer(command, client.state)

    def listening(self, client: Client) -> bool:
        """Say whether anything is subscribed to."""
        return bool(client.state.by_channel)

    def end_subscription(self, client: Client, sid: int, code: int = 25) -> bytes:
        """End a subscription from the venue's side and return the error to ``inject``.

        Codes 25 (buffer overflow) and 10 (channel error) do that.

        Raises:
            LookupError: the client has no such subscription.
        """
        subs: Subscriptions = client.state
        sub = subs.by_sid(sid)
        if sub is None:
            raise LookupError(f"client {client.number} has no subscription {sid}")
        del subs.by_channel[sub.channel]
        fault = {"code": code, "msg": ERRORS[code]}
        return msgspec.json.encode(
            {"type": "error", "sid": sid, "seq": sub.next_seq(), "msg": fault}
        )

    # ── data ─────────────────────────────────────────────────────────────────────

    def prepare(self, frame: bytes) -> _Item | None:
        """Take a recorded frame apart; replies and what cannot be read are left out."""
        try:
            envelope = msgspec.json.decode(frame, type=_Envelope)
            channel = _CHANNEL_OF.get(envelope.type)
            market = msgspec.json.decode(envelope.msg, type=_Market).market_ticker
        except (msgspec.DecodeError, UnicodeDecodeError):
            return None
        if channel is None:
            return None
        return _Item(envelope.type, channel, market, bytes(envelope.msg))

    def advance(self, item: _Item) -> None:
        """Keep the books, the last quotes and the trades."""
        match item.kind:
            case "trade":
                self.history.add(item.msg, self._now_ms())
            case "ticker" if item.market is not None:
                self._quotes[item.market] = item.msg
            case "orderbook_snapshot":
                shot = msgspec.json.decode(item.msg, type=_Snapshot)
                self._books[shot.market_ticker] = _Book(
                    shot.market_id,
                    {price: Decimal(size) for price, size in shot.yes_dollars_fp or ()},
                    {price: Decimal(size) for price, size in shot.no_dollars_fp or ()},
                )
            case "orderbook_delta":
                _apply(msgspec.json.decode(item.msg, type=_Delta), self._books)
            case _:
                pass

    def render(self, item: _Item, client: Client) -> bytes | None:
        """Number a frame for a client that subscribed to its channel and market."""
        sub = client.state.by_channel.get(item.channel)
        if sub is None or not sub.covers(item.market):
            return None
        return _numbered(item.kind, sub, item.msg)

    def _snapshot(self, market: str, sub: Subscription, request: int | None) -> bytes | None:
        book = self._books.get(market)
        if book is not None:
            return _numbered("orderbook_snapshot", sub, _written(market, book), request)
        if request is None:
            return None
        empty = _MISSING_MARKET % msgspec.json.encode(market)
        return _numbered("orderbook_snapshot", sub, empty, request)

    def _quote(self, market: str, sub: Subscription) -> bytes | None:
        msg = self._quotes.get(market)
        return None if msg is None else _numbered("ticker", sub, msg)


def _numbered(kind: str, sub: Subscription, msg: bytes, request: int | None = None) -> bytes:
    echoed = b"" if request is None else b'"id":%d,' % request
    if kind == "ticker":
        return b'{"type":"ticker","sid":%d,"msg":%b}' % (sub.sid, msg)
    return b'{"type":"%b","sid":%d,"seq":%d,%b"msg":%b}' % (
        kind.encode(),
        sub.sid,
        sub.next_seq(),
        echoed,
        msg,
    )


def _apply(delta: _Delta, books: dict[str, _Book]) -> None:
    book = books.setdefault(delta.market_ticker, _Book(delta.market_id, {}, {}))
    levels = book.yes if delta.side == "yes" else book.no
    size = levels.get(delta.price_dollars, Decimal(0)) + Decimal(delta.delta_fp)
    if size > 0:
        levels[delta.price_dollars] = size
    else:
        levels.pop(delta.price_dollars, None)


def _written(market: str, book: _Book) -> bytes:
    """Write a book; a side without levels is left out."""
    msg: dict[str, Any] = {"market_ticker": market, "market_id": book.market_id}
    for side, levels in (("yes", book.yes), ("no", book.no)):
        if levels:
            pairs = sorted(levels.items(), key=lambda level: Decimal(level[0]))
            msg[f"{side}_dollars_fp"] = [(price, f"{size:.2f}") for price, size in pairs]
    return msgspec.json.encode(msg)
