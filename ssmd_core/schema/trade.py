"""Decides how the normalised records are written in ``trade:v1``."""

from __future__ import annotations

from typing import Any

from ssmd_core.errors import RecordError
from ssmd_core.metrics import Metrics
from ssmd_core.records import SCALE, Side, Ticker, Trade

__all__ = ["TradeV1"]

_HALF = SCALE // 2
_MAX_UINT32 = (1 << 32) - 1
_MAX_UINT64 = (1 << 64) - 1
_BUY = Side.BUY  # looking an enum's member up costs as much as the rest of the line


class TradeV1:
    """Values of the fields of ``trade:v1``, in ordinal order.

    Counts in ``metrics`` what the schema cannot say exactly: ``rounded``, ``saturated``.
    """

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics

    def trade(self, record: Trade, ts: int) -> tuple[Any, ...]:  # noqa: ARG002  v1 has no place for it
        """Return the values of ``Trade``.

        Raises:
            RecordError: no venue time, or a negative size.
        """
        time = record.venue_ns
        if time <= 0:
            raise RecordError("negative venue time" if time else "no venue time")
        size, fraction = divmod(record.size_e9, SCALE)
        if fraction or not 0 <= size <= _MAX_UINT32:
            size = self._fit(size, fraction, "size", most=_MAX_UINT32)
        return (
            time,
            record.ticker,
            record.price_e9 / SCALE,
            size,
            "buy" if record.side is _BUY else "sell",
            record.trade_id,
        )

    def ticker(self, record: Ticker, ts: int) -> tuple[Any, ...]:  # noqa: ARG002  v1 has no place for it
        """Return the values of ``Ticker``.

        Raises:
            RecordError: no venue time, or a negative volume or open interest.
        """
        time = record.venue_ns
        if time <= 0:
            raise RecordError("negative venue time" if time else "no venue time")
        # Most totals have a fraction: rounded on the spot, and only extremes are handed on.
        volume, fraction = divmod(record.volume_e9, SCALE)
        if not 0 <= volume < _MAX_UINT64:
            volume = self._fit(volume, fraction, "volume", most=_MAX_UINT64)
        elif fraction:
            self._metrics.rounded += 1
            volume += fraction > _HALF or (fraction == _HALF and volume & 1)
        interest, fraction = divmod(record.open_interest_e9, SCALE)
        if not 0 <= interest < _MAX_UINT64:
            interest = self._fit(interest, fraction, "open interest", most=_MAX_UINT64)
        elif fraction:
            self._metrics.rounded += 1
            interest += fraction > _HALF or (fraction == _HALF and interest & 1)
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

    def _fit(self, whole: int, fraction_e9: int, what: str, *, most: int) -> int:
        """Return the nearest whole number, the even one of two equally near, up to ``most``."""
        if whole < 0:
            raise RecordError(f"negative {what}")
        if fraction_e9:
            self._metrics.rounded += 1
            if fraction_e9 > _HALF or (fraction_e9 == _HALF and whole & 1):
                whole += 1
        if whole > most:
            self._metrics.saturated += 1
            return most
        return whole
