"""What each frame says, in every form that has been on the wire."""

import json
from decimal import Decimal

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ssmd_core.errors import ParseError
from ssmd_core.feed import Acknowledged, FrameKind, Refused, Subscribed, Unsubscribed
from ssmd_core.metrics import Metrics
from ssmd_core.records import BookDelta, BookSnapshot, Level, Lifecycle, Side, Ticker, Trade
from ssmd_core.schema import open_trade_v1, open_trade_v1_decoder
from ssmd_kalshi.messages import parse

MARKET = "KXTEST-26DEC31-T1.5"
UUID = "00000000-0000-4000-8000-000000000001"
NS = 10**9
DOLLAR = 10**9


def frame(kind, msg=None, **envelope):
    body = {"type": kind, **envelope}
    if msg is not None:
        body["msg"] = msg
    return json.dumps(body).encode()


def only_record(kind, msg, **envelope):
    parsed = parse(frame(kind, msg, **envelope))
    assert parsed.fault == ""
    assert parsed.kind is FrameKind.DATA
    assert parsed.label == kind
    (record,) = parsed.records
    return record


def fault(kind, msg, **envelope):
    """Read a frame of a known type that yields nothing; return what is wrong with it."""
    parsed = parse(frame(kind, msg, sid=3, seq=9, **envelope))
    assert parsed.records == ()
    assert (parsed.label, parsed.sid, parsed.first_seq, parsed.last_seq) == (kind, 3, 9, 9)
    assert parsed.kind is FrameKind.DATA
    return parsed.fault


# ── ticker ───────────────────────────────────────────────────────────────────────

PRESENT_TICKER = {
    "market_id": UUID,
    "market_ticker": MARKET,
    "price_dollars": "0.4500",
    "yes_bid_dollars": "0.4400",
    "yes_ask_dollars": "0.4600",
    "volume_fp": "759.86",
    "open_interest_fp": "666.18",
    "dollar_volume": -379,
    "dollar_open_interest": 333,
    "yes_bid_size_fp": "12.00",
    "yes_ask_size_fp": "78.00",
    "last_trade_size_fp": "0.09",
    "ts": 1795000000,
    "ts_ms": 1795000000123,
    "time": "2026-11-18T11:06:40Z",
}
LEGACY_TICKER = {
    "market_ticker": MARKET,
    "price": 45,
    "yes_bid": 44,
    "yes_ask": 46,
    "volume": 759,
    "open_interest": 666,
    "dollar_volume": 379,
    "dollar_open_interest": 333,
    "ts": 1795000000,
    "Clock": 13281241747,
}


def test_a_ticker_of_the_present_form():
    assert only_record("ticker", PRESENT_TICKER, sid=2) == Ticker(
        ticker=MARKET,
        venue_ns=1795000000_123_000_000,
        bid_e9=440_000_000,
        ask_e9=460_000_000,
        last_e9=450_000_000,
        volume_e9=759_860_000_000,
        open_interest_e9=666_180_000_000,
        bid_size_e9=12 * DOLLAR,
        ask_size_e9=78 * DOLLAR,
    )


def test_a_ticker_of_the_legacy_form():
    assert only_record("ticker", LEGACY_TICKER, sid=2) == Ticker(
        ticker=MARKET,
        venue_ns=1795000000 * NS,
        bid_e9=440_000_000,
        ask_e9=460_000_000,
        last_e9=450_000_000,
        volume_e9=759 * DOLLAR,
        open_interest_e9=666 * DOLLAR,
    )


def test_the_present_form_wins_where_a_ticker_carries_both():
    legacy = dict.fromkeys(("price", "yes_bid", "yes_ask", "volume", "open_interest"), 1)
    assert only_record("ticker", PRESENT_TICKER | legacy) == only_record("ticker", PRESENT_TICKER)


def test_a_total_of_zero_in_the_present_form_wins_too():
    record = only_record("ticker", PRESENT_TICKER | {"volume_fp": "0.00", "volume": 5})
    assert record.volume_e9 == 0


def test_an_empty_side_stays_as_the_venue_put_it():
    empty = {
        "yes_bid_dollars": "0.0000",
        "yes_bid_size_fp": "0.00",
        "yes_ask_dollars": "1.0000",
        "yes_ask_size_fp": "0.00",
    }
    record = only_record("ticker", PRESENT_TICKER | empty)
    assert (record.bid_e9, record.bid_size_e9) == (0, 0)
    assert (record.ask_e9, record.ask_size_e9) == (DOLLAR, 0)


@pytest.mark.parametrize("absent", [None, ""])
def test_a_quote_that_is_null_or_empty_is_none(absent):
    record = only_record("ticker", PRESENT_TICKER | {"yes_bid_dollars": absent})
    assert record.bid_e9 is None
    assert record.ask_e9 == 460_000_000


def test_a_quote_that_is_left_out_is_none():
    msg = {key: value for key, value in PRESENT_TICKER.items() if key != "price_dollars"}
    assert only_record("ticker", msg).last_e9 is None


def test_never_traded_as_it_was_sent_in_2025_is_none_and_not_zero():
    record = only_record("ticker", LEGACY_TICKER | {"price": 0, "price_dollars": ""})
    assert record.last_e9 is None


def test_a_ticker_all_of_whose_quotes_are_empty_still_counts():
    quotes = dict.fromkeys(("price_dollars", "yes_bid_dollars", "yes_ask_dollars"), "")
    record = only_record("ticker", PRESENT_TICKER | quotes)
    assert (record.bid_e9, record.ask_e9, record.last_e9) == (None, None, None)
    assert record.volume_e9 == 759_860_000_000


def test_a_ticker_whose_price_fields_were_renamed_is_a_fault_and_no_ticker_of_zeros():
    renamed = {key.replace("_dollars", "_usd"): value for key, value in PRESENT_TICKER.items()}
    assert "price fields" in fault("ticker", renamed)


def test_totals_that_are_left_out_are_zero():
    msg = {"market_ticker": MARKET, "yes_bid": 4, "ts": 1795000000}
    record = only_record("ticker", msg)
    assert (record.volume_e9, record.open_interest_e9) == (0, 0)
    assert (record.bid_size_e9, record.ask_size_e9) == (None, None)


def test_a_ticker_without_time_has_time_zero():
    assert only_record("ticker", {"market_ticker": MARKET, "yes_bid": 4}).venue_ns == 0


@pytest.mark.parametrize(
    "value", [0.45, "0.45", "0.450000000000", Decimal("0.45")], ids=["float", "str", "long", "raw"]
)
def test_a_price_may_change_its_scalar_type(value):
    text = msgspec.json.encode({"type": "ticker", "msg": PRESENT_TICKER | {"price_dollars": "@"}})
    shown = f'"{value}"' if isinstance(value, str) else f"{value}"
    (record,) = parse(text.replace(b'"@"', shown.encode())).records
    assert record.last_e9 == 450_000_000


def test_a_json_number_keeps_digits_that_a_float_would_lose():
    text = b'{"type":"ticker","msg":{"market_ticker":"A","volume_fp":900719925474099.123456789,'
    (record,) = parse(text + b'"yes_bid_dollars":"0.5000"}}').records
    assert record.volume_e9 == 900_719_925_474_099_123_456_789


@pytest.mark.parametrize("field", ["yes_bid_dollars", "volume_fp", "yes_ask_size_fp"])
@pytest.mark.parametrize("value", ["abc", "0.1234567891", [1], {"a": 1}, True, 1e300])
def test_a_number_that_no_record_can_carry_is_a_fault(field, value):
    assert fault("ticker", PRESENT_TICKER | {field: value})


@pytest.mark.parametrize(
    "form", [str, int, "{}.00".format, "{}.5".format], ids=["text", "int", "zeros", "half"]
)
@pytest.mark.parametrize("count", [2**64, 10**19 * 2, 10**23, 10**39])
def test_totals_beyond_the_wire_form_are_kept_and_saturate_there(form, count):
    sizes = dict.fromkeys(("volume_fp", "open_interest_fp"), form(count))
    record = only_record("ticker", PRESENT_TICKER | sizes)
    assert record.volume_e9 // DOLLAR == record.open_interest_e9 // DOLLAR == count
    metrics = Metrics()
    wire = open_trade_v1_decoder().decode("ticker", open_trade_v1(metrics).encode(record))
    assert wire["volume"] == wire["openInterest"] == 2**64 - 1
    assert wire["bidPrice"] == 0.44
    assert metrics.saturated == 2


def test_the_largest_total_of_the_wire_form_does_not_saturate():
    record = only_record("ticker", PRESENT_TICKER | {"volume_fp": f"{2**64 - 1}.00"})
    metrics = Metrics()
    wire = open_trade_v1_decoder().decode("ticker", open_trade_v1(metrics).encode(record))
    assert wire["volume"] == 2**64 - 1
    assert metrics.saturated == 0


# ── trade ────────────────────────────────────────────────────────────────────────

PRESENT_TRADE = {
    "trade_id": UUID,
    "market_ticker": MARKET,
    "yes_price_dollars": "0.8000",
    "no_price_dollars": "0.2000",
    "count_fp": "2.50",
    "taker_side": "no",
    "taker_outcome_side": "no",
    "taker_book_side": "ask",
    "is_block_trade": False,
    "ts": 1795000000,
    "ts_ms": 1795000000391,
}


def test_a_trade_of_the_present_form():
    record = only_record("trade", PRESENT_TRADE, sid=3, seq=17)
    assert record == Trade(
        ticker=MARKET,
        venue_ns=1795000000_391_000_000,
        price_e9=800_000_000,
        size_e9=2_500_000_000,
        side=Side.SELL,
        trade_id=UUID,
        seq=17,
    )
    assert record.key == UUID


@pytest.mark.parametrize("price", ["yes_price", "price"])
@pytest.mark.parametrize("side", ["taker_side", "side"])
def test_a_trade_of_the_legacy_forms(price, side):
    msg = {"market_ticker": MARKET, price: 80, "count": 3, side: "yes", "ts": 1795000000}
    record = only_record("trade", msg)
    assert record == Trade(MARKET, 1795000000 * NS, 800_000_000, 3 * DOLLAR, Side.BUY)
    assert record.key is None


def test_the_outcome_side_wins_over_the_deprecated_one():
    sides = {"taker_outcome_side": "yes", "taker_side": "no", "side": "no"}
    assert only_record("trade", PRESENT_TRADE | sides).side is Side.BUY


def test_the_present_form_wins_where_a_trade_carries_both():
    legacy = {"yes_price": 1, "price": 2, "count": 99}
    assert only_record("trade", PRESENT_TRADE | legacy) == only_record("trade", PRESENT_TRADE)


@pytest.mark.parametrize(
    "left_out", [("yes_price_dollars", "no_price_dollars"), ("count_fp",), ("ts", "ts_ms")]
)
def test_a_trade_without_price_count_or_time_is_no_record(left_out):
    msg = {key: value for key, value in PRESENT_TRADE.items() if key not in left_out}
    assert "missing" in fault("trade", msg)


@pytest.mark.parametrize("side", ["", None, "maybe", "YES", 1, ["yes"]])
def test_a_trade_whose_side_is_missing_or_unknown_is_no_record(side):
    sides = dict.fromkeys(("taker_outcome_side", "taker_side", "side", "taker_book_side"), side)
    assert fault("trade", PRESENT_TRADE | sides)


SIDES = {
    "yes": Side.BUY,
    "buy": Side.BUY,
    "bid": Side.BUY,
    "no": Side.SELL,
    "sell": Side.SELL,
    "ask": Side.SELL,
}


@pytest.mark.parametrize(("word", "side"), SIDES.items())
@pytest.mark.parametrize("field", ["taker_outcome_side", "taker_side", "side", "taker_book_side"])
def test_the_taker_side_is_read_in_every_word_of_every_field(field, word, side):
    msg = {key: value for key, value in PRESENT_TRADE.items() if not key.endswith("_side")}
    assert only_record("trade", msg | {field: word}).side is side


@pytest.mark.parametrize("field", ["taker_outcome_side", "taker_side", "side"])
def test_the_side_of_the_book_is_the_last_resort(field):
    msg = {key: value for key, value in PRESENT_TRADE.items() if not key.endswith("_side")}
    msg |= {"taker_book_side": "ask", field: "yes"}
    assert only_record("trade", msg).side is Side.BUY


def test_a_side_that_is_not_known_is_not_made_up_for_by_that_of_the_book():
    sides = {"taker_outcome_side": "maybe", "taker_book_side": "ask"}
    assert fault("trade", PRESENT_TRADE | sides)


@pytest.mark.parametrize(
    ("other_leg", "price_e9"),
    [
        ({"no_price_dollars": "0.2001"}, 799_900_000),
        ({"no_price_dollars": "1.0000"}, 0),
        ({"no_price": 20}, 800_000_000),
        ({"no_price_dollars": "", "no_price": 20}, 800_000_000),
        ({"no_price_dollars": "0.3000", "no_price": 20}, 700_000_000),
    ],
)
def test_a_price_of_the_other_leg_alone_tells_that_of_yes(other_leg, price_e9):
    msg = {key: value for key, value in PRESENT_TRADE.items() if "price" not in key}
    assert only_record("trade", msg | other_leg).price_e9 == price_e9


@pytest.mark.parametrize("leg", [{"yes_price_dollars": "0.8000"}, {"yes_price": 80}, {"price": 80}])
def test_a_price_of_yes_in_any_form_wins_over_that_of_the_other_leg(leg):
    msg = {key: value for key, value in PRESENT_TRADE.items() if "price" not in key}
    other_leg = {"no_price_dollars": "0.9900", "no_price": 99}
    assert only_record("trade", msg | other_leg | leg).price_e9 == 800_000_000


def test_a_price_of_the_other_leg_that_is_no_number_is_a_fault():
    msg = {key: value for key, value in PRESENT_TRADE.items() if key != "yes_price_dollars"}
    assert fault("trade", msg | {"no_price_dollars": "abc"})


@pytest.mark.parametrize("field", ["count_fp", "count"])
@pytest.mark.parametrize("count", [2**32, 10**19, 10**23])
@pytest.mark.parametrize("form", [str, int], ids=["text", "number"])
def test_a_count_beyond_the_wire_form_is_kept_and_saturates_there(field, count, form):
    msg = {key: value for key, value in PRESENT_TRADE.items() if key != "count_fp"}
    record = only_record("trade", msg | {field: form(count)})
    assert record.size_e9 == count * DOLLAR
    metrics = Metrics()
    wire = open_trade_v1_decoder().decode("trade", open_trade_v1(metrics).encode(record))
    assert (wire["size"], wire["price"], wire["side"]) == (2**32 - 1, 0.8, "sell")
    assert metrics.saturated == 1


def test_a_trade_id_of_another_type_still_names_the_trade():
    assert only_record("trade", PRESENT_TRADE | {"trade_id": 123}).key == "123"


@given(st.integers(0, 100), st.integers(1, 10**9), st.sampled_from(["yes", "no"]))
def test_all_forms_of_a_trade_agree_for_whole_cents(cents, count, side):
    common = {"market_ticker": MARKET, "trade_id": UUID, "ts": 1795000000, "taker_side": side}
    dollars = {"yes_price_dollars": f"{cents / 100:.4f}", "count_fp": f"{count}.00"}
    legacy = {"yes_price": cents, "count": count}
    records = {
        msgspec.json.encode(only_record("trade", common | form))
        for form in (dollars, legacy, legacy | dollars)
    }
    assert len(records) == 1


@given(st.tuples(*[st.integers(0, 100)] * 3), st.integers(0, 10**9))
def test_all_forms_of_a_ticker_agree_for_whole_cents(cents, volume):
    common = {"market_ticker": MARKET, "ts": 1795000000}
    names = ("yes_bid", "yes_ask", "price")
    legacy = dict(zip(names, cents, strict=True)) | {"volume": volume}
    dollars = {f"{name}_dollars": f"{legacy[name] / 100:.4f}" for name in names}
    dollars |= {"volume_fp": f"{volume}.00"}
    records = {
        msgspec.json.encode(only_record("ticker", common | form))
        for form in (dollars, legacy, legacy | dollars)
    }
    assert len(records) == 1


# ── books ────────────────────────────────────────────────────────────────────────

LEVELS = {"yes": [(1, 5), (40, 7)], "no": [(55, 3), (2, 9)]}
BOOK = BookSnapshot(
    ticker=MARKET,
    venue_ns=0,
    bids=(Level(400_000_000, 7 * DOLLAR), Level(10_000_000, 5 * DOLLAR)),
    asks=(Level(450_000_000, 3 * DOLLAR), Level(980_000_000, 9 * DOLLAR)),
    seq=1,
)
FORMS = {
    "present": lambda leg: {
        f"{leg}_dollars_fp": [[f"{p / 100:.4f}", f"{n}.00"] for p, n in LEVELS[leg]]
    },
    "transitional": lambda leg: {f"{leg}_dollars": [[f"{p / 100:.2f}", n] for p, n in LEVELS[leg]]},
    "legacy": lambda leg: {leg: [list(level) for level in LEVELS[leg]]},
}


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
def test_a_snapshot_is_a_yes_book_with_the_best_level_first(form):
    msg = {"market_ticker": MARKET, "market_id": "", **form("yes"), **form("no")}
    assert only_record("orderbook_snapshot", msg, sid=1, seq=1) == BOOK


def test_the_newest_form_wins_where_a_snapshot_carries_several():
    other = {"yes": [[99, 1]], "yes_dollars": [["0.98", 1]], "no": [[1, 1]]}
    msg = {"market_ticker": MARKET, **FORMS["present"]("yes"), **FORMS["present"]("no"), **other}
    assert only_record("orderbook_snapshot", msg, seq=1) == BOOK


@pytest.mark.parametrize("empty", [{}, {"yes_dollars_fp": []}, {"yes_dollars_fp": None}])
def test_a_side_that_is_left_out_null_or_empty_has_no_levels(empty):
    msg = {"market_ticker": MARKET, **FORMS["present"]("no"), **empty}
    record = only_record("orderbook_snapshot", msg)
    assert record.bids == ()
    assert record.asks == BOOK.asks


def test_a_snapshot_without_sides_is_an_empty_book():
    record = only_record("orderbook_snapshot", {"market_ticker": MARKET})
    assert record.bids == record.asks == ()


def test_a_snapshot_that_was_asked_for_answers_the_request():
    parsed = parse(frame("orderbook_snapshot", {"market_ticker": MARKET}, sid=1, seq=10, id=44))
    assert parsed.event == Acknowledged(request=44, sid=1)
    assert parsed.kind is FrameKind.DATA
    assert len(parsed.records) == 1
    assert parsed.first_seq == 10


def test_a_tick_of_a_hundredth_of_a_cent_is_exact_on_both_sides():
    msg = {"market_ticker": MARKET, "yes_dollars_fp": [["0.0001", "0.01"]]}
    msg["no_dollars_fp"] = [["0.0001", "0.01"]]
    record = only_record("orderbook_snapshot", msg)
    assert record.bids == (Level(100_000, 10_000_000),)
    assert record.asks == (Level(999_900_000, 10_000_000),)


@pytest.mark.parametrize(
    "levels", [[["0.01"]], [["0.01", "1", "x"]], [["", "1"]], [["a", "1"]], ["0.01"], "x", 5, [5]]
)
def test_a_snapshot_with_a_broken_level_is_a_fault(levels):
    assert fault("orderbook_snapshot", {"market_ticker": MARKET, "yes_dollars_fp": levels})


@pytest.mark.parametrize(
    "form",
    [
        {"price_dollars": "0.1500", "delta_fp": "-30.00"},
        {"price_dollars": "0.15", "delta": -30},
        {"price": 15, "delta": -30},
        {"price_dollars": "0.1500", "delta_fp": "-30.00", "price": 99, "delta": 1},
    ],
    ids=["present", "transitional", "legacy", "both"],
)
@pytest.mark.parametrize(
    ("side", "expected"), [("yes", (Side.BUY, 150_000_000)), ("no", (Side.SELL, 850_000_000))]
)
def test_a_delta_changes_one_level_of_the_yes_book(form, side, expected):
    msg = {"market_ticker": MARKET, "side": side, "ts_ms": 1795000000530, **form}
    record = only_record("orderbook_delta", msg, sid=1, seq=2)
    assert record == BookDelta(
        MARKET, 1795000000_530_000_000, *expected, change_e9=-30 * DOLLAR, seq=2
    )


def test_a_delta_has_the_microseconds_of_its_deprecated_time():
    msg = {"market_ticker": MARKET, "side": "yes", "price_dollars": "0.1500", "delta_fp": "0.01"}
    msg |= {"ts": "2026-11-18T11:06:40.530542Z", "ts_ms": 1795000000530}
    assert only_record("orderbook_delta", msg).venue_ns == 1795000000_530_542_000


@pytest.mark.parametrize(
    "change", [{"side": "both"}, {"side": None}, {"price_dollars": None}, {"delta_fp": ""}]
)
def test_a_delta_without_side_price_or_change_is_a_fault(change):
    msg = {"market_ticker": MARKET, "side": "yes", "price_dollars": "0.15", "delta_fp": "1.00"}
    assert "missing" in fault("orderbook_delta", msg | change)


# ── lifecycle ────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("event", "more", "when"),
    [
        ("created", {"open_ts": 1795000000, "close_ts": 1796000000}, 0),
        ("activated", {"is_deactivated": False}, 0),
        ("deactivated", {"is_deactivated": True}, 0),
        ("close_date_updated", {"close_ts": 1796000000}, 0),
        ("determined", {"determination_ts": 1795000000, "settlement_value": "0.5"}, 1795000000),
        ("determined", {"determination_ts": 1795000000, "settlement_value": None}, 1795000000),
        ("settled", {"settled_ts": 1795000001}, 1795000001),
        ("price_level_structure_updated", {"price_ranges": [{"start": "0"}]}, 0),
        ("metadata_updated", {"floor_strike": 1.5}, 0),
        ("a_word_of_tomorrow", {"ts_ms": 1795000000000}, 1795000000),
    ],
)
@pytest.mark.parametrize("kind", ["market_lifecycle_v2", "multivariate_market_lifecycle"])
def test_a_market_event_keeps_the_venues_word_and_its_whole_message(kind, event, more, when):
    msg = {"market_ticker": MARKET, **more, "event_type": event}
    record = only_record(kind, msg, sid=4, seq=8)
    assert (record.ticker, record.event, record.seq) == (MARKET, event, 8)
    assert record.venue_ns == when * NS
    assert json.loads(record.detail) == msg


@pytest.mark.parametrize("kind", ["event_lifecycle", "event_fee_update"])
def test_an_event_of_an_event_is_named_by_its_type(kind):
    msg = {"event_ticker": "KXTEST-26DEC31", "title": "a \u00e9 title", "fee_type_override": None}
    record = only_record(kind, msg, sid=4, seq=8)
    assert record == Lifecycle("KXTEST-26DEC31", 0, kind, detail=json.dumps(msg).encode(), seq=8)


def test_the_detail_is_the_venues_own_bytes_and_outlives_the_frame():
    data = bytearray(b'{"type":"event_lifecycle","msg":{"event_ticker":"E",  "x":1.50}}')
    (record,) = parse(bytes(data)).records
    data[:] = b" " * len(data)
    assert record.detail == b'{"event_ticker":"E",  "x":1.50}'


@pytest.mark.parametrize(
    "msg", [{}, {"market_ticker": MARKET}, {"event_type": "created"}, [], "x", None, 5]
)
def test_a_lifecycle_frame_without_ticker_or_word_is_a_fault(msg):
    parsed = parse(
        json.dumps({"type": "market_lifecycle_v2", "sid": 1, "seq": 2, "msg": msg}).encode()
    )
    assert parsed.fault
    assert parsed.first_seq == 2


# ── replies ──────────────────────────────────────────────────────────────────────


def reply(kind, msg=None, **envelope):
    parsed = parse(frame(kind, msg, **envelope))
    assert parsed.kind is FrameKind.REPLY
    assert parsed.records == ()
    assert parsed.label == kind
    return parsed


def test_a_subscription_is_confirmed_and_uses_no_number():
    parsed = reply("subscribed", {"channel": "trade", "sid": 2}, id=1)
    assert parsed.event == Subscribed(request=1, channel="trade", sid=2)
    assert parsed.first_seq is None
    assert parsed.sid is None


@pytest.mark.parametrize("msg", [None, {}, {"channel": 1, "sid": "x"}, [1], "text"])
def test_a_confirmation_without_channel_still_answers_the_request(msg):
    assert reply("subscribed", msg, id=1).event == Acknowledged(request=1)


@pytest.mark.parametrize(
    "shape",
    [
        {"msg": {"market_tickers": ["A", "B"]}},
        {"market_tickers": ["A", "B"]},
        {"msg": [{"channel": "trade", "sid": 2}]},
        {"msg": {}},
        {},
    ],
)
def test_an_acknowledgement_of_any_shape_uses_a_number(shape):
    parsed = parse(json.dumps({"type": "ok", "id": 4, "sid": 1, "seq": 2, **shape}).encode())
    assert parsed.event == Acknowledged(request=4, sid=1)
    assert (parsed.sid, parsed.first_seq, parsed.last_seq) == (1, 2, 2)


def test_a_list_of_subscriptions_has_no_channel_and_no_number():
    parsed = reply("ok", [{"channel": "trade", "sid": 2}], id=3)
    assert parsed.event == Acknowledged(request=3)
    assert parsed.first_seq is None


def test_the_end_of_a_subscription_uses_a_number():
    parsed = reply("unsubscribed", id=9, sid=2, seq=7)
    assert parsed.event == Unsubscribed(request=9, sid=2)
    assert parsed.first_seq == 7


def test_the_end_of_a_subscription_may_lack_id_and_number():
    assert reply("unsubscribed", sid=2).event == Unsubscribed(request=None, sid=2)


def test_an_error_with_a_sid_uses_a_number():
    parsed = reply("error", {"code": 13, "msg": "Unsupported action"}, id=5, sid=1, seq=11)
    assert parsed.event == Refused(request=5, code=13, reason="Unsupported action", sid=1)
    assert parsed.first_seq == 11


@pytest.mark.parametrize("code", [10, 25, "25"])
def test_an_error_that_is_terminal_ends_the_subscription(code):
    event = reply("error", {"code": code, "msg": "over"}, sid=1, seq=11).event
    assert event == Refused(request=None, code=int(code), reason="over", sid=1, ends_sid=True)


def test_a_terminal_error_without_a_sid_ends_nothing():
    assert not reply("error", {"code": 10, "msg": "over"}, id=5).event.ends_sid


@pytest.mark.parametrize(
    ("msg", "code", "reason"),
    [
        ({"code": 999, "msg": "new"}, 999, "new"),
        ({"code": "rate_limited"}, "rate_limited", "no reason given"),
        ({"code": None, "msg": ""}, "unknown", "no reason given"),
        ({"code": [1], "msg": {"a": 1}}, "[1]", "{'a': 1}"),
        ("just text", "unknown", "just text"),
        (None, "unknown", "no reason given"),
        ({"code": 8, "msg": "x" * 5000}, 8, "x" * 300),
    ],
)
def test_an_error_of_any_shape_is_a_refusal(msg, code, reason):
    assert reply("error", msg, id=6).event == Refused(request=6, code=code, reason=reason)


# ── envelopes ────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("kind", ["fill", "rfq_created", "pyth_value", "some_future_channel", ""])
def test_an_unknown_type_keeps_its_label_and_its_place(kind):
    parsed = parse(frame(kind, {"market_ticker": MARKET}, sid=7, seq=3))
    assert (parsed.label, parsed.kind) == (kind, FrameKind.UNKNOWN)
    assert (parsed.sid, parsed.first_seq, parsed.last_seq) == (7, 3, 3)
    assert parsed.records == ()
    assert parsed.fault == ""


@pytest.mark.parametrize("envelope", [{}, {"type": None}])
def test_a_frame_without_type_keeps_its_place(envelope):
    parsed = parse(json.dumps({"sid": 1, "seq": 2, "msg": {}, **envelope}).encode())
    assert (parsed.label, parsed.kind) == ("untyped", FrameKind.UNKNOWN)
    assert (parsed.sid, parsed.first_seq) == (1, 2)


def test_a_label_is_bounded():
    assert len(parse(frame("x" * 100_000)).label) == 64


@pytest.mark.parametrize(
    "kind", ["ticker", "trade", "orderbook_snapshot", "orderbook_delta", "market_lifecycle_v2"]
)
@pytest.mark.parametrize("msg", [{}, [], "text", 5, None, {"market_ticker": 5}])
def test_a_known_type_with_an_unreadable_body_keeps_its_place(kind, msg):
    data = json.dumps({"type": kind, "sid": 3, "seq": 9, "msg": msg}).encode()
    parsed = parse(data)
    assert parsed.fault
    assert parsed.records == ()
    assert (parsed.label, parsed.sid, parsed.first_seq, parsed.last_seq) == (kind, 3, 9, 9)


def test_a_known_type_without_body_keeps_its_place():
    parsed = parse(b'{"type":"trade","sid":3,"seq":9}')
    assert "msg" in parsed.fault
    assert parsed.first_seq == 9


def test_a_reply_with_an_unreadable_id_keeps_its_place():
    parsed = parse(b'{"type":"ok","id":[1],"sid":3,"seq":9}')
    assert parsed.fault
    assert parsed.kind is FrameKind.REPLY
    assert parsed.first_seq == 9


def test_the_order_of_keys_means_nothing():
    data = json.dumps({"msg": PRESENT_TRADE, "seq": 17, "sid": 3, "type": "trade"}).encode()
    assert parse(data).records == parse(frame("trade", PRESENT_TRADE, sid=3, seq=17)).records


def test_keys_that_are_not_known_mean_nothing():
    assert only_record("trade", PRESENT_TRADE | {"new": [{}]}, _shard_id=1).trade_id == UUID


@pytest.mark.parametrize(
    "data",
    [
        *(b"", b"x", b"{", b"[]", b"5", b"null", b'"text"', b"[1,2]", b"\xff", b'{"type":"trade"'),
        *(b'{"type":5}', b'{"type":"trade","sid":"1","msg":{}}', b'{"type":"x","seq":1.5}'),
        *(b'{"type":"x","sid":[]}', b'{"type":"x","a":NaN}', b'{"type":"x"} {}'),
        *(b'\xef\xbb\xbf{"type":"x"}', b'{"type":"x","a":"\x01"}', b'{"type":"x","a":01}'),
        b'{"type":"trade","msg":{"market_ticker":"\xff"}}',
        b'{"type":"x","a":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    ],
)
def test_what_is_no_json_object_with_an_envelope_is_a_parse_error(data):
    with pytest.raises(ParseError):
        parse(data)


# ── whatever comes ───────────────────────────────────────────────────────────────

json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)
KNOWN_FIELDS = sorted(
    {
        *PRESENT_TICKER,
        *LEGACY_TICKER,
        *PRESENT_TRADE,
        *("no_price", "taker_book_side"),
        *("yes_dollars_fp", "no_dollars_fp", "yes_dollars", "no_dollars", "yes", "no", "side"),
        *("delta", "delta_fp", "price", "count", "event_type", "event_ticker", "settled_ts"),
        *("channel", "sid", "code", "msg", "market_tickers"),
    }
)
bodies = st.dictionaries(st.sampled_from(KNOWN_FIELDS), json_values) | json_values
kinds = st.sampled_from(
    [
        *("ticker", "trade", "orderbook_snapshot", "orderbook_delta", "market_lifecycle_v2"),
        *("event_lifecycle", "event_fee_update", "subscribed", "unsubscribed", "ok", "error"),
    ]
)
envelopes = st.fixed_dictionaries(
    {"type": kinds | json_values},
    optional={"sid": json_values, "seq": json_values, "id": json_values, "msg": bodies},
)


def survives(data):
    try:
        parsed = parse(data)
    except ParseError:
        return None
    assert isinstance(parsed.label, str)
    return parsed


@given(st.binary())
def test_no_bytes_raise_anything_but_a_parse_error(data):
    survives(data)


@given(envelopes | json_values)
def test_no_json_raises_anything_but_a_parse_error(value):
    survives(json.dumps(value).encode())


@given(kinds, bodies, st.integers(1, 2**40), st.integers(1, 2**60))
def test_whatever_the_body_the_place_in_the_sequence_is_read(kind, body, sid, seq):
    data = json.dumps({"type": kind, "sid": sid, "seq": seq, "msg": body})
    parsed = survives(data.encode())
    assert parsed is not None
    assert (parsed.sid, parsed.first_seq, parsed.last_seq) == (sid, seq, seq)


@given(st.sampled_from([frame("ticker", PRESENT_TICKER), frame("trade", PRESENT_TRADE)]), st.data())
def test_a_frame_cut_or_damaged_anywhere_raises_nothing_but_a_parse_error(data, draw):
    at = draw.draw(st.integers(0, len(data) - 1))
    byte = draw.draw(st.binary(max_size=2))
    survives(data[:at])
    survives(data[:at] + byte + data[at + 1 :])
