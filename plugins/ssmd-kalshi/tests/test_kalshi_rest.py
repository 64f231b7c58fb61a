"""Which pages bring missed trades back, and what they say."""

import json
from decimal import Decimal
from urllib.parse import parse_qs, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ssmd_core.clock import NS
from ssmd_core.errors import CredentialError, ParseError
from ssmd_core.feed import FrameKind
from ssmd_core.feed.repair import Fetch, Missed
from ssmd_core.records import Side
from ssmd_kalshi import plugin
from ssmd_kalshi.config import KalshiConfig
from ssmd_kalshi.feed import KalshiFeed
from ssmd_kalshi.messages import parse
from ssmd_kalshi.rest import first_page, next_page, parse_trades, rest_endpoint

BASE = "https://example.com/trade-api/v2"
URL = "wss://example.com/trade-api/ws/v2"
SECOND = 1_795_000_000
NOW_NS = SECOND * NS + 123


class StillClock:
    def wall_ns(self):
        return NOW_NS

    def monotonic_ns(self):
        return NOW_NS


class NoSigner:
    def headers(self, url, now_ms):
        raise AssertionError("past trades are public")


def make_feed(**settings):
    return KalshiFeed(KalshiConfig(**settings), URL, NoSigner(), StillClock())


def missed(from_s=-10.0, to_s=-1.0, channel="trade", markets=()):
    return Missed(
        channel=channel,
        from_ts=NOW_NS + round(from_s * NS),
        to_ts=NOW_NS + round(to_s * NS),
        markets=markets,
    )


def query_of(fetch):
    return {key: value for key, (value,) in parse_qs(urlsplit(fetch.url).query).items()}


def page(*rows, cursor=""):
    return json.dumps({"trades": list(rows), "cursor": cursor}).encode()


def row(**changed):
    fields = {
        "trade_id": "9c7f",
        "ticker": "KXGOLDH-26AUG2711-T4615.99",
        "count_fp": "2.50",
        "yes_price_dollars": "0.8000",
        "no_price_dollars": "0.2000",
        "taker_side": "no",
        "taker_outcome_side": "no",
        "created_time": "2026-11-18T12:53:20.123456Z",
        "is_block_trade": False,
    }
    return {name: value for name, value in (fields | changed).items() if value is not ...}


# ── where REST is ────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("url", "endpoint"),
    [
        ("ws://127.0.0.1:4711/trade-api/ws/v2", "http://127.0.0.1:4711/trade-api/v2"),
        ("wss://api.elections.kalshi.com/trade-api/ws/v2", "https://api.elections.kalshi.com/trade-api/v2"),
        ("wss://external-api-ws.kalshi.com/trade-api/ws/v2", "https://external-api.kalshi.com/trade-api/v2"),
        ("wss://external-api-ws.demo.kalshi.co/x", "https://external-api.demo.kalshi.co/trade-api/v2"),
        ("wss://user:secret@example.com:8443/x", "https://example.com:8443/trade-api/v2"),
    ],
)  # fmt: skip
def test_rest_is_where_the_websocket_is(url, endpoint):
    assert rest_endpoint(url) == endpoint


def test_another_rest_endpoint_may_be_set():
    feed = make_feed(rest_endpoint="http://127.0.0.1:9/v2/")
    assert feed.backfill(missed()).url.startswith("http://127.0.0.1:9/v2/markets/trades?")


# ── what is asked ────────────────────────────────────────────────────────────────


def test_the_whole_exchange_is_asked_at_once_padded_by_two_seconds():
    fetch = make_feed().backfill(missed())
    assert fetch.url.startswith(f"{BASE}/markets/trades?")
    assert query_of(fetch) == {
        "limit": "1000",
        "min_ts": str(SECOND - 12),
        "max_ts": str(SECOND + 2),
    }
    assert dict(fetch.headers) == {}


@given(st.integers(0, 2 * NS), st.integers(0, 5 * NS))
def test_the_window_holds_the_hole_with_a_second_to_spare(offset, length):
    from_ts = NOW_NS - 100 * NS + offset
    hole = Missed(channel="trade", from_ts=from_ts, to_ts=from_ts + length)
    query = query_of(first_page(BASE, hole, 0))
    assert int(query["min_ts"]) * NS + NS <= from_ts
    assert int(query["max_ts"]) * NS - NS >= from_ts + length


@pytest.mark.parametrize("channel", ["ticker", "orderbook_delta", "market_lifecycle_v2", "7"])
def test_other_channels_are_not_fetched(channel):
    assert make_feed().backfill(missed(channel=channel)) is None


def test_markets_are_asked_for_one_after_the_other_each_to_its_last_page():
    feed = make_feed()
    fetch, asked = feed.backfill(missed(markets=("A", "B&C", "D"))), []
    answers = [page(cursor="x+/="), page(), page(row()), page(cursor="y"), page()]
    for answer in answers:
        query = query_of(fetch)
        asked.append((query["ticker"], query.get("cursor")))
        fetch = feed.next_fetch(fetch, answer)
    assert fetch is None
    assert asked == [("A", None), ("A", "x+/="), ("B&C", None), ("D", None), ("D", "y")]


def test_an_empty_page_with_a_cursor_is_not_the_last():
    feed = make_feed()
    first = feed.backfill(missed())
    second = feed.next_fetch(first, page(cursor="more"))
    assert query_of(second) == query_of(first) | {"cursor": "more"}


@pytest.mark.parametrize("end", [b'{"trades":[]}', b'{"trades":[],"cursor":null}', page()])
def test_without_a_cursor_a_page_is_the_last(end):
    feed = make_feed()
    assert feed.next_fetch(feed.backfill(missed()), end) is None


def test_a_request_that_is_not_of_ours_leads_nowhere():
    assert make_feed().next_fetch(Fetch(url="http://x/"), page(cursor="x")) is None


def test_what_is_older_than_the_setting_is_not_fetched_and_said_to_be_so():
    feed = make_feed(backfill_seconds=60)
    fetch = feed.backfill(missed(from_s=-100))
    assert fetch.covers_from == NOW_NS - 60 * NS
    assert int(query_of(fetch)["min_ts"]) == SECOND - 62
    assert feed.backfill(missed(from_s=-59)).covers_from == 0


def test_no_second_means_no_repair():
    assert make_feed(backfill_seconds=0).backfill(missed(to_s=0)) is None


# ── what comes ───────────────────────────────────────────────────────────────────


def test_a_row_is_the_trade_that_the_socket_would_have_brought():
    live = {
        "trade_id": "9c7f",
        "market_ticker": "KXGOLDH-26AUG2711-T4615.99",
        "yes_price_dollars": "0.8000",
        "count_fp": "2.50",
        "taker_side": "no",
        "ts_ms": 1_795_006_400_123,
    }
    frame = json.dumps({"type": "trade", "sid": 2, "seq": 1, "msg": live}).encode()
    (sent,) = parse(frame).records
    (fetched,) = parse_trades(page(row())).records
    assert (fetched.key, fetched.ticker) == (sent.key, sent.ticker)
    assert (fetched.price_e9, fetched.size_e9) == (sent.price_e9, sent.size_e9)
    assert fetched.side is sent.side is Side.SELL
    assert fetched.venue_ns == sent.venue_ns + 456_000
    assert fetched.seq is None


def test_the_oldest_row_comes_first():
    body = page(*(row(trade_id=str(n)) for n in (3, 2, 1)))
    assert [record.trade_id for record in parse_trades(body).records] == ["1", "2", "3"]


@pytest.mark.parametrize(
    "changed",
    [
        {"yes_price_dollars": ..., "no_price_dollars": ..., "yes_price": 80, "no_price": 20},
        {"yes_price_dollars": ..., "count_fp": ..., "count": Decimal("2.5")},
        {"taker_outcome_side": ..., "taker_side": ..., "taker_book_side": "ask"},
    ],
)
def test_other_forms_of_a_row_say_the_same(changed):
    changed = {name: float(v) if isinstance(v, Decimal) else v for name, v in changed.items()}
    (record,) = parse_trades(page(row(**changed))).records
    assert (record.price_e9, record.size_e9) == (800_000_000, 2_500_000_000)
    assert record.side is Side.SELL


@pytest.mark.parametrize(
    "bad",
    [
        row(count_fp=...),
        row(created_time="yesterday"),
        row(created_time=...),
        row(taker_outcome_side="maybe", taker_side="maybe"),
        row(ticker=...),
        row(ticker=7),
        row(yes_price_dollars=["0.8"]),
        row(yes_price_dollars="0.80000000001"),
        None,
        "row",
        [],
    ],
)
def test_a_row_that_cannot_be_read_is_a_fault_and_costs_no_other(bad):
    said = parse_trades(page(row(trade_id="2"), bad, row(trade_id="1")))
    assert [record.trade_id for record in said.records] == ["1", "2"]
    assert said.fault.startswith("1 of 3 rows: ")
    assert said.kind is FrameKind.DATA


def test_a_page_without_rows_is_no_fault():
    said = parse_trades(page(cursor="more"))
    assert (said.records, said.fault) == ((), "")


NO_PAGES = [
    b"",
    b"<html>",
    b"[]",
    b"{}",
    b'{"trades":null}',
    b'{"trades":{}}',
    b'{"trades":[],"cursor":7}',
    b'{"trades":[{}',
    b'{"trades":["\xff"]}',
    b"[" * 5000,
]


@pytest.mark.parametrize("body", NO_PAGES)
def test_what_is_no_page_is_a_parse_error(body):
    feed = make_feed()
    if body != NO_PAGES[8]:
        with pytest.raises(ParseError):
            feed.next_fetch(feed.backfill(missed()), body)
    try:
        said = feed.parse_fetched(body)
    except ParseError:
        return
    assert said.records == ()
    assert said.fault


def test_a_cursor_that_fits_no_url_is_a_parse_error():
    first = first_page(BASE, missed(), 0)
    with pytest.raises(ParseError):
        next_page(first, page(cursor="x" * 5000))


ROWS = st.text(max_size=40).map(lambda text: b'{"trades":[%b]}' % text.encode())


@given(st.binary(max_size=60) | ROWS)
def test_whatever_comes_a_page_is_read_or_refused(body):
    try:
        said = parse_trades(body)
    except ParseError:
        return
    assert said.label == "trades"


# ── a feed that only parses ──────────────────────────────────────────────────────


def test_a_feed_for_reading_parses_all_kinds_and_connects_nowhere():
    (registered,) = plugin.ssmd_feeds()
    feed = registered.offline()
    assert feed.kinds == {"trade", "ticker", "orderbook", "lifecycle"}
    assert len(feed.parse_fetched(page(row())).records) == 1
    assert feed.parse(b'{"type":"ticker","sid":1,"msg":{}}', None).fault
    with pytest.raises(CredentialError):
        feed.endpoint(feed.connections()[0])
