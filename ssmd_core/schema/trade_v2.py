"""Decides how the normalised records are written in ``trade:v2``: as v1, then exactly."""

from __future__ import annotations

from typing import Any

from ssmd_core.errors import RecordError
from ssmd_core.metrics import Metrics
from ssmd_core.records import Ticker, Trade
from ssmd_core.schema.trade import TradeV1

__all__ = ["TradeV2"]

_LEAST_INT64 = -(1 << 63)
_MOST_INT64 = (1 << 63) - 1
_MOST_UINT64 = (1 << 64) - 1
_NO_RECEIPT = "no receipt time"
"""Refused, because zero tells a message of v1 from one of v2."""


class TradeV2:
    """Values of the fields of ``trade:v2``, in ordinal order.

    Counts ``saturated`` in ``metrics``, where even the exact field is too small. What only
    the fields of v1 cannot say is not counted: nothing of it is lost.
    """

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._v1 = TradeV1(Metrics())

    def trade(self, record: Trade, ts: int) -> tuple[Any, ...]:
        """Return the values of ``Trade``.

        Raises:
            RecordError: no venue time, no receipt time, or a negative size.
        """
        legacy = self._v1.trade(record, ts)
        if ts <= 0:
            raise RecordError(_NO_RECEIPT)
        price, size, sequence = record.price_e9, record.size_e9, record.seq
        if not 0 <= price | size <= _MOST_INT64:
            price, size = self._price(price), self._amount(size, "size")
        return legacy + (ts, price, size, sequence or 0, sequence is not None)  # noqa: RUF005  cheaper than unpacking

    def ticker(self, record: Ticker, ts: int) -> tuple[Any, ...]:
        """Return the values of ``Ticker``.

        Raises:
            RecordError: no venue time, no receipt time, or a negative amount.
        """
        legacy = self._v1.ticker(record, ts)
        if ts <= 0:
            raise RecordError(_NO_RECEIPT)
        bid, ask, last = record.bid_e9, record.ask_e9, record.last_e9
        bid_size, ask_size, sequence = record.bid_size_e9, record.ask_size_e9, record.seq
        given = (
            bid is not None,
            ask is not None,
            last is not None,
            bid_size is not None,
            ask_size is not None,
            sequence is not None,
        )
        bid, ask, last = bid or 0, ask or 0, last or 0
        bid_size, ask_size = bid_size or 0, ask_size or 0
        volume, interest = record.volume_e9, record.open_interest_e9
        # Asked of all at once: their union has what one of them has of sign and high bits.
        if not 0 <= bid | ask | last | bid_size | ask_size | volume | interest <= _MOST_INT64:
            bid, ask, last = map(self._price, (bid, ask, last))
            bid_size = self._amount(bid_size, "bid size")
            ask_size = self._amount(ask_size, "ask size")
            volume = self._amount(volume, "volume")
            interest = self._amount(interest, "open interest")
        exact = (ts, bid, ask, last, bid_size, ask_size, volume, interest, sequence or 0)
        return legacy + exact + given

    def _price(self, value_e9: int) -> int:
        if _LEAST_INT64 <= value_e9 <= _MOST_INT64:
            return value_e9
        self._metrics.saturated += 1
        return _MOST_INT64 if value_e9 > 0 else _LEAST_INT64

    def _amount(self, value_e9: int, what: str) -> int:
        if 0 <= value_e9 <= _MOST_UINT64:
            return value_e9
        if value_e9 < 0:
            raise RecordError(f"negative {what}")
        self._metrics.saturated += 1
        return _MOST_UINT64
