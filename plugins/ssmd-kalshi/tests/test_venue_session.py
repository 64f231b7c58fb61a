import json
from collections import Counter
from decimal import Decimal
from itertools import islice

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ssmd_kalshi.venue import market_names, session

FRAMES = [json.loads(frame) for frame in session(7, 20, 20_000)]


def of(kind):
    return [frame for frame in FRAMES if frame["type"] == kind]


@given(st.integers(), st.integers(1, 30))
@settings(max_examples=20)
def test_the_same_seed_gives_the_same_bytes(seed, markets):
    assert list(session(seed, markets, 300)) == list(session(seed, markets, 300))


def test_another_seed_gives_another_session():
    assert list(session(1, 3, 50)) != list(session(2, 3, 50))


@pytest.mark.parametrize("count", [0, 1, 100])
def test_as_many_frames_come_as_were_asked_for(count):
    assert len(list(session(1, 3, count))) == count


def test_a_session_without_an_end_goes_on():
    assert len(list(islice(session(1, 3), 5_000))) == 5_000


def test_no_market_means_no_frames():
    assert list(session(1, [], None)) == []


def test_tickers_trades_and_deltas_come_as_eighty_fifteen_five():
    counts = Counter(frame["type"] for frame in FRAMES[60:])
    shares = [counts[kind] / len(FRAMES) for kind in ("ticker", "trade", "orderbook_delta")]
    assert shares == pytest.approx([0.80, 0.15, 0.05], abs=0.015)


def test_every_number_of_a_channel_follows_the_one_before():
    last = Counter()
    for frame in FRAMES:
        if frame["type"] == "ticker":
            assert "seq" not in frame
            continue
        last[frame["sid"]] += 1
        assert frame["seq"] == last[frame["sid"]]
    assert len(last) == 3


def test_tickers_of_markets_differ_and_some_hold_dots():
    names = market_names(500)
    assert len(set(names)) == 500
    assert any("." in name for name in names)
    assert any("." not in name for name in names)


def test_the_given_markets_are_played():
    names = {json.loads(frame)["msg"]["market_ticker"] for frame in session(1, ["A.B", "C"], 200)}
    assert names == {"A.B", "C"}


def test_the_given_clock_stamps_the_frames():
    frames = [json.loads(frame) for frame in session(1, 2, 50, now_ms=lambda: 1_234_567)]
    assert {f["msg"]["ts_ms"] for f in frames if "ts_ms" in f["msg"]} == {1_234_567}


def test_time_never_goes_back():
    times = [frame["msg"]["ts_ms"] for frame in FRAMES if "ts_ms" in frame["msg"]]
    assert times == sorted(times)


@given(st.integers())
@settings(max_examples=15, deadline=None)
def test_books_stay_valid_whatever_the_seed(seed):
    books = {}
    for frame in map(json.loads, session(seed, 2, 3_000)):
        msg = frame["msg"]
        if frame["type"] == "orderbook_snapshot":
            books[msg["market_ticker"]] = {
                side: {Decimal(p): Decimal(s) for p, s in msg[f"{side}_dollars_fp"]}
                for side in ("yes", "no")
            }
        elif frame["type"] == "orderbook_delta":
            book = books[msg["market_ticker"]]
            levels, price = book[msg["side"]], Decimal(msg["price_dollars"])
            change = Decimal(msg["delta_fp"])
            assert change
            assert 0 < price < 1
            levels[price] = levels.get(price, Decimal(0)) + change
            assert levels[price] >= 0
            if not levels[price]:
                del levels[price]
            assert max(book["yes"]) + max(book["no"]) < 1


def test_a_ticker_shows_the_best_quotes_of_its_book():
    snapshot, ticker = of("orderbook_snapshot")[0]["msg"], of("ticker")[0]["msg"]
    assert ticker["market_ticker"] == snapshot["market_ticker"]
    assert ticker["yes_bid_dollars"] == max(p for p, _ in snapshot["yes_dollars_fp"])
    best_no = max(Decimal(p) for p, _ in snapshot["no_dollars_fp"])
    assert Decimal(ticker["yes_ask_dollars"]) == 1 - best_no


def test_trades_are_unique_and_both_prices_make_a_dollar():
    trades = [frame["msg"] for frame in of("trade")]
    assert len({trade["trade_id"] for trade in trades}) == len(trades)
    for trade in trades:
        prices = Decimal(trade["yes_price_dollars"]) + Decimal(trade["no_price_dollars"])
        assert prices == 1
        assert Decimal(trade["count_fp"]) > 0


def test_both_sides_take_and_some_sizes_are_fractions():
    trades = [frame["msg"] for frame in of("trade")]
    assert {trade["taker_side"] for trade in trades} == {"yes", "no"}
    assert {trade["count_fp"][-2:] == "00" for trade in trades} == {True, False}


def test_the_last_price_of_a_ticker_is_that_of_the_last_trade():
    last = {}
    for frame in FRAMES:
        msg = frame["msg"]
        if frame["type"] == "trade":
            last[msg["market_ticker"]] = msg["yes_price_dollars"]
        elif frame["type"] == "ticker":
            assert msg["price_dollars"] == last.get(msg["market_ticker"], "0.0000")
