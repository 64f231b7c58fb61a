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
        sequence = record.seq
        return (
            *self._v1.trade(record, ts),
            _receipt(ts),
            self._price(record.price_e9),
            self._amount(record.size_e9, "size"),
            sequence or 0,
            sequence is not None,
        )

    def ticker(self, record: Ticker, ts: int) -> tuple[Any, ...]:
        """Return the values of ``Ticker``.

        Raises:
            RecordError: no venue time, no receipt time, or a negative amount.
        """
        bid, ask, last = record.bid_e9, record.ask_e9, record.last_e9
        bid_size, ask_size, sequence = record.bid_size_e9, record.ask_size_e9, record.seq
        return (
            *self._v1.ticker(record, ts),
            _receipt(ts),
            self._price(bid or 0),
            self._price(ask or 0),
            self._price(last or 0),
            self._amount(bid_size or 0, "bid size"),
            self._amount(ask_size or 0, "ask size"),
            self._amount(record.volume_e9, "volume"),
            self._amount(record.open_interest_e9, "open interest"),
            sequence or 0,
            bid is not None,
            ask is not None,
            last is not None,
            bid_size is not None,
            ask_size is not None,
            sequence is not None,
        )

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


def _receipt(ts: int) -> int:
    # Zero tells a message of v1 from one of v2.
    if ts <= 0:
        raise RecordError("no receipt time")
    return ts
