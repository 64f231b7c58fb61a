"""Registers the schema ``trade:v1``. Light: loads nothing."""

from __future__ import annotations

from collections.abc import Iterator

from ssmd_core.plugins import SchemaType, hookimpl
from ssmd_core.schema.codec import open_trade_v1


@hookimpl
def ssmd_schemas() -> Iterator[SchemaType]:
    """Yield the schema of the reference system."""
    yield SchemaType(
        name="trade",
        version="v1",
        api_version=1,
        open=open_trade_v1,
        summary="Trades and tickers as Cap'n Proto, byte-compatible with the reference",
        stability="stable",
    )
