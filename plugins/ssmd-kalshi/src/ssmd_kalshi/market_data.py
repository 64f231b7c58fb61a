"""Decides what a ticker, a trade and a book frame say, in every form they have had.

Kalshi changed its numbers from integer cents to decimal strings in steps; where a
frame carries several forms the newest wins. Fields are read as any scalar, so that
one that changes its type costs no frame.
"""

from __future__ import annotations

from typing import Any, ClassVar, Final

import msgspec
from msgspec import UNSET

from ssmd_core.errors import ParseError
from ssmd_core.feed import Acknowledged, FrameKind, Parsed
from ssmd_core.records import SCALE, BookDelta, BookSnapshot, Level, Side, Ticker, Trade
from ssmd_kalshi.envelope import Frame
from ssmd_kalshi.prices import CENTS, COUNTS, DOLLARS, NumberCache, hundredths
from ssmd_kalshi.times import venue_ns

__all__ = ["DeltaFrame", "SnapshotFrame", "TickerFrame", "TradeBody", "TradeFrame"]

_DATA: Final = FrameKind.DATA
# Nearly every number was seen before, and asking for it is cheaper than reading it.
_seen_price: Final = DOLLARS.get
_seen_count: Final = COUNTS.get
_BY_LEG: Final = {
    "yes": Side.BUY,
    "no": Side.SELL,
    "buy": Side.BUY,
    "sell": Side.SELL,
    "bid": Side.BUY,
    "ask": Side.SELL,
}
"""What the taker did to YES, in the words of its outcome, its order and its side of the book."""


class _TickerBody(msgspec.Struct, gc=False):
    market_ticker: str
    price_dollars: Any = UNSET
    yes_bid_dollars: Any = UNSET
    yes_ask_dollars: Any = UNSET
    volume_fp: Any = None
    open_interest_fp: Any = None
    yes_bid_size_fp: Any = None
    yes_ask_size_fp: Any = None
    ts: Any = None
    ts_ms: Any = None
    time: Any = None
    price: Any = UNSET
    yes_bid: Any = UNSET
    yes_ask: Any = UNSET
    volume: Any = None
    open_interest: Any = None


class TickerFrame(Frame, tag="ticker", kw_only=True):
    """Top of book and totals of a market: the yes side only."""

    label: ClassVar[str] = "ticker"

    msg: _TickerBody

    def read(self) -> Parsed:
        """Return one ticker."""
        msg, seq = self.msg, self.seq
        bid = _seen_price(msg.yes_bid_dollars)
        ask = _seen_price(msg.yes_ask_dollars)
        last = _seen_price(msg.price_dollars)
        volume = hundredths(msg.volume_fp)
        interest = hundredths(msg.open_interest_fp)
        bid_size = _seen_count(msg.yes_bid_size_fp)
        ask_size = _seen_count(msg.yes_ask_size_fp)
        if bid is None or ask is None or last is None:
            bid, ask, last = self._quotes()
        if volume is None:
            volume = _total(msg.volume_fp, msg.volume)
        if interest is None:
            interest = _total(msg.open_interest_fp, msg.open_interest)
        if bid_size is None:
            bid_size = COUNTS[msg.yes_bid_size_fp]
        if ask_size is None:
            ask_size = COUNTS[msg.yes_ask_size_fp]
        when = venue_ns(msg.ts, msg.ts_ms, msg.time)
        record = Ticker(
            msg.market_ticker, when, bid, ask, last, volume, interest, bid_size, ask_size, seq
        )
        return Parsed("ticker", (record,), _DATA, self.sid, seq, seq)

    def _quotes(self) -> tuple[int | None, int | None, int | None]:
        """Read bid, ask and last in any form."""
        msg = self.msg
        fields = (
            (msg.yes_bid_dollars, msg.yes_bid),
            (msg.yes_ask_dollars, msg.yes_ask),
            (msg.price_dollars, msg.price),
        )
        if all(present is UNSET and legacy is UNSET for present, legacy in fields):
            # A market without quotes says so; this one has fields we do not know.
            raise ParseError("none of the known price fields is there")
        bid, ask, last = (_quote(present, legacy) for present, legacy in fields)
        return bid, ask, last


def _quote(present: Any, legacy: Any) -> int | None:
    """Read one quote; an empty text of the present form says that there is none."""
    price = DOLLARS[present]
    return CENTS[legacy] if price is None and present != "" else price


def _total(present: Any, legacy: Any) -> int:
    count = COUNTS[present]
    if count is None:
        count = COUNTS[legacy]
    return 0 if count is None else count


class TradeBody(msgspec.Struct, gc=False):
    """A trade in every form it has had."""

    market_ticker: str
    trade_id: Any = None
    yes_price_dollars: Any = None
    count_fp: Any = None
    taker_side: Any = None
    taker_outcome_side: Any = None
    ts: Any = None
    ts_ms: Any = None
    time: Any = None
    yes_price: Any = None
    price: Any = None
    count: Any = None
    side: Any = None
    taker_book_side: Any = None
    no_price_dollars: Any = None
    no_price: Any = None


class TradeFrame(Frame, tag="trade", kw_only=True):
    """One execution."""

    label: ClassVar[str] = "trade"

    msg: TradeBody

    def read(self) -> Parsed:
        """Return one trade; none where filling a hole would invent it."""
        msg = self.msg
        price, size = DOLLARS[msg.yes_price_dollars], COUNTS[msg.count_fp]
        if price is None:
            price = CENTS[msg.yes_price]
            if price is None:
                price = CENTS[msg.price]
            if price is None:
                price = _other_leg(msg.no_price_dollars, msg.no_price)
        if size is None:
            size = COUNTS[msg.count]
        side = _BY_LEG.get(
            msg.taker_outcome_side or msg.taker_side or msg.side or msg.taker_book_side
        )
        when = venue_ns(msg.ts, msg.ts_ms, msg.time)
        if price is None or size is None or side is None or not when:
            # Filling in a price or a side would be inventing a trade.
            raise ParseError("price, count, taker side or time is missing or unknown")
        trade_id = msg.trade_id
        if type(trade_id) is not str:
            trade_id = "" if trade_id is None else str(trade_id)
        record = Trade(msg.market_ticker, when, price, size, side, trade_id, self.seq)
        return Parsed("trade", (record,), _DATA, self.sid, self.seq, self.seq)


def _other_leg(present: Any, legacy: Any) -> int | None:
    """Return the YES price from that of NO: together they are a dollar."""
    price = DOLLARS[present]
    if price is None:
        price = CENTS[legacy]
    return None if price is None else SCALE - price


_Levels = list[tuple[Any, Any]]


class _SnapshotBody(msgspec.Struct, gc=False):
    market_ticker: str
    yes_dollars_fp: _Levels | None = None
    no_dollars_fp: _Levels | None = None
    yes_dollars: _Levels | None = None
    no_dollars: _Levels | None = None
    yes: _Levels | None = None
    no: _Levels | None = None


class SnapshotFrame(Frame, tag="orderbook_snapshot", kw_only=True):
    """A whole book, at subscription or when asked for."""

    label: ClassVar[str] = "orderbook_snapshot"

    id: int | str | None = None
    msg: _SnapshotBody

    def read(self) -> Parsed:
        """Return one book, its no leg turned into asks."""
        msg = self.msg
        yes = _levels(msg.yes_dollars_fp, msg.yes_dollars, msg.yes)
        no = _levels(msg.no_dollars_fp, msg.no_dollars, msg.no)
        record = BookSnapshot(
            msg.market_ticker,
            0,
            tuple(Level(price, size) for price, size in sorted(yes, reverse=True)),
            tuple(Level(SCALE - price, size) for price, size in sorted(no, reverse=True)),
            self.seq,
        )
        # A snapshot that was asked for is the only reply to get_snapshot.
        reply = None if self.id is None else Acknowledged(request=self.id, sid=self.sid)
        return Parsed(self.label, (record,), _DATA, self.sid, self.seq, self.seq, reply)


def _levels(
    present: _Levels | None, transitional: _Levels | None, legacy: _Levels | None
) -> list[tuple[int, int]]:
    """Return price and size of one leg; a leg that is left out or null is empty."""
    prices: NumberCache = DOLLARS
    levels = transitional if present is None else present
    if levels is None:
        prices, levels = CENTS, legacy or []
    return [(_given(prices[price]), _given(COUNTS[size])) for price, size in levels]


class _DeltaBody(msgspec.Struct, gc=False):
    market_ticker: str
    price_dollars: Any = None
    delta_fp: Any = None
    side: Any = None
    ts: Any = None
    ts_ms: Any = None
    price: Any = None
    delta: Any = None


class DeltaFrame(Frame, tag="orderbook_delta", kw_only=True):
    """A change at one price of one leg."""

    label: ClassVar[str] = "orderbook_delta"

    msg: _DeltaBody

    def read(self) -> Parsed:
        """Return one change, of the no leg as one of an ask."""
        msg = self.msg
        price, change = DOLLARS[msg.price_dollars], COUNTS[msg.delta_fp]
        if price is None:
            price = CENTS[msg.price]
        if change is None:
            change = COUNTS[msg.delta]
        side = _BY_LEG.get(msg.side)
        if price is None or change is None or side is None:
            raise ParseError("price, delta or side is missing or unknown")
        record = BookDelta(
            msg.market_ticker,
            venue_ns(msg.ts, msg.ts_ms),
            side,
            price if side is Side.BUY else SCALE - price,
            change,
            self.seq,
        )
        return Parsed("orderbook_delta", (record,), _DATA, self.sid, self.seq, self.seq)


def _given(number: int | None) -> int:
    if number is None:
        raise ParseError("a level without price or size")
    return number
