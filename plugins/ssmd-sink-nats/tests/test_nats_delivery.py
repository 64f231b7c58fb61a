"""Delivery against a real server: nothing lost, nothing twice, in order."""

from __future__ import annotations

import asyncio

import pytest

pytestmark = pytest.mark.anyio


async def test_a_hundred_thousand_messages_are_stored_exactly_once_in_order(
    server, consumer, bench, make_trades
):
    async with consumer(server.url) as bus:
        await bus.add_stream(storage="memory")
        async with bench(url=server.url) as run:
            await run.feed(make_trades(100_000))
            await run.flush()
            assert run.metrics.published == 100_000
            assert run.metrics.unacked == 0
            assert run.transport.oldest_unacked() is None
        assert await bus.count() == 100_000
        last = await bus.jetstream.get_last_msg("PROD_KALSHI", "prod.kalshi.trade.KXBTC-26")
        assert last.data == b"99999"
