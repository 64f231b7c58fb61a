"""Registers the schemas ``trade:v1`` and ``trade:v2``. Light: loads nothing."""

from __future__ import annotations

from collections.abc import Iterator

from ssmd_core.plugins import SchemaType, hookimpl
from ssmd_core.schema.codec import open_trade_v1, open_trade_v2


@hookimpl
def ssmd_schemas() -> Iterator[SchemaType]:
    """Yield the schema of the reference system, and the one that says everything exactly."""
    yield SchemaType(
        name="trade",
        version="v1",
        api_version=1,
        open=open_trade_v1,
        summary="Trades and tickers as Cap'n Proto, byte-compatible with the reference",
        stability="stable",
    )
    yield SchemaType(
        name="trade",
        version="v2",
        api_version=1,
        open=open_trade_v2,
        summary="trade:v1 with exact prices and sizes, receipt time and sequence appended",
    )
