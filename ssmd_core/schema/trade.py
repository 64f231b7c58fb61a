"""Decides how the normalised records are written in ``trade:v1``."""

from __future__ import annotations

from typing import Any

from ssmd_core.errors import RecordError
from ssmd_core.metrics import Metrics
from ssmd_core.records import SCALE, Side, Ticker, Trade

__all__ = ["TradeV1", "round_half_even"]

_MAX_UINT32 = (1 << 32) - 1
_MAX_UINT64 = (1 << 64) - 1
_BUY = Side.BUY  # looking an enum's member up costs as much as the rest of the line


def round_half_even(amount_e9: int) -> int:
    """Return the nearest whole number of contracts, the even one of two equally near."""
    whole, rest = divmod(amount_e9, SCALE)
    if 2 * rest > SCALE or (2 * rest == SCALE and whole & 1):
        return whole + 1
    return whole


class TradeV1:
    """Values of the fields of ``trade:v1``, in ordinal order.

    Counts in ``metrics`` what the schema cannot say exactly: ``rounded``, ``saturated``.
    """

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics

    def trade(self, record: Trade) -> tuple[Any, ...]:
        """Return the values of ``Trade``.

        Raises:
            RecordError: no venue time, or a negative size.
        """
        time = record.venue_ns
        if not 0 < time <= _MAX_UINT64:
            raise RecordError(_time_fault(time))
        size, fraction = divmod(record.size_e9, SCALE)
        if fraction or not 0 <= size <= _MAX_UINT32:
            size = self._fit(record.size_e9, _MAX_UINT32, "size")
        return (
            time,
            record.ticker,
            record.price_e9 / SCALE,
            size,
            "buy" if record.side is _BUY else "sell",
            record.trade_id,
        )

    def ticker(self, record: Ticker) -> tuple[Any, ...]:
        """Return the values of ``Ticker``.

        Raises:
            RecordError: no venue time, or a negative volume or open interest.
        """
        time = record.venue_ns
        if not 0 < time <= _MAX_UINT64:
            raise RecordError(_time_fault(time))
        volume, fraction = divmod(record.volume_e9, SCALE)
        if fraction or not 0 <= volume <= _MAX_UINT64:
            volume = self._fit(record.volume_e9, _MAX_UINT64, "volume")
        interest, fraction = divmod(record.open_interest_e9, SCALE)
        if fraction or not 0 <= interest <= _MAX_UINT64:
            interest = self._fit(record.open_interest_e9, _MAX_UINT64, "open interest")
        bid, ask, last = record.bid_e9, record.ask_e9, record.last_e9
        return (
            time,
            record.ticker,
            0.0 if bid is None else bid / SCALE,
            0.0 if ask is None else ask / SCALE,
            0.0 if last is None else last / SCALE,
            volume,
            interest,
        )

    def _fit(self, amount_e9: int, most: int, what: str) -> int:
        if amount_e9 < 0:
            raise RecordError(f"negative {what}")
        if amount_e9 % SCALE:
            self._metrics.rounded += 1
        whole = round_half_even(amount_e9)
        if whole > most:
            self._metrics.saturated += 1
            return most
        return whole


def _time_fault(venue_ns: int) -> str:
    return "venue time out of range" if venue_ns else "no venue time"
