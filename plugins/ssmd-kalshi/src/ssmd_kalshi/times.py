"""Decides when the venue says something happened, in Unix nanoseconds."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

from ssmd_core.errors import ParseError
from ssmd_kalshi.prices import scaled

__all__ = ["venue_ns"]

_NS = 1_000_000_000
_MS = 1_000_000
_NANO_DIGITS = 9
_MICRO_DIGITS = 6
_MILLI_DIGITS = 3
_SHORTEST_MICROS = len("2026-01-01T00:00:00.0000Z")
_POINT = len("2026-01-01T00:00:00")
_LIMIT = 2**64
_LIMIT_MS = _LIMIT // _MS
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_SECOND = timedelta(seconds=1)
_RFC3339 = re.compile(
    r"([0-9]{4}-[0-9]{2}-[0-9]{2}[Tt ][0-9]{2}:[0-9]{2}:[0-9]{2})"
    r"(?:\.([0-9]+))?([Zz]|[+-][0-9]{2}:[0-9]{2})"
)


class _Instant(NamedTuple):
    digits: int
    """Decimals of a second that the venue gave."""
    ns: int


def venue_ns(ts: Any, ts_ms: Any, time: Any = None) -> int:
    """Return the most precise of the venue's own times, 0 where none can be read.

    Args:
        ts: RFC 3339 text (book deltas) or seconds.
        ts_ms: milliseconds.
        time: RFC 3339 text (tickers).
    """
    text = ts if type(ts) is str else time
    if type(text) is not str or len(text) < _SHORTEST_MICROS:
        if type(ts_ms) is int and 0 < ts_ms < _LIMIT_MS:
            return ts_ms * _MS
    elif text[_POINT] == "." and text[-1] == "Z":
        fraction = text[_POINT + 1 : -1]
        second = _SECONDS[text[:_POINT]]
        if second and len(fraction) == _MICRO_DIGITS and fraction.isdecimal():
            return second + int(fraction) * 1000
    return _best(ts, ts_ms, time)


def _best(ts: Any, ts_ms: Any, time: Any) -> int:
    """Weigh every time given; of equally precise ones the first wins."""
    given = (
        _instant(ts, _NANO_DIGITS, 0),
        _instant(ts_ms, _MICRO_DIGITS, _MILLI_DIGITS),
        _instant(time, _NANO_DIGITS, 0),
    )
    readable = [instant for instant in given if instant and 0 < instant.ns < _LIMIT]
    return max(readable, key=lambda instant: instant.digits).ns if readable else 0


def _instant(value: Any, places: int, digits: int) -> _Instant | None:
    """Read RFC 3339 text, or a number of units of which ``10 ** places`` ns make one."""
    if value is None:
        return None
    if isinstance(value, str) and (found := _RFC3339.fullmatch(value)):
        fraction = (found[2] or "")[:_NANO_DIGITS]
        second = _SECONDS[found[1]]
        ns = second - _offset_ns(found[3]) + int(f"{fraction:0<{_NANO_DIGITS}}")
        return _Instant(len(fraction), ns) if second else None
    try:
        return _Instant(digits, scaled(value, places))
    except ParseError:
        return None


def _offset_ns(zone: str) -> int:
    if zone in "Zz":
        return 0
    minutes = int(zone[1:3]) * 60 + int(zone[4:6])
    return (-minutes if zone[0] == "-" else minutes) * 60 * _NS


class _SecondCache(dict[str, int]):
    """Date and time of day → Unix nanoseconds, 0 for what is no time.

    Frames of one second share the text, so a small cache spares nearly all the work.
    """

    _KEPT = 1024

    def __missing__(self, text: str) -> int:
        try:
            moment = datetime.fromisoformat(text.upper()).replace(tzinfo=UTC)
        except ValueError:
            return 0
        if len(self) >= self._KEPT:
            self.clear()
        self[text] = ns = (moment - _EPOCH) // _SECOND * _NS
        return ns


_SECONDS = _SecondCache()
