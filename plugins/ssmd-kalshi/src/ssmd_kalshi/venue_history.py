"""Decides what the loopback venue's REST says of past trades: page by page, newest first."""

from __future__ import annotations

import base64
import binascii
import time
from collections import deque
from collections.abc import Iterator, Mapping
from typing import Any, Final, NamedTuple
from urllib.parse import parse_qsl, urlsplit

import msgspec

from ssmd_core.testing import Answer

__all__ = ["TRADES_PATH", "TradeHistory"]

TRADES_PATH: Final = "/trade-api/v2/markets/trades"
_PAGE = 100
_LARGEST_PAGE = 1000
_MS = 1000
_KNOWN = frozenset({"limit", "cursor", "ticker", "min_ts", "max_ts", "is_block_trade"})
_WEBSOCKET_ONLY = frozenset({"market_ticker", "ts", "ts_ms", "time"})


class _Past(NamedTuple):
    number: int
    created_ms: int
    msg: bytes


class _Wanted(NamedTuple):
    limit: int
    before: int | None
    ticker: str | None
    min_ms: int
    max_ms: int


class _BadQuery(Exception):
    """A parameter that the venue refuses."""


class TradeHistory:
    """Every trade of the venue, whether a client got it or not, the last ``kept`` of them."""

    def __init__(self, kept: int = 100_000) -> None:
        self._past: deque[_Past] = deque(maxlen=kept)
        self._count = 0
        self.empty_pages = 0
        """So many of the next pages hold no rows, but a cursor."""

    def add(self, msg: bytes, now_ms: int) -> None:
        """Keep the message of a trade that happens now."""
        self._count += 1
        self._past.append(_Past(self._count, now_ms, msg))

    def answer(self, path: str) -> Answer:
        """Return a page for the path and query of a request."""
        try:
            wanted = _wanted(dict(parse_qsl(urlsplit(path).query, keep_blank_values=True)))
        except _BadQuery as fault:
            body = {"error": {"code": "bad_request", "message": str(fault)}}
            return Answer(msgspec.json.encode(body), status=400)
        if self.empty_pages:
            self.empty_pages -= 1
            # Another cursor each time, so that nobody takes it for a loop.
            last = self._count + 1 if wanted.before is None else wanted.before
            return _page([], _cursor(last, self.empty_pages + 1))
        rows = self._matching(wanted)
        page = [past for _, past in zip(range(wanted.limit), rows, strict=False)]
        cursor = _cursor(page[-1].number) if page and next(rows, None) is not None else ""
        return _page([_row(past) for past in page], cursor)

    def _matching(self, wanted: _Wanted) -> Iterator[_Past]:
        for past in reversed(self._past):
            if wanted.before is not None and past.number >= wanted.before:
                continue
            if not wanted.min_ms <= past.created_ms <= wanted.max_ms:
                continue
            if wanted.ticker is None or _ticker(past.msg) == wanted.ticker:
                yield past


def _page(rows: list[dict[str, Any]], cursor: str) -> Answer:
    return Answer(msgspec.json.encode({"trades": rows, "cursor": cursor}))


def _wanted(query: Mapping[str, str]) -> _Wanted:
    unknown = query.keys() - _KNOWN
    if unknown:
        raise _BadQuery(f"unknown parameter {min(unknown)}")
    limit = _number(query, "limit", _PAGE)
    if not 1 <= limit <= _LARGEST_PAGE:
        raise _BadQuery("limit")
    return _Wanted(
        limit=limit,
        before=_before(query["cursor"]) if query.get("cursor") else None,
        ticker=query.get("ticker"),
        min_ms=_number(query, "min_ts", 0) * _MS,
        # A whole second: everything that was created in it belongs there.
        max_ms=_number(query, "max_ts", 1 << 40) * _MS + _MS - 1,
    )


def _number(query: Mapping[str, str], name: str, default: int) -> int:
    text = query.get(name)
    if text is None:
        return default
    if not (text.isascii() and text.isdecimal()):
        raise _BadQuery(name)
    return int(text)


def _cursor(before: int, turn: int = 0) -> str:
    """Return text that nobody is meant to read, with characters that a URL must escape."""
    return base64.b64encode(f"{before}:{turn}>>".encode()).decode()


def _before(cursor: str) -> int:
    try:
        return int(base64.b64decode(cursor, validate=True).partition(b":")[0])
    except (binascii.Error, ValueError):
        raise _BadQuery("cursor") from None


def _ticker(msg: bytes) -> str | None:
    found: str | None = msgspec.json.decode(msg).get("market_ticker")
    return found


def _row(past: _Past) -> dict[str, Any]:
    """Write a trade as REST has it: other names, and the venue's time in microseconds."""
    msg: dict[str, Any] = msgspec.json.decode(past.msg)
    seconds, ms = divmod(past.created_ms, _MS)
    stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds))
    kept = {name: value for name, value in msg.items() if name not in _WEBSOCKET_ONLY}
    created = f"{stamp}.{ms:03d}{past.number % _MS:03d}Z"
    return {**kept, "ticker": msg.get("market_ticker"), "created_time": created}
