from fractions import Fraction

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ssmd_core.errors import RecordError
from ssmd_core.metrics import Metrics
from ssmd_core.records import SCALE, BookDelta, Side, Ticker, Trade
from ssmd_core.schema import (
    find_schema,
    load_schema,
    open_trade_v1,
    open_trade_v1_decoder,
)

MAX_UINT32 = (1 << 32) - 1
MAX_UINT64 = (1 << 64) - 1
VENUE_NS = 1_732_579_880 * SCALE

GOLDEN_TRADE = bytes.fromhex(
    "0000000009000000"  # one segment of nine words
    "0000000003000200"  # root: three words of data, two pointers
    "009063a4385c0b18"  # timestamp
    "000000000000e03f"  # price
    "0a00000000000000"  # size, side
    "050000005a000000"  # ticker: eleven bytes behind the pointers
    "090000000a000000"  # tradeId: one byte, the NUL
    "4b58544553542d3132330000000000000000000000000000"
)
GOLDEN_TICKER = bytes.fromhex(
    "000000000a000000"
    "0000000006000100"
    "009063a4385c0b18"
    "cdccccccccccdc3f"  # bidPrice
    "713d0ad7a370dd3f"  # askPrice
    "cdccccccccccdc3f"  # lastPrice
    "e803000000000000"  # volume
    "f401000000000000"  # openInterest
    "010000005a000000"
    "4b58544553542d343536000000000000"
)


def a_trade(**changes):
    fields = {
        "ticker": "KXTEST-123",
        "venue_ns": VENUE_NS,
        "price_e9": 500_000_000,
        "size_e9": 10 * SCALE,
        "side": Side.BUY,
    }
    return Trade(**fields | changes)


def a_ticker(**changes):
    fields = {
        "ticker": "KXTEST-456",
        "venue_ns": VENUE_NS,
        "bid_e9": 450_000_000,
        "ask_e9": 460_000_000,
        "last_e9": 450_000_000,
        "volume_e9": 1000 * SCALE,
        "open_interest_e9": 500 * SCALE,
    }
    return Ticker(**fields | changes)


@pytest.fixture(scope="module")
def decoder():
    return open_trade_v1_decoder()


@pytest.fixture(scope="module")
def schema():
    return load_schema(find_schema("trade.capnp"))


@pytest.fixture(scope="module")
def codec(metrics):
    return open_trade_v1(metrics)


@pytest.fixture(scope="module")
def metrics():
    return Metrics()


@pytest.fixture(scope="module")
def send(codec, metrics, decoder):
    """Return what a consumer reads, and how much was rounded and saturated for it."""

    def encode_and_decode(record):
        rounded, saturated = metrics.rounded, metrics.saturated
        fields = decoder.decode(record.kind, codec.encode(record))
        return fields, (metrics.rounded - rounded, metrics.saturated - saturated)

    return encode_and_decode


# ── bytes ────────────────────────────────────────────────────────────────────────


def test_a_trade_has_the_bytes_of_the_reference(codec):
    assert codec.encode(a_trade()) == GOLDEN_TRADE


def test_a_ticker_has_the_bytes_of_the_reference(codec):
    assert codec.encode(a_ticker()) == GOLDEN_TICKER


names = st.text() | st.text(st.characters(codec="ascii"), max_size=60)
prices = st.integers(0, SCALE) | st.integers(-(10**30), 10**30)
times = st.integers(1, MAX_UINT64)


@given(
    record=st.builds(
        Trade,
        ticker=names,
        venue_ns=times,
        price_e9=prices,
        size_e9=st.integers(0, MAX_UINT32).map(SCALE.__mul__),
        side=st.sampled_from(Side),
        trade_id=names | st.uuids().map(str),
    )
)
def test_a_trade_is_packed_as_pycapnp_packs_it(codec, schema, assign, record):
    expected = assign(
        schema.Trade,
        {
            "timestamp": record.venue_ns,
            "ticker": record.ticker,
            "price": float(Fraction(record.price_e9, SCALE)),
            "size": record.size_e9 // SCALE,
            "side": record.side.value,
            "tradeId": record.trade_id,
        },
    )
    assert codec.encode(record) == expected


@given(
    record=st.builds(
        Ticker,
        ticker=names,
        venue_ns=times,
        bid_e9=st.none() | prices,
        ask_e9=st.none() | prices,
        last_e9=st.none() | prices,
        volume_e9=st.integers(0, MAX_UINT64).map(SCALE.__mul__),
        open_interest_e9=st.integers(0, MAX_UINT64).map(SCALE.__mul__),
    )
)
def test_a_ticker_is_packed_as_pycapnp_packs_it(codec, schema, assign, record):
    expected = assign(
        schema.Ticker,
        {
            "timestamp": record.venue_ns,
            "ticker": record.ticker,
            "bidPrice": float(Fraction(record.bid_e9 or 0, SCALE)),
            "askPrice": float(Fraction(record.ask_e9 or 0, SCALE)),
            "lastPrice": float(Fraction(record.last_e9 or 0, SCALE)),
            "volume": record.volume_e9 // SCALE,
            "openInterest": record.open_interest_e9 // SCALE,
        },
    )
    assert codec.encode(record) == expected


# ── what a consumer reads ────────────────────────────────────────────────────────


def test_a_trade_is_read_back(send):
    fields, _ = send(a_trade(side=Side.SELL, trade_id="id-1"))
    assert fields == {
        "timestamp": VENUE_NS,
        "ticker": "KXTEST-123",
        "price": 0.5,
        "size": 10,
        "side": "sell",
        "tradeId": "id-1",
    }


def test_a_quote_that_the_venue_did_not_give_is_read_as_zero(send):
    fields, _ = send(a_ticker(bid_e9=None, ask_e9=None, last_e9=None))
    assert (fields["bidPrice"], fields["askPrice"], fields["lastPrice"]) == (0.0, 0.0, 0.0)


# ── rounding and saturation ──────────────────────────────────────────────────────


@given(size_e9=st.integers(0, (1 << 33) * SCALE) | st.integers(0, 20).map((SCALE // 2).__mul__))
@example(size_e9=MAX_UINT32 * SCALE)
@example(size_e9=MAX_UINT32 * SCALE + SCALE // 2)
@example(size_e9=(MAX_UINT32 + 1) * SCALE)
def test_a_size_is_rounded_half_to_even_saturates_and_is_counted(send, size_e9):
    nearest = round(Fraction(size_e9, SCALE))
    fields, counted = send(a_trade(size_e9=size_e9))
    assert fields["size"] == min(nearest, MAX_UINT32)
    assert counted == (size_e9 % SCALE != 0, nearest > MAX_UINT32)


@given(
    volume_e9=st.integers(0, (1 << 65) * SCALE) | st.integers(0, 20).map((SCALE // 2).__mul__),
    interest_e9=st.integers(0, (1 << 65) * SCALE),
)
@example(volume_e9=MAX_UINT64 * SCALE, interest_e9=(MAX_UINT64 + 1) * SCALE)
@example(volume_e9=(MAX_UINT64 + 1) * SCALE - 1, interest_e9=(MAX_UINT64 + 1) * SCALE - 1)
@example(volume_e9=SCALE // 2, interest_e9=SCALE * 3 // 2)
@example(volume_e9=SCALE * 3 // 2, interest_e9=SCALE // 2)
def test_totals_are_rounded_half_to_even_saturate_and_are_counted(send, volume_e9, interest_e9):
    amounts = (volume_e9, interest_e9)
    nearest = [round(Fraction(amount, SCALE)) for amount in amounts]
    fields, counted = send(a_ticker(volume_e9=volume_e9, open_interest_e9=interest_e9))
    assert [fields["volume"], fields["openInterest"]] == [min(n, MAX_UINT64) for n in nearest]
    assert counted == (
        sum(amount % SCALE != 0 for amount in amounts),
        sum(n > MAX_UINT64 for n in nearest),
    )


# ── refusals ─────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("record", "reason"),
    [
        (a_trade(venue_ns=0), "no venue time"),
        (a_trade(venue_ns=-1), "negative venue time"),
        (a_ticker(venue_ns=0), "no venue time"),
        (a_ticker(venue_ns=1 << 64), "Ticker.timestamp is out of range"),
        (a_trade(size_e9=-1), "negative size"),
        (a_ticker(volume_e9=-SCALE), "negative volume"),
        (a_ticker(open_interest_e9=-1), "negative open interest"),
        (a_trade(ticker="KX\ud800"), "Trade.ticker is not valid Unicode"),
        (a_trade(trade_id="\udfff"), "Trade.tradeId is not valid Unicode"),
        (a_ticker(ticker="KX\ud800"), "Ticker.ticker is not valid Unicode"),
        (a_trade(price_e9=10**400), "not a trade record as trade:v1 knows it"),
        (BookDelta("KX", VENUE_NS, Side.BUY, 1, 1), "trade:v1 has no struct for orderbook"),
    ],
    ids=lambda value: value if isinstance(value, str) else type(value).__name__,
)
def test_a_record_that_cannot_be_carried_is_refused_with_a_reason(codec, record, reason):
    with pytest.raises(RecordError) as refusal:
        codec.encode(record)
    assert str(refusal.value) == reason


def test_the_codec_says_what_it_is(codec):
    assert (codec.label, codec.kinds) == ("trade:v1", frozenset({"trade", "ticker"}))
