"""The loopback venue's past trades: every one, page by page, newest first."""

import json
from urllib.parse import urlencode

import pytest

from ssmd_core.feed.fetch import get
from ssmd_core.feed.repair import Fetch
from ssmd_core.testing import LoopbackVenue, Recording
from ssmd_kalshi.venue import KalshiFace, new_key, session
from ssmd_kalshi.venue_history import TRADES_PATH, TradeHistory

NOW_MS = 1_795_327_200_500
KEY = new_key(ed25519_key=True)


@pytest.fixture
def anyio_backend():
    return "asyncio"


def message(number, ticker="KXA-1"):
    body = {
        "trade_id": f"t{number}",
        "market_ticker": ticker,
        "yes_price_dollars": "0.8000",
        "count_fp": "2.00",
        "taker_side": "no",
        "ts": 1,
        "ts_ms": 1000,
    }
    return json.dumps(body).encode()


@pytest.fixture
def history():
    past = TradeHistory()
    for number in range(10):
        past.add(message(number, f"KX{number % 2}"), NOW_MS + number * 1000)
    return past


def page(history, **query):
    answer = history.answer(f"{TRADES_PATH}?{urlencode(query)}")
    assert answer.status == 200
    return json.loads(answer.body)


def ids(body):
    return [row["trade_id"] for row in body["trades"]]


def test_rows_have_rests_own_names_and_the_venues_time(history):
    row = page(history, limit=1)["trades"][0]
    assert row["ticker"] == "KX1"
    assert row["created_time"] == "2026-11-22T06:00:09.500010Z"
    assert row["yes_price_dollars"] == "0.8000"
    assert not {"market_ticker", "ts", "ts_ms"} & row.keys()


def test_pages_follow_each_other_from_the_newest_to_the_oldest(history):
    cursor, seen, sizes = "", [], []
    while True:
        body = page(history, limit=4, cursor=cursor)
        seen += ids(body)
        sizes.append(len(body["trades"]))
        cursor = body["cursor"]
        if not cursor:
            break
    assert seen == [f"t{number}" for number in reversed(range(10))]
    assert sizes == [4, 4, 2]


def test_a_page_that_holds_the_last_row_has_no_cursor(history):
    assert page(history, limit=10)["cursor"] == ""


def test_both_bounds_are_whole_seconds_and_belong_to_it(history):
    second = NOW_MS // 1000
    assert ids(page(history, min_ts=second + 3, max_ts=second + 5)) == ["t5", "t4", "t3"]
    assert ids(page(history, min_ts=second + 4, max_ts=second + 4)) == ["t4"]
    assert ids(page(history, max_ts=second)) == ["t0"]


def test_a_ticker_leaves_the_others_out(history):
    assert ids(page(history, ticker="KX1")) == ["t9", "t7", "t5", "t3", "t1"]


def test_new_trades_do_not_move_the_pages_of_a_run(history):
    first = page(history, limit=5)
    history.add(message(99), NOW_MS)
    assert ids(page(history, limit=5, cursor=first["cursor"])) == ["t4", "t3", "t2", "t1", "t0"]


def test_an_empty_page_may_have_a_cursor(history):
    history.empty_pages = 2
    first = page(history)
    second = page(history, cursor=first["cursor"])
    assert ids(first) == ids(second) == []
    assert first["cursor"] != second["cursor"] != ""
    assert len(ids(page(history, cursor=second["cursor"]))) == 10


@pytest.mark.parametrize(
    "query",
    ["limit=1001", "limit=0", "limit=x", "min_ts=-1", "cursor=%21", "before=3"],
)
def test_what_the_venue_does_not_understand_is_a_bad_request(history, query):
    assert history.answer(f"{TRADES_PATH}?{query}").status == 400


def test_the_oldest_trades_are_forgotten():
    past = TradeHistory(kept=3)
    for number in range(5):
        past.add(message(number), NOW_MS)
    assert ids(page(past)) == ["t4", "t3", "t2"]


@pytest.mark.anyio
async def test_the_past_holds_what_nobody_heard_and_needs_no_credentials():
    frames = list(session(3, 4, 400))
    traded = [json.loads(f)["msg"]["trade_id"] for f in frames if b'"type":"trade"' in f]
    face = KalshiFace.for_key(KEY)
    async with LoopbackVenue(Recording([]), face) as venue:
        for frame in frames:
            item = face.prepare(frame)
            if item is not None:
                face.advance(item)
        body = await get(Fetch(url=f"http://127.0.0.1:{venue.port}{TRADES_PATH}?limit=1000"))
    assert ids(json.loads(body)) == traded[::-1]
