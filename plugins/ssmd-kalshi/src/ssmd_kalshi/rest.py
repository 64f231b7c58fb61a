"""Decides which pages of REST bring missed trades back, and what a page says.

Trades alone: a book begins anew with a snapshot, of tickers the latest is what counts,
and for both REST keeps no past.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Any, Final
from urllib.parse import urlencode, urlsplit

import msgspec

from ssmd_core.clock import NS
from ssmd_core.errors import ParseError
from ssmd_core.feed import FrameKind, Parsed
from ssmd_core.feed.repair import Fetch, Missed
from ssmd_core.records import Record
from ssmd_kalshi.market_data import TradeBody, TradeFrame

__all__ = ["TradesPage", "first_page", "next_page", "parse_trades", "rest_endpoint"]

_PAGE_ROWS: Final = 1000
_PAD_SECONDS: Final = 2
"""Kalshi's times are its own, ours are of receipt, and its filter knows whole seconds."""
_LONGEST_CURSOR: Final = 2048
_REST_HOSTS: Final = {
    "external-api-ws.kalshi.com": "external-api.kalshi.com",
    "external-api-ws.demo.kalshi.co": "external-api.demo.kalshi.co",
}
"""Hosts that speak WebSocket only → where Kalshi has REST instead."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TradesPage(Fetch):
    """One page of trades of one market, or of all."""

    base: str
    """The URL without a query."""
    min_ts: int
    """Seconds, inclusive."""
    max_ts: int
    markets: tuple[str, ...] = ()
    """This page's market, and those whose turn comes later; empty: all markets at once."""


class _Row(TradeBody, gc=False, kw_only=True):
    """A trade as REST has it: as on the socket but for two names."""

    market_ticker: str = msgspec.field(name="ticker")
    time: Any = msgspec.field(name="created_time", default=None)


class _Page(msgspec.Struct, gc=False):
    trades: list[msgspec.Raw]
    cursor: str | None = None


_decode_page = msgspec.json.Decoder(_Page).decode
_decode_row = msgspec.json.Decoder(_Row, float_hook=Decimal).decode


def rest_endpoint(url: str) -> str:
    """Return the base URL of REST beside a WebSocket URL: the same host and port."""
    parts = urlsplit(url)
    host = parts.netloc.rpartition("@")[2]
    host = _REST_HOSTS.get(host, host)
    scheme = "http" if parts.scheme == "ws" else "https"
    return f"{scheme}://{host}/trade-api/v2"


def first_page(endpoint: str, missed: Missed, since_ns: int) -> TradesPage | None:
    """Return the first page of what was missed, as far as it is not older than ``since_ns``.

    Args:
        endpoint: base URL of REST.
        missed: what was missed.
        since_ns: how far back to go, Unix nanoseconds.
    """
    if missed.channel != "trade" or missed.to_ts <= since_ns:
        return None
    from_ns = max(missed.from_ts, since_ns)
    page = TradesPage(
        url="",
        base=f"{endpoint.rstrip('/')}/markets/trades",
        min_ts=from_ns // NS - _PAD_SECONDS,
        max_ts=-(-missed.to_ts // NS) + _PAD_SECONDS,
        markets=missed.markets,
        covers_from=from_ns if from_ns > missed.from_ts else 0,
    )
    return _addressed(page)


def next_page(page: TradesPage, data: bytes) -> TradesPage | None:
    """Return what follows: the page's cursor, then the next market, then nothing.

    Raises:
        ParseError: not a page of trades.
    """
    cursor = _read_page(data).cursor
    if cursor:
        if len(cursor) > _LONGEST_CURSOR:
            raise ParseError("the cursor is too long for a URL")
        return _addressed(page, cursor)
    rest = page.markets[1:]
    return _addressed(replace(page, markets=rest)) if rest else None


def parse_trades(data: bytes) -> Parsed:
    """Read a page, oldest trade first. A row that cannot be read costs no other.

    Raises:
        ParseError: not a page of trades.
    """
    rows = _read_page(data).trades
    records: list[Record] = []
    faults: list[str] = []
    for row in reversed(rows):
        try:
            records += TradeFrame(msg=_decode_row(row)).read().records
        except (msgspec.DecodeError, ParseError, TypeError) as error:
            faults.append(str(error))
    fault = f"{len(faults)} of {len(rows)} rows: {faults[0]}" if faults else ""
    return Parsed("trades", tuple(records), FrameKind.DATA, fault=fault)


def _read_page(data: bytes) -> _Page:
    try:
        return _decode_page(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ParseError(f"not a page of trades: {error}") from error


def _addressed(page: TradesPage, cursor: str = "") -> TradesPage:
    query: dict[str, int | str] = {
        "limit": _PAGE_ROWS,
        "min_ts": page.min_ts,
        "max_ts": page.max_ts,
    }
    if page.markets:
        query["ticker"] = page.markets[0]
    if cursor:
        query["cursor"] = cursor
    return replace(page, url=f"{page.base}?{urlencode(query)}")
