"""What a load is: the frames that the venue sends, made once and kept as bytes."""

from __future__ import annotations

import array
import random
import time
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

from ssmd_core.testing.wire import pack
from ssmd_kalshi.venue import market_names

__all__ = ["BOOK_SID", "CHUNK_FRAMES", "TICKER_SID", "TRADE_SID", "Load", "LoadSpec", "goes_out"]

TICKER_SID, TRADE_SID, BOOK_SID = 1, 2, 3
CHUNK_FRAMES = 256
"""So many frames go into one write of a saturating venue."""

_TICKER_SHARE, _TRADE_SHARE = 0.80, 0.15
_POOL = 512
_MOST_KEPT = 1_000_000
_TICKER = (
    '{"type":"ticker","sid":%d,"msg":{"market_ticker":"%s","price_dollars":"%s",'
    '"yes_bid_dollars":"%s","yes_ask_dollars":"%s","volume_fp":"%s","open_interest_fp":"%s",'
    '"dollar_volume":%d,"dollar_open_interest":%d,"yes_bid_size_fp":"%s","yes_ask_size_fp":"%s",'
    '"last_trade_size_fp":"%s","ts":%d,"ts_ms":%d}}'
)
_TRADE = (
    '{"type":"trade","sid":%d,"seq":%d,"msg":{"trade_id":"%s","market_ticker":"%s",'
    '"yes_price_dollars":"%s","no_price_dollars":"%s","count_fp":"%s","taker_side":"%s",'
    '"taker_outcome_side":"%s","taker_book_side":"%s","is_block_trade":false,"ts":%d,"ts_ms":%d}}'
)
_BOOK = (
    '{"type":"orderbook_delta","sid":%d,"seq":%d,"msg":{"market_ticker":"%s","market_id":"%s",'
    '"price_dollars":"%s","delta_fp":"%s","side":"%s","ts":%d,"ts_ms":%d}}'
)
_SIZED = (
    '{"type":"ticker","sid":%d,"msg":{"market_ticker":"%s","price_dollars":"%s",'
    '"yes_bid_dollars":"%s","yes_ask_dollars":"%s","ts_ms":%d%s}}'
)
_PAD = ',"x":"%s"'


@dataclass(frozen=True, slots=True)
class LoadSpec:
    """Which frames: how many, over how many markets, and how large."""

    frames: int
    tickers: int = 1_000
    frame_bytes: int | None = None
    """Tickers of exactly this size instead of the usual mix, whose mean is about 380 bytes."""


class Load:
    """The frames of a load, kept unless they are very many."""

    def __init__(self, spec: LoadSpec) -> None:
        self.spec = spec
        self._kept = list(_make(spec)) if spec.frames <= _MOST_KEPT else None

    def first(self, frames: int) -> Iterator[bytes]:
        """Yield the first frames; very long loads are made as they go."""
        return islice(_make(self.spec) if self._kept is None else self._kept, frames)

    def chunks(self, frames: int) -> Iterator[bytes]:
        """Yield the first frames as WebSocket frames, many a write."""
        following = self.first(frames)
        while chunk := list(islice(following, CHUNK_FRAMES)):
            yield pack(chunk)

    def published(self, frames: int) -> array.array[int]:
        """Return the positions of the first frames that the wire schema has a struct for."""
        return array.array(
            "q", (n for n, frame in enumerate(self.first(frames)) if goes_out(frame))
        )


def goes_out(frame: bytes) -> bool:
    """Say whether the wire schema has a struct for a frame: it has none for books."""
    return not frame.startswith(b'{"type":"orderbook')


def _make(spec: LoadSpec) -> Iterator[bytes]:
    return _sized(spec) if spec.frame_bytes else _mixed(spec)


def _mixed(spec: LoadSpec) -> Iterator[bytes]:
    """Yield 80 % tickers, 15 % trades, 5 % book changes in the venue's present form."""
    rng = random.Random(1)
    names = market_names(spec.tickers)
    ids = [str(uuid.UUID(int=rng.getrandbits(128), version=4)) for _ in range(_POOL)]
    prices = [f"{cents / 100:.4f}" for cents in range(1, 100)]
    sizes = [f"{rng.randrange(1, 500_000)}.00" for _ in range(_POOL)]
    begin_ms = time.time_ns() // 1_000_000
    seqs = {TRADE_SID: 0, BOOK_SID: 0}
    for place in range(spec.frames):
        name = names[int(rng.random() * spec.tickers)]
        cents = 1 + int(rng.random() * 97)
        bid, ask, size = prices[cents - 1], prices[cents], sizes[place % _POOL]
        now_ms = begin_ms + place // 50
        draw = rng.random()
        if draw < _TICKER_SHARE:
            count = place % 9_973
            numbers = (bid, bid, ask, size, sizes[-1 - place % 97], count, count // 2)
            queue = (size, sizes[place % 89], "25.00", now_ms // 1000, now_ms)
            text = _TICKER % (TICKER_SID, name, *numbers, *queue)
        elif draw < _TICKER_SHARE + _TRADE_SHARE:
            seqs[TRADE_SID] += 1
            taker, side = ("yes", "bid") if place & 1 else ("no", "ask")
            trade_id = f"{place:08x}-5d3a-4c1e-9b70-2f6a81c4e0d7"
            legs = (bid, prices[98 - cents], size, taker, taker, side)
            head = (TRADE_SID, seqs[TRADE_SID], trade_id, name)
            text = _TRADE % (*head, *legs, now_ms // 1000, now_ms)
        else:
            seqs[BOOK_SID] += 1
            head = (BOOK_SID, seqs[BOOK_SID], name, ids[place % _POOL])
            side = "yes" if place & 1 else "no"
            text = _BOOK % (*head, bid, size, side, now_ms // 1000, now_ms)
        yield text.encode()


def _sized(spec: LoadSpec) -> Iterator[bytes]:
    """Yield tickers of one size: a text that nobody reads fills them up."""
    assert spec.frame_bytes is not None
    names: Sequence[str] = market_names(spec.tickers)
    now_ms = time.time_ns() // 1_000_000
    pads: dict[int, str] = {}
    for place in range(spec.frames):
        name, cents = names[place % spec.tickers], 1 + place % 97
        bid, ask = f"{cents / 100:.4f}", f"{(cents + 1) / 100:.4f}"
        values = (TICKER_SID, name, bid, bid, ask, now_ms)
        bare = len(_SIZED % (*values, ""))
        if bare not in pads:
            pads[bare] = _PAD % ("x" * max(0, spec.frame_bytes - bare - len(_PAD % "")))
        yield (_SIZED % (*values, pads[bare] if bare < spec.frame_bytes else "")).encode()
