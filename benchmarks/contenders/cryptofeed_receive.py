"""The receive side of cryptofeed: its connection handling and types, nothing kept.

Real are its ConnectionHandler, WSAsyncConn, yapic JSON with Decimal, Ticker and Trade types and
Callback, on uvloop as it runs by itself. A handler like its own exchanges' stands in for an
exchange it does not have. It takes wss addresses only, so the address is set afterwards.
"""

from __future__ import annotations

import asyncio
import json as plain_json
import signal
import sys
import time
from decimal import Decimal
from typing import Any

import uvloop
from cryptofeed.callback import Callback
from cryptofeed.connection import WebsocketEndpoint, WSAsyncConn
from cryptofeed.connection_handler import ConnectionHandler
from cryptofeed.defines import BUY, SELL
from cryptofeed.types import Ticker, Trade
from yapic import json

from benchmarks.contenders.common import SUBSCRIBE


class Receiver:
    """Counts what comes out of the callbacks, and when."""

    def __init__(self) -> None:
        self.frames = 0
        self.first_ns = self.last_ns = 0
        self._callback = Callback(self._count)

    async def subscribe(self, connection: WSAsyncConn) -> None:
        """Ask for tickers and trades."""
        await connection.write(SUBSCRIBE)

    async def authenticate(self, _connection: WSAsyncConn) -> None:
        """Do nothing: the venue lets everybody in."""

    async def handle(self, data: str, _connection: WSAsyncConn, received: float) -> None:
        """Turn a frame into cryptofeed's record of it."""
        message = json.loads(data, parse_float=Decimal)
        body = message["msg"]
        record: Any = None
        match message["type"]:
            case "ticker":
                bid, ask = Decimal(body["yes_bid_dollars"]), Decimal(body["yes_ask_dollars"])
                name, when = body["market_ticker"], body["ts_ms"] / 1000
                record = Ticker("KALSHI", name, bid, ask, when, raw=message)
            case "trade":
                record = _trade(body, message)
            case "subscribed":
                return
            case _:
                pass
        await self._callback(record, received)

    async def _count(self, _record: Any, _received: float) -> None:
        self.last_ns = time.time_ns()
        self.first_ns = self.first_ns or self.last_ns
        self.frames += 1

    def report(self) -> None:
        """Print what came and when."""
        counted = {"frames": self.frames, "first_ns": self.first_ns, "last_ns": self.last_ns}
        print(plain_json.dumps(counted), flush=True)


def _trade(body: dict[str, Any], message: dict[str, Any]) -> Any:
    side = BUY if body["taker_side"] == "yes" else SELL
    amount, price = Decimal(body["count_fp"]), Decimal(body["yes_price_dollars"])
    when = body["ts_ms"] / 1000
    name, key = body["market_ticker"], body["trade_id"]
    return Trade("KALSHI", name, side, amount, price, when, id=key, raw=message)


async def main(url: str) -> None:
    options = WebsocketEndpoint("wss://127.0.0.1", options={"compression": None}).options
    connection = WSAsyncConn("wss://127.0.0.1", "KALSHI", **options)
    connection.raw_data_callback = None
    connection.address = url
    receiver = Receiver()
    handler = ConnectionHandler(
        connection, receiver.subscribe, receiver.handle, receiver.authenticate, 0
    )
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    loop.add_signal_handler(signal.SIGTERM, stop.set)
    handler.start(loop)
    await stop.wait()
    receiver.report()


if __name__ == "__main__":
    uvloop.install()
    asyncio.run(main(sys.argv[1]))
