"""The acme protocol: one socket, one subscription a channel, JSON objects with a sequence."""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal

import msgspec

from ssmd_acme.config import AcmeConfig
from ssmd_core.errors import CredentialError, ParseError
from ssmd_core.feed import (
    ConnectionPlan,
    Endpoint,
    FeedContext,
    FrameKind,
    Parsed,
    Refused,
    Send,
    Session,
    Subscribed,
    WebSocketFeed,
)
from ssmd_core.records import SCALE, Record, Side, Ticker, Trade


class _Message(msgspec.Struct):
    """Every message of the venue; which fields are set depends on its type."""

    type: str
    channel: str = ""
    seq: int | None = None
    id: int | None = None
    reason: str = ""
    market: str = ""
    ns: int = 0
    price: Decimal | None = None
    quantity: Decimal | None = None
    side: Side = Side.BUY
    trade: str = ""
    bid: Decimal | None = None
    ask: Decimal | None = None


_decode = msgspec.json.Decoder(_Message).decode


def open_feed(context: FeedContext, config: AcmeConfig) -> AcmeFeed:
    """Return the feed; the token is read, nothing is opened."""
    variable = context.keys.get("token", "ACME_TOKEN")
    token = context.environ.get(variable, "")
    if not token:
        raise CredentialError(f"{variable} is not set: expected the token of an acme account")
    return AcmeFeed(context.endpoint, token, config)


class AcmeFeed(WebSocketFeed):
    """One connection for everything."""

    kinds = frozenset({"trade", "ticker"})
    strict_json = True

    def __init__(self, url: str, token: str, config: AcmeConfig) -> None:
        self._url = url
        self._token = token
        self._config = config

    def endpoint(self, plan: ConnectionPlan) -> Endpoint:
        return Endpoint(url=self._url, headers={"Authorization": f"Bearer {self._token}"})

    def on_open(self, session: Session) -> Iterable[Send]:
        for channel in self._config.channels:
            number = session.next_id()
            command = {"do": "subscribe", "id": number, "channel": channel}
            if self._config.markets:
                command["markets"] = list(self._config.markets)
            yield Send(
                data=msgspec.json.encode(command),
                request=number,
                subscribes=channel,
                markets=len(self._config.markets),
            )

    def parse(self, data: bytes, session: Session) -> Parsed:
        try:
            message = _decode(data)
        except msgspec.DecodeError as error:
            raise ParseError(str(error)) from error
        match message.type:
            case "subscribed":
                event = Subscribed(request=message.id, channel=message.channel, sid=message.channel)
                return Parsed(label="subscribed", kind=FrameKind.REPLY, event=event)
            case "refused":
                refusal = Refused(request=message.id, code="refused", reason=message.reason)
                return Parsed(label="refused", kind=FrameKind.REPLY, event=refusal)
            case "trade":
                return self._data(message, _trade(message))
            case "quote":
                return self._data(message, _ticker(message))
            case other:
                return Parsed(label=other, kind=FrameKind.UNKNOWN)

    def _data(self, message: _Message, record: Record) -> Parsed:
        return Parsed(
            label=message.type,
            records=(record,),
            sid=message.channel,
            first_seq=message.seq,
            last_seq=message.seq,
        )


def _trade(message: _Message) -> Trade:
    if message.price is None or message.quantity is None:
        raise ParseError("a trade without price or quantity")
    return Trade(
        ticker=message.market,
        venue_ns=message.ns,
        price_e9=_e9(message.price),
        size_e9=_e9(message.quantity),
        side=message.side,
        trade_id=message.trade,
        seq=message.seq,
    )


def _ticker(message: _Message) -> Ticker:
    return Ticker(
        ticker=message.market,
        venue_ns=message.ns,
        bid_e9=None if message.bid is None else _e9(message.bid),
        ask_e9=None if message.ask is None else _e9(message.ask),
        last_e9=None,
        volume_e9=0,
        open_interest_e9=0,
        seq=message.seq,
    )


def _e9(value: Decimal) -> int:
    return int(value * SCALE)
