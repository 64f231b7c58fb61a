import json
import subprocess
import sys
from fractions import Fraction

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ssmd_core.errors import RecordError, SchemaError
from ssmd_core.metrics import Metrics
from ssmd_core.records import SCALE, BookDelta, Side, Ticker, Trade
from ssmd_core.schema import (
    find_schema,
    load_schema,
    open_decoder,
    open_trade_v1,
    open_trade_v2,
)

RECEIVED = 1_795_327_200_123_456_789
MAX_INT64 = (1 << 63) - 1
MAX_UINT64 = (1 << 64) - 1

names = st.text() | st.text(st.characters(codec="ascii"), max_size=60)
times = st.integers(1, MAX_UINT64)
prices = st.integers(-(1 << 63), MAX_INT64) | st.integers(0, SCALE)
amounts = st.integers(0, MAX_UINT64) | st.integers(0, 20).map((SCALE // 2).__mul__)
sequences = st.none() | st.integers(0, MAX_UINT64)

trades = st.builds(
    Trade,
    ticker=names,
    venue_ns=times,
    price_e9=prices,
    size_e9=amounts,
    side=st.sampled_from(Side),
    trade_id=names | st.uuids().map(str),
    seq=sequences,
)
tickers = st.builds(
    Ticker,
    ticker=names,
    venue_ns=times,
    bid_e9=st.none() | prices,
    ask_e9=st.none() | prices,
    last_e9=st.none() | prices,
    volume_e9=amounts,
    open_interest_e9=amounts,
    bid_size_e9=st.none() | amounts,
    ask_size_e9=st.none() | amounts,
    seq=sequences,
)


def a_trade(**changes):
    fields = {
        "ticker": "KX",
        "venue_ns": 42,
        "price_e9": 123_456_789,
        "size_e9": 1_500_000_000,
        "side": Side.SELL,
        "trade_id": "id-1",
        "seq": 7,
    }
    return Trade(**fields | changes)


def a_ticker(**changes):
    fields = {
        "ticker": "KX",
        "venue_ns": 42,
        "bid_e9": 0,
        "ask_e9": 460_000_001,
        "last_e9": None,
        "volume_e9": 759_860_000_000,
        "open_interest_e9": 666_180_000_000,
        "bid_size_e9": None,
        "ask_size_e9": 0,
    }
    return Ticker(**fields | changes)


@pytest.fixture(scope="module")
def metrics():
    return Metrics()


@pytest.fixture(scope="module")
def v1():
    return open_trade_v1(Metrics())


@pytest.fixture(scope="module")
def v2(metrics):
    return open_trade_v2(metrics)


@pytest.fixture(scope="module")
def read_v1():
    return open_decoder("trade:v1").decode


@pytest.fixture(scope="module")
def read_v2():
    return open_decoder("trade:v2").decode


@pytest.fixture(scope="module")
def schema():
    return load_schema(find_schema("trade-v2.capnp"))


# ── bytes ────────────────────────────────────────────────────────────────────────


def nearest(amount_e9, most=MAX_UINT64):
    return min(round(Fraction(amount_e9, SCALE)), most)


def dollars(price_e9):
    return float(Fraction(price_e9 or 0, SCALE))


@given(record=trades, ts=times)
def test_a_trade_is_packed_as_pycapnp_packs_it(v2, schema, assign, record, ts):
    expected = assign(
        schema.Trade,
        {
            "timestamp": record.venue_ns,
            "ticker": record.ticker,
            "price": dollars(record.price_e9),
            "size": nearest(record.size_e9, (1 << 32) - 1),
            "side": record.side.value,
            "tradeId": record.trade_id,
            "receivedAt": ts,
            "priceE9": record.price_e9,
            "sizeE9": record.size_e9,
            "sequence": record.seq or 0,
            "hasSequence": record.seq is not None,
        },
    )
    assert v2.encode(record, ts) == expected


@given(record=tickers, ts=times)
def test_a_ticker_is_packed_as_pycapnp_packs_it(v2, schema, assign, record, ts):
    expected = assign(
        schema.Ticker,
        {
            "timestamp": record.venue_ns,
            "ticker": record.ticker,
            "bidPrice": dollars(record.bid_e9),
            "askPrice": dollars(record.ask_e9),
            "lastPrice": dollars(record.last_e9),
            "volume": nearest(record.volume_e9),
            "openInterest": nearest(record.open_interest_e9),
            "receivedAt": ts,
            "bidPriceE9": record.bid_e9 or 0,
            "askPriceE9": record.ask_e9 or 0,
            "lastPriceE9": record.last_e9 or 0,
            "bidSizeE9": record.bid_size_e9 or 0,
            "askSizeE9": record.ask_size_e9 or 0,
            "volumeE9": record.volume_e9,
            "openInterestE9": record.open_interest_e9,
            "sequence": record.seq or 0,
            "hasBidPrice": record.bid_e9 is not None,
            "hasAskPrice": record.ask_e9 is not None,
            "hasLastPrice": record.last_e9 is not None,
            "hasBidSize": record.bid_size_e9 is not None,
            "hasAskSize": record.ask_size_e9 is not None,
            "hasSequence": record.seq is not None,
        },
    )
    assert v2.encode(record, ts) == expected


# ── v1 and v2 read each other ────────────────────────────────────────────────────


@given(record=trades | tickers, ts=times)
def test_a_reader_of_v1_reads_from_v2_what_it_reads_from_v1(v1, v2, read_v1, record, ts):
    kind = record.kind
    assert read_v1(kind, v2.encode(record, ts)) == read_v1(kind, v1.encode(record, ts))


@given(record=trades | tickers)
def test_a_reader_of_v2_reads_v1_and_sees_that_nothing_was_appended(v1, read_v1, read_v2, record):
    payload = v1.encode(record, RECEIVED)
    appended = dict(read_v2(record.kind, payload))
    for name, value in read_v1(record.kind, payload).items():
        assert appended.pop(name) == value
    assert appended["receivedAt"] == 0
    assert not any(appended.values())


ALONE = """
import json, sys, capnp
schema = capnp.load(sys.argv[1])
with schema.Trade.from_bytes(bytes.fromhex(sys.argv[2])) as trade:
    print(json.dumps(trade.to_dict()))
with schema.Ticker.from_bytes(bytes.fromhex(sys.argv[3])) as ticker:
    print(json.dumps(ticker.to_dict()))
"""


def test_a_program_that_has_only_the_text_of_v1_reads_v2(v2):
    arguments = [
        str(find_schema("trade.capnp")),
        v2.encode(a_trade(), RECEIVED).hex(),
        v2.encode(a_ticker(), RECEIVED).hex(),
    ]
    done = subprocess.run(
        [sys.executable, "-c", ALONE, *arguments],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert [json.loads(line) for line in done.stdout.splitlines()] == [
        {
            "timestamp": 42,
            "ticker": "KX",
            "price": 0.123456789,
            "size": 2,
            "side": "sell",
            "tradeId": "id-1",
        },
        {
            "timestamp": 42,
            "ticker": "KX",
            "bidPrice": 0.0,
            "askPrice": 0.460000001,
            "lastPrice": 0.0,
            "volume": 760,
            "openInterest": 666,
        },
    ]


def test_both_texts_in_one_parser_do_not_end_the_process():
    # Two texts with one file id would: the library aborts.
    script = "import sys, capnp\nfor path in sys.argv[1:]: capnp.load(path)\nprint('alive')"
    texts = [str(find_schema(name)) for name in ("trade.capnp", "trade-v2.capnp")]
    done = subprocess.run(
        [sys.executable, "-c", script, *texts],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert (done.returncode, done.stdout) == (0, "alive\n")


# ── what v1 rounds or cannot say, v2 keeps ───────────────────────────────────────


@given(price_e9=prices, size_e9=amounts)
def test_price_and_size_of_a_trade_are_exact_and_count_as_neither_rounded_nor_saturated(
    v2, metrics, read_v2, price_e9, size_e9
):
    rounded, saturated = metrics.rounded, metrics.saturated
    fields = read_v2("trade", v2.encode(a_trade(price_e9=price_e9, size_e9=size_e9), RECEIVED))
    assert (fields["priceE9"], fields["sizeE9"]) == (price_e9, size_e9)
    assert (metrics.rounded, metrics.saturated) == (rounded, saturated)


def test_a_quote_of_zero_and_no_quote_are_told_apart(v2, read_v2):
    fields = read_v2("ticker", v2.encode(a_ticker(), RECEIVED))
    assert (fields["bidPriceE9"], fields["hasBidPrice"]) == (0, True)
    assert (fields["askPriceE9"], fields["hasAskPrice"]) == (460_000_001, True)
    assert (fields["lastPriceE9"], fields["hasLastPrice"]) == (0, False)
    assert (fields["bidSizeE9"], fields["hasBidSize"]) == (0, False)
    assert (fields["askSizeE9"], fields["hasAskSize"]) == (0, True)


@pytest.mark.parametrize("record", [a_trade(seq=0), a_ticker(seq=0)], ids=["trade", "ticker"])
def test_a_sequence_of_zero_and_no_sequence_are_told_apart(v2, read_v2, record):
    fields = read_v2(record.kind, v2.encode(record, RECEIVED))
    assert (fields["sequence"], fields["hasSequence"]) == (0, True)


def test_the_receipt_time_is_that_of_the_frame(v2, read_v2):
    for record in (a_trade(), a_ticker()):
        assert read_v2(record.kind, v2.encode(record, RECEIVED))["receivedAt"] == RECEIVED


@given(price_e9=st.integers(-(1 << 70), 1 << 70), size_e9=st.integers(0, 1 << 70))
@example(price_e9=MAX_INT64, size_e9=MAX_UINT64)
@example(price_e9=MAX_INT64 + 1, size_e9=MAX_UINT64 + 1)
@example(price_e9=-MAX_INT64 - 1, size_e9=0)
@example(price_e9=-MAX_INT64 - 2, size_e9=0)
def test_beyond_their_range_the_exact_fields_saturate_and_are_counted(
    v2, metrics, read_v2, price_e9, size_e9
):
    before = metrics.saturated
    fields = read_v2("trade", v2.encode(a_trade(price_e9=price_e9, size_e9=size_e9), RECEIVED))
    assert fields["priceE9"] == max(-MAX_INT64 - 1, min(price_e9, MAX_INT64))
    assert fields["sizeE9"] == min(size_e9, MAX_UINT64)
    too_much = (not -MAX_INT64 - 1 <= price_e9 <= MAX_INT64) + (size_e9 > MAX_UINT64)
    assert metrics.saturated - before == too_much


@pytest.mark.parametrize(
    ("name", "wire", "most"),
    [
        ("bid_e9", "bidPriceE9", MAX_INT64),
        ("ask_e9", "askPriceE9", MAX_INT64),
        ("last_e9", "lastPriceE9", MAX_INT64),
        ("bid_size_e9", "bidSizeE9", MAX_UINT64),
        ("ask_size_e9", "askSizeE9", MAX_UINT64),
        ("volume_e9", "volumeE9", MAX_UINT64),
        ("open_interest_e9", "openInterestE9", MAX_UINT64),
    ],
)
def test_each_exact_field_of_a_ticker_saturates_by_itself(v2, metrics, read_v2, name, wire, most):
    for value in (most, most + 1):
        before = metrics.saturated
        fields = read_v2("ticker", v2.encode(a_ticker(**{name: value}), RECEIVED))
        assert fields[wire] == most
        assert metrics.saturated - before == value - most
        assert fields["askPriceE9"] == (most if name == "ask_e9" else 460_000_001)


@pytest.mark.parametrize("name", ["bid_e9", "ask_e9", "last_e9"])
def test_a_negative_price_is_exact_too(v2, read_v2, name):
    fields = read_v2("ticker", v2.encode(a_ticker(**{name: -1}), RECEIVED))
    assert fields[name.replace("_e9", "PriceE9")] == -1


# ── refusals ─────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("record", "ts", "reason"),
    [
        (a_trade(venue_ns=0), RECEIVED, "no venue time"),
        (a_trade(), 0, "no receipt time"),
        (a_ticker(), 0, "no receipt time"),
        (a_trade(size_e9=-1), RECEIVED, "negative size"),
        (a_ticker(bid_size_e9=-1), RECEIVED, "negative bid size"),
        (a_ticker(ask_size_e9=-1), RECEIVED, "negative ask size"),
        (a_trade(seq=-1), RECEIVED, "Trade.sequence is out of range"),
        (a_ticker(seq=1 << 64), RECEIVED, "Ticker.sequence is out of range"),
        (BookDelta("KX", 1, Side.BUY, 1, 1), RECEIVED, "trade:v2 has no struct for orderbook"),
    ],
    ids=lambda value: value if isinstance(value, str) else type(value).__name__,
)
def test_a_record_that_cannot_be_carried_is_refused_with_a_reason(v2, record, ts, reason):
    with pytest.raises(RecordError) as refusal:
        v2.encode(record, ts)
    assert str(refusal.value) == reason


def test_a_decoder_that_does_not_come_with_ssmd_is_refused():
    with pytest.raises(SchemaError, match="no decoder for acme:v1; there are trade:v1, trade:v2"):
        open_decoder("acme:v1")
