"""The publisher that a user writes first: read, parse, build a message, publish, await in bulk."""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Any

import capnp
import nats
from websockets.asyncio.client import connect

from benchmarks.contenders.common import SUBSCRIBE
from ssmd_core.schema.load import find_schema

_BULK = 1_000


async def main(url: str, bus: str) -> None:
    schema = capnp.load(str(find_schema("trade.capnp")))
    client = await nats.connect(bus)
    stream = client.jetstream()
    pending: list[asyncio.Future[Any]] = []
    async with connect(url) as socket:
        await socket.send(SUBSCRIBE)
        async for frame in socket:
            message = json.loads(frame)
            body = message["msg"]
            match message["type"]:
                case "ticker":
                    payload = ticker(schema, body).to_bytes()
                case "trade":
                    payload = trade(schema, body).to_bytes()
                case _:
                    continue
            subject = f"prod.kalshi.{message['type']}.{body['market_ticker']}"
            pending.append(await stream.publish_async(subject, payload))
            if len(pending) >= _BULK:
                await asyncio.gather(*pending)
                pending.clear()


def ticker(schema: Any, body: dict[str, Any]) -> Any:
    record = schema.Ticker.new_message()
    record.timestamp = body["ts_ms"] * 1_000_000
    record.ticker = body["market_ticker"]
    record.bidPrice = float(body["yes_bid_dollars"])
    record.askPrice = float(body["yes_ask_dollars"])
    record.lastPrice = float(body["price_dollars"])
    record.volume = int(float(body.get("volume_fp", 0)))
    record.openInterest = int(float(body.get("open_interest_fp", 0)))
    return record


def trade(schema: Any, body: dict[str, Any]) -> Any:
    record = schema.Trade.new_message()
    record.timestamp = body["ts_ms"] * 1_000_000
    record.ticker = body["market_ticker"]
    record.price = float(body["yes_price_dollars"])
    record.size = int(float(body["count_fp"]))
    record.side = "buy" if body["taker_side"] == "yes" else "sell"
    record.tradeId = body["trade_id"]
    return record


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2]))
