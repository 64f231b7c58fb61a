"""Decides what happens on an invented exchange: the same seed, the same session."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice

from ssmd_kalshi.venue_market import CENT, DOLLAR, InventedMarket, random_size, random_uuid

__all__ = ["SIDS", "START_MS", "market_names", "session"]

SIDS = {"ticker": 1, "trade": 2, "orderbook_delta": 3, "market_lifecycle_v2": 4}
"""The channel ids of a bare session."""
START_MS = 1_795_000_000_000

_TICKER_SHARE, _TRADE_SHARE, _LIFECYCLE_SHARE = 0.80, 0.15, 0.002
_PLACES = ("ALDER", "BIRCH", "CEDAR", "ELDER", "HAZEL", "LARCH", "MAPLE", "ROWAN")


def market_names(count: int) -> list[str]:
    """Return so many invented tickers; every third one holds a dot."""
    names = []
    for n in range(count):
        place, turn = _PLACES[n % len(_PLACES)], n // len(_PLACES)
        match n % 3:
            case 0:
                names.append(f"KXLOOPGOLD-26DEC31-T{4000 + n * 5}.99")
            case 1:
                names.append(f"KXLOOPRAIN-26DEC{1 + turn % 31:02d}-{place}{turn}")
            case _:
                names.append(f"KXLOOPCUP-26DEC{1 + turn % 31:02d}-{place}{turn}")
    return names


def session(
    seed: int = 1,
    markets: Sequence[str] | int = 12,
    frames: int | None = None,
    *,
    now_ms: Callable[[], int] | None = None,
) -> Iterator[bytes]:
    """Yield the frames of a plausible session, in the present fixed-point form.

    It opens with the creation, the book and the ticker of each market; then tickers,
    trades and book deltas come as 80 : 15 : 5, with now and then a change in the life of
    a market. Books stay valid: never crossed, no size below zero. Channel ids and
    sequence numbers are those of one connection that subscribed to everything.

    Args:
        seed: the same seed gives the same bytes, as long as ``now_ms`` is not given.
        markets: tickers, or how many to invent.
        frames: how many to yield; None never ends.
        now_ms: the venue's clock, Unix milliseconds; by default one of its own.
    """
    names = market_names(markets) if isinstance(markets, int) else list(markets)
    rng = random.Random(seed)
    writer = _Writer(rng, now_ms or _ticking_clock(rng))
    books = [InventedMarket.invent(name, rng) for name in names]
    yield from islice(_endless(rng, writer, books), frames)


def _endless(
    rng: random.Random, writer: _Writer, markets: Sequence[InventedMarket]
) -> Iterator[bytes]:
    for market in markets:
        yield writer.created(market)
        yield writer.snapshot(market)
        yield writer.ticker(market)
    while markets:
        # The square favours the first markets: a few are busy, many are quiet.
        market = markets[int(len(markets) * rng.random() ** 2)]
        draw = rng.random()
        if draw < _LIFECYCLE_SHARE:
            yield writer.close_date_updated(market)
        elif draw < _TICKER_SHARE:
            yield writer.ticker(market)
        elif draw < _TICKER_SHARE + _TRADE_SHARE:
            yield writer.trade(market)
        else:
            yield writer.delta(market)


def _ticking_clock(rng: random.Random) -> Callable[[], int]:
    now = START_MS

    def tick() -> int:
        nonlocal now
        now += rng.randrange(5)
        return now

    return tick


@dataclass(slots=True)
class _Writer:
    """Turns what happens into frames."""

    rng: random.Random
    now_ms: Callable[[], int]
    _seqs: dict[str, int] = field(default_factory=lambda: dict.fromkeys(SIDS, 0))

    def created(self, market: InventedMarket) -> bytes:
        opened = self.now_ms() // 1000
        event, name = market.ticker.rpartition("-")[0], market.ticker.rpartition("-")[2]
        return self._frame(
            "market_lifecycle_v2",
            "market_lifecycle_v2",
            f'{{"market_ticker":"{market.ticker}","event_type":"created","open_ts":{opened},'
            f'"close_ts":{opened + 86400},"exchange_index":0,'
            '"price_level_structure":"'
            f'{"linear_cent" if market.tick == CENT else "deci_cent"}",'
            f'"additional_metadata":{{"name":"{name}","title":"Does {name} come true?",'
            f'"yes_sub_title":"{name}","no_sub_title":"not {name}","can_close_early":true,'
            f'"event_ticker":"{event}"}}}}',
        )

    def close_date_updated(self, market: InventedMarket) -> bytes:
        closes = self.now_ms() // 1000 + self.rng.randrange(3600, 86400)
        return self._frame(
            "market_lifecycle_v2",
            "market_lifecycle_v2",
            f'{{"market_ticker":"{market.ticker}","event_type":"close_date_updated",'
            f'"close_ts":{closes}}}',
        )

    def snapshot(self, market: InventedMarket) -> bytes:
        return self._frame(
            "orderbook_delta",
            "orderbook_snapshot",
            f'{{"market_ticker":"{market.ticker}","market_id":"{market.market_id}",'
            f'"yes_dollars_fp":{_levels(market.yes)},"no_dollars_fp":{_levels(market.no)}}}',
        )

    def delta(self, market: InventedMarket) -> bytes:
        now = self.now_ms()
        side, price, change = market.change(self.rng)
        return self._frame(
            "orderbook_delta",
            "orderbook_delta",
            f'{{"market_ticker":"{market.ticker}","market_id":"{market.market_id}",'
            f'"price_dollars":"{_dollars(price)}","delta_fp":"{_contracts(change)}",'
            f'"side":"{side}","ts":"{_rfc3339(now, self.rng.randrange(1000))}","ts_ms":{now}}}',
        )

    def trade(self, market: InventedMarket) -> bytes:
        now = self.now_ms()
        yes_taker = self.rng.choice((True, False))
        price, size = market.ask if yes_taker else market.bid, random_size(self.rng)
        market.last, market.last_size = price, size
        market.volume += size
        market.open_interest += size // 2
        taker, book_side = ("yes", "bid") if yes_taker else ("no", "ask")
        return self._frame(
            "trade",
            "trade",
            f'{{"trade_id":"{random_uuid(self.rng)}","market_ticker":"{market.ticker}",'
            f'"yes_price_dollars":"{_dollars(price)}",'
            f'"no_price_dollars":"{_dollars(DOLLAR - price)}","count_fp":"{_contracts(size)}",'
            f'"taker_side":"{taker}","taker_outcome_side":"{taker}",'
            f'"taker_book_side":"{book_side}","is_block_trade":false,'
            f'"ts":{now // 1000},"ts_ms":{now}}}',
        )

    def ticker(self, market: InventedMarket) -> bytes:
        now = self.now_ms()
        bid, ask = market.bid, market.ask
        msg = (
            f'{{"market_id":"{market.market_id}","market_ticker":"{market.ticker}",'
            f'"price_dollars":"{_dollars(market.last)}","yes_bid_dollars":"{_dollars(bid)}",'
            f'"yes_ask_dollars":"{_dollars(ask)}","volume_fp":"{_contracts(market.volume)}",'
            f'"open_interest_fp":"{_contracts(market.open_interest)}",'
            f'"dollar_volume":{market.volume // 200},'
            f'"dollar_open_interest":{market.open_interest // 200},'
            f'"yes_bid_size_fp":"{_contracts(market.yes[bid])}",'
            f'"yes_ask_size_fp":"{_contracts(market.no[DOLLAR - ask])}",'
            f'"last_trade_size_fp":"{_contracts(market.last_size)}",'
            f'"ts":{now // 1000},"ts_ms":{now},"time":"{_rfc3339(now)}"}}'
        )
        return f'{{"type":"ticker","sid":{SIDS["ticker"]},"msg":{msg}}}'.encode()

    def _frame(self, channel: str, kind: str, msg: str) -> bytes:
        self._seqs[channel] = seq = self._seqs[channel] + 1
        return f'{{"type":"{kind}","sid":{SIDS[channel]},"seq":{seq},"msg":{msg}}}'.encode()


def _dollars(price: int) -> str:
    return f"{price // DOLLAR}.{price % DOLLAR:04d}"


def _contracts(size: int) -> str:
    sign, size = ("-", -size) if size < 0 else ("", size)
    return f"{sign}{size // 100}.{size % 100:02d}"


def _levels(levels: dict[int, int]) -> str:
    pairs = (f'["{_dollars(p)}","{_contracts(s)}"]' for p, s in sorted(levels.items()))
    return f"[{','.join(pairs)}]"


def _rfc3339(ms: int, micros: int | None = None) -> str:
    stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(ms // 1000))
    return f"{stamp}Z" if micros is None else f"{stamp}.{ms % 1000:03d}{micros:03d}Z"
