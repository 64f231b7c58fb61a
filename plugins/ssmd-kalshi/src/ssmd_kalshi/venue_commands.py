"""Decides how the loopback venue answers commands: subscriptions, their numbers, its errors."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Final

import msgspec

__all__ = ["BOOKS", "CHANNELS", "ERRORS", "Desk", "Subscription", "Subscriptions"]

BOOKS: Final = "orderbook_delta"
LIFECYCLE: Final = "market_lifecycle_v2"
CHANNELS: Final = ("ticker", "trade", BOOKS, LIFECYCLE)

ERRORS: Final = {
    1: "Unable to process message",
    2: "Params required",
    3: "Channels required",
    4: "Subscription IDs required",
    5: "Unknown command",
    7: "Unknown subscription ID",
    8: "Unknown channel name",
    10: "Channel error",
    11: "Invalid parameter",
    12: "Exactly one subscription ID is required",
    13: "Unsupported action",
    14: "Market ticker required",
    15: "Action required",
    25: "Subscription buffer overflow",
    26: "Market limit of the subscription exceeded",
}


@dataclass(slots=True)
class Subscription:
    """One channel of one connection. Its sequence runs over all markets and all replies."""

    sid: int
    channel: str
    markets: dict[str, None] | None
    """None: all markets."""
    short_acks: bool = False
    seq: int = 0

    def covers(self, market: str | None) -> bool:
        """Say whether a market's data belong here; None stands for no market's."""
        return self.markets is None or market in self.markets

    def next_seq(self) -> int:
        """Take the next sequence number."""
        self.seq += 1
        return self.seq


@dataclass(slots=True)
class Subscriptions:
    """The subscriptions of one connection."""

    by_channel: dict[str, Subscription] = field(default_factory=dict)
    last_sid: int = 0

    def by_sid(self, sid: Any) -> Subscription | None:
        """Return a subscription by its id."""
        return next((s for s in self.by_channel.values() if s.sid == sid), None)

    def open(self, channel: str, markets: list[str], *, short_acks: bool) -> Subscription:
        """Begin a subscription under the next id."""
        self.last_sid += 1
        wanted = dict.fromkeys(markets) or None
        new = Subscription(self.last_sid, channel, wanted, short_acks)
        self.by_channel[channel] = new
        return new


class _Rejected(Exception):
    """A command that gets an error code."""

    def __init__(self, code: int) -> None:
        self.code = code


@dataclass(frozen=True, slots=True)
class Desk:
    """Answers the commands of all connections.

    ``snapshot`` and ``quote`` write the frames that a new market of a book or ticker
    subscription begins with: market, subscription and the id to echo → frame or None.
    """

    snapshot: Callable[[str, Subscription, int | None], bytes | None]
    quote: Callable[[str, Subscription], bytes | None]
    max_markets: int | None = None

    def answer(self, command: bytes, subs: Subscriptions) -> Iterator[bytes]:
        """Yield the replies to a command, which changes ``subs``."""
        try:
            message = msgspec.json.decode(command)
        except (msgspec.DecodeError, UnicodeDecodeError):
            message = None
        if not isinstance(message, dict):
            yield _error(None, 1)
            return
        request = message.get("id") or None
        params = message.get("params")
        try:
            yield from self._carry_out(message.get("cmd"), request, params, subs)
        except _Rejected as rejected:
            yield _error(request, rejected.code)

    def _carry_out(
        self, name: object, request: int | None, params: Any, subs: Subscriptions
    ) -> Iterator[bytes]:
        if name == "list_subscriptions":
            listed = [{"channel": s.channel, "sid": s.sid} for s in subs.by_channel.values()]
            yield _encode({"id": request, "type": "ok", "msg": listed})
            return
        verbs = {
            "subscribe": self._subscribe,
            "unsubscribe": self._unsubscribe,
            "update_subscription": self._update,
        }
        if name not in verbs:
            raise _Rejected(5)
        if not isinstance(params, dict):
            raise _Rejected(2)
        yield from verbs[name](request, params, subs)

    def _subscribe(
        self, request: int | None, params: dict[str, Any], subs: Subscriptions
    ) -> Iterator[bytes]:
        channels = params.get("channels")
        if not channels or not isinstance(channels, list):
            raise _Rejected(3)
        markets = _markets(params)
        for channel in channels:
            if channel not in CHANNELS:
                yield _error(request, 8)
            elif channel == BOOKS and not markets:
                yield _error(request, 14)
            elif self.max_markets is not None and len(markets) > self.max_markets:
                yield _error(request, 26)
            elif channel in subs.by_channel:
                yield from self._add(request, subs.by_channel[channel], markets, params)
            else:
                wanted = [] if channel == LIFECYCLE else markets
                short = bool(params.get("skip_ticker_ack"))
                sub = subs.open(channel, wanted, short_acks=short)
                acked = {"channel": channel, "sid": sub.sid}
                yield _encode({"type": "subscribed", "id": request, "msg": acked})
                yield from self._first_frames(sub, wanted, params)

    def _unsubscribe(
        self, request: int | None, params: dict[str, Any], subs: Subscriptions
    ) -> Iterator[bytes]:
        for sid in _sids(params):
            sub = subs.by_sid(sid)
            if sub is None:
                yield _error(request, 7)
                continue
            del subs.by_channel[sub.channel]
            reply = {"id": request, "sid": sid, "seq": sub.next_seq(), "type": "unsubscribed"}
            yield _encode(reply)

    def _update(
        self, request: int | None, params: dict[str, Any], subs: Subscriptions
    ) -> Iterator[bytes]:
        sids = _sids(params)
        if len(sids) != 1:
            raise _Rejected(12)
        sub = subs.by_sid(sids[0])
        if sub is None:
            raise _Rejected(7)
        markets = _markets(params)
        match params.get("action"):
            case None | "":
                raise _Rejected(15)
            case "get_snapshot" if sub.channel == BOOKS:
                _demand(markets)
                for market in markets:
                    frame = self.snapshot(market, sub, request)
                    if frame is not None:
                        yield frame
            case "add_markets" if sub.channel != LIFECYCLE:
                _demand(markets)
                yield from self._add(request, sub, markets, params)
            case "delete_markets" if sub.markets is not None:
                _demand(markets)
                for market in markets:
                    sub.markets.pop(market, None)
                yield _ok(request, sub)
            case _:
                raise _Rejected(13)

    def _add(
        self,
        request: int | None,
        sub: Subscription,
        markets: list[str],
        params: dict[str, Any],
    ) -> Iterator[bytes]:
        new = [
            market for market in markets if sub.markets is not None and market not in sub.markets
        ]
        if sub.markets is not None:
            sub.markets |= dict.fromkeys(new)
        yield _ok(request, sub)
        yield from self._first_frames(sub, new, params)

    def _first_frames(
        self, sub: Subscription, markets: list[str], params: dict[str, Any]
    ) -> Iterator[bytes]:
        for market in markets:
            frame = None
            if sub.channel == BOOKS:
                frame = self.snapshot(market, sub, None)
            elif sub.channel == "ticker" and params.get("send_initial_snapshot"):
                frame = self.quote(market, sub)
            if frame is not None:
                yield frame


def _markets(params: dict[str, Any]) -> list[str]:
    one, many = params.get("market_ticker"), params.get("market_tickers")
    if (one and many) or not isinstance(many, list | None) or not isinstance(one, str | None):
        raise _Rejected(11)
    return [one] if one else list(many or ())


def _sids(params: dict[str, Any]) -> list[Any]:
    sids = params.get("sids") or ([params["sid"]] if "sid" in params else [])
    if not sids or not isinstance(sids, list):
        raise _Rejected(4)
    return sids


def _demand(markets: list[str]) -> None:
    if not markets:
        raise _Rejected(14)


def _ok(request: int | None, sub: Subscription) -> bytes:
    listed = {} if sub.short_acks else {"market_tickers": list(sub.markets or ())}
    reply = {"type": "ok", "id": request, "sid": sub.sid, "seq": sub.next_seq(), "msg": listed}
    return _encode(reply)


def _error(request: int | None, code: int) -> bytes:
    return _encode({"type": "error", "id": request, "msg": {"code": code, "msg": ERRORS[code]}})


def _encode(message: dict[str, Any]) -> bytes:
    if message.get("id") is None:
        message.pop("id", None)
    return msgspec.json.encode(message)
