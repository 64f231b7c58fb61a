"""What the server takes: ready-made messages written in blocks, acknowledgements counted in bulk.

Messages, subjects, ids and headers are what ssmd publishes for the same frames. Nothing is
received, decoded or encoded while it runs.
"""

from __future__ import annotations

import socket
import sys
import time
from collections.abc import Callable, Iterator
from urllib.parse import urlsplit

import msgspec

from benchmarks.load import Load, LoadSpec, goes_out
from ssmd_core.schema.compile import compile_packer
from ssmd_core.schema.load import find_schema, load_schema

__all__ = ["main"]

_WINDOW = 4_096
_BLOCK = 256
_INBOX = "_INBOX.ceiling"
_SECONDS = 60.0


class _Body(msgspec.Struct):
    market_ticker: str
    ts_ms: int
    price_dollars: str = "0"
    yes_bid_dollars: str = "0"
    yes_ask_dollars: str = "0"
    volume_fp: str = "0"
    open_interest_fp: str = "0"
    trade_id: str = ""
    yes_price_dollars: str = "0"
    count_fp: str = "0"
    taker_side: str = "yes"


class _Frame(msgspec.Struct):
    type: str
    msg: _Body


def main(bus: str, frames: int) -> None:
    """Make the blocks, say so, wait for a line, and send them."""
    blocks = list(_blocks(_operations(frames)))
    address = urlsplit(bus)
    with socket.create_connection((address.hostname, address.port), timeout=_SECONDS) as peer:
        peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        peer.sendall(
            b'CONNECT {"verbose":false,"headers":true,"no_responders":true}\r\n'
            b"SUB %b.* 1\r\nPING\r\n" % _INBOX.encode()
        )
        answer = b""
        while b"PONG" not in answer:
            answer += peer.recv(65_536)
        print("ready", sum(count for count, _ in blocks), flush=True)
        sys.stdin.readline()
        _run(peer, blocks)
    print("done", flush=True)
    while True:
        time.sleep(_SECONDS)  # whoever started us looks at us and ends us


def _run(peer: socket.socket, blocks: list[tuple[int, bytes]]) -> None:
    sent = acked = 0
    torn = b""
    for count, block in blocks:
        while sent + count - acked > _WINDOW:
            found, torn = _read(peer, torn)
            acked += found
        peer.sendall(block)
        sent += count
    while acked < sent:
        found, torn = _read(peer, torn)
        acked += found


def _read(peer: socket.socket, torn: bytes) -> tuple[int, bytes]:
    """Count acknowledgements: bodies that hold a ``seq``; keep what may be cut in two."""
    data = peer.recv(1 << 18)
    if not data:
        raise ConnectionError("the server closed the connection")
    data = torn + data
    whole, newline, rest = data.rpartition(b"\r\n")
    if b"PING\r\n" in whole + newline:
        peer.sendall(b"PONG\r\n")
    return (whole + newline).count(b'"seq":'), rest


def _blocks(operations: Iterator[bytes]) -> Iterator[tuple[int, bytes]]:
    block: list[bytes] = []
    for operation in operations:
        block.append(operation)
        if len(block) == _BLOCK:
            yield len(block), b"".join(block)
            block.clear()
    if block:
        yield len(block), b"".join(block)


def _operations(frames: int) -> Iterator[bytes]:
    module = load_schema(find_schema("trade.capnp"))
    packers = {"ticker": compile_packer(module.Ticker), "trade": compile_packer(module.Trade)}
    decode = msgspec.json.Decoder(_Frame).decode
    now_ns = time.time_ns()
    published = filter(goes_out, Load(LoadSpec(frames)).first(frames))
    for number, frame in enumerate(map(decode, published)):
        payload = _payload(frame, packers)
        key = f"c0ffee00:{now_ns + number}"
        if frame.type == "trade":
            key = f"trade:{frame.msg.trade_id}"
        head = (
            f"NATS/1.0\r\nNats-Msg-Id: kalshi:{key}\r\nSsmd-Schema: trade:v1\r\n"
            f"Ssmd-Ts: {now_ns + number}\r\n\r\n"
        )
        subject = f"prod.kalshi.{frame.type}.{frame.msg.market_ticker}"
        size = len(head)
        line = f"HPUB {subject} {_INBOX}.{number} {size} {size + len(payload)}\r\n{head}"
        yield line.encode() + payload + b"\r\n"


def _payload(frame: _Frame, packers: dict[str, Callable[..., bytes]]) -> bytes:
    body = frame.msg
    when = body.ts_ms * 1_000_000
    if frame.type == "trade":
        side = "buy" if body.taker_side == "yes" else "sell"
        price, size = float(body.yes_price_dollars), int(float(body.count_fp))
        return packers["trade"]((when, body.market_ticker, price, size, side, body.trade_id))
    quotes = (body.yes_bid_dollars, body.yes_ask_dollars, body.price_dollars)
    totals = (body.volume_fp, body.open_interest_fp)
    numbers = (*map(float, quotes), *(int(float(total)) for total in totals))
    return packers["ticker"]((when, body.market_ticker, *numbers))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
