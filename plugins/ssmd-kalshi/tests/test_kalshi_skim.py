"""What is said of frames whose records nobody wants: all but the records."""

import json

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ssmd_core.feed import FrameKind
from ssmd_core.feed.validity import is_json, is_utf8
from ssmd_kalshi.feed import KalshiFeed

FEED = KalshiFeed.offline()


def frame(kind, msg, **envelope):
    return json.dumps({"type": kind, **envelope, "msg": msg}).encode()


def ticker(sid=2, **fields):
    return frame("ticker", {"market_ticker": "KX-A", "yes_bid_dollars": "0.4", **fields}, sid=sid)


TRADE = {
    "market_ticker": "KX-A",
    "yes_price_dollars": "0.8000",
    "count_fp": "2.00",
    "taker_side": "no",
    "ts": 1795000000,
}
DELTA = {"market_ticker": "KX-A", "price_dollars": "0.1", "delta_fp": "-3.00", "side": "yes"}


def trade(seq, **fields):
    return frame("trade", TRADE | fields, sid=3, seq=seq)


def delta(seq, **fields):
    return frame("orderbook_delta", DELTA | fields, sid=1, seq=seq)


def skim(frames):
    return FEED.skim_batch(frames, None)


def said_of(frame):
    """Return what skimming a frame says, and what parsing does."""
    (_, said, _) = skim([ticker(), frame, ticker()])
    return said, FEED.parse_batch([frame], None)[0]


def without_records(said):
    return msgspec.structs.replace(said, records=())


def test_nothing_but_the_records_of_what_comes_all_the_time_is_left_out():
    ok = b'{"type":"ok","id":1,"sid":2,"seq":1}'
    frames = [ok, trade(1), trade(2), ticker(), delta(1), trade(3), ok, b"{"]
    skimmed = skim(frames)
    assert not any(said.records for said in skimmed)
    assert skimmed == list(map(without_records, FEED.parse_batch(frames, None)))


def test_every_frame_keeps_its_place():
    frames = [delta(seq) for seq in range(1, 50)]
    assert [said.first_seq for said in skim(frames)] == list(range(1, 50))


def test_tickers_of_two_channels_are_told_apart():
    frames = [ticker(sid) for sid in (1, 2, None, 1, 2, None, 1)]
    assert [said.sid for said in skim(frames)] == [1, 2, None, 1, 2, None, 1]


def test_tickers_that_are_numbered_one_day_keep_their_numbers():
    numbered = [frame("ticker", {"market_ticker": "KX-A"}, sid=2, seq=seq) for seq in (7, 8)]
    skimmed = skim([ticker(), ticker(), *numbered, ticker(), ticker()])
    assert [said.last_seq for said in skimmed] == [None, None, 7, 8, None, None]


@pytest.mark.parametrize("msg", [[], "text", 5, None])
@pytest.mark.parametrize("kind", ["ticker", "trade", "orderbook_delta"])
def test_a_body_that_is_none_is_the_same_fault_as_when_parsed(kind, msg):
    said, parsed = said_of(frame(kind, msg, sid=3, seq=9))
    assert said == parsed
    assert said.fault


@pytest.mark.parametrize(
    "data",
    [
        b'{"type":"subscribed","id":1,"msg":{"channel":"trade","sid":2}}',
        b'{"type":"unsubscribed","id":9,"sid":2,"seq":7}',
        b'{"type":"error","id":5,"sid":1,"seq":11,"msg":{"code":1.50,"msg":"no"}}',
        b'{"type":"orderbook_snapshot","id":4,"sid":1,"seq":1,"msg":{"market_ticker":"KX-A"}}',
        b'{"type":"fill","sid":7,"seq":3}',
        b'{"type":"trade","sid":"3","msg":{}}',
        b'{"type":"ticker"}',
        b"[]",
    ],
)
def test_events_and_what_is_not_known_are_told_as_when_parsed(data):
    said, parsed = said_of(data)
    assert without_records(said) == without_records(parsed)


# ── whatever comes ───────────────────────────────────────────────────────────────

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
kinds = st.sampled_from(
    [
        *("ticker", "trade", "orderbook_snapshot", "orderbook_delta", "market_lifecycle_v2"),
        *("subscribed", "unsubscribed", "ok", "error", "fill"),
    ]
)
numbers = st.none() | st.integers() | st.integers(1, 9) | json_values
bodies = (
    st.sampled_from([TRADE, DELTA, {"market_ticker": "KX-A", "yes_bid": 4}])
    | st.dictionaries(st.sampled_from(sorted(TRADE | DELTA)), json_values)
    | json_values
)
whole_frames = st.fixed_dictionaries(
    {"type": kinds}, optional={"sid": numbers, "seq": numbers, "id": numbers, "msg": bodies}
).map(lambda value: json.dumps(value).encode())


@st.composite
def damaged_frames(draw):
    data = draw(whole_frames)
    at = draw(st.integers(0, len(data)))
    return data[:at] + draw(st.binary(max_size=3)) + data[at + draw(st.integers(0, 2)) :]


def record_only(skimmed, parsed):
    """Say whether a fault is one of a record, in a frame whose envelope is right."""
    return bool(parsed.fault) and not skimmed.fault and skimmed.kind is FrameKind.DATA


@given(st.lists(whole_frames | damaged_frames() | st.binary(max_size=20), max_size=12))
def test_skimming_says_what_parsing_says_but_for_records_and_their_faults(frames):
    parsed = FEED.parse_batch(frames, None)
    skimmed = skim(frames)
    assert len(skimmed) == len(parsed)
    for said, full in zip(skimmed, parsed, strict=True):
        assert said.records in ((), full.records)
        if not record_only(said, full):
            assert without_records(said) == without_records(full)
        elif full.kind is FrameKind.DATA:
            place = without_records(msgspec.structs.replace(full, fault=""))
            assert without_records(said) == place


@given(damaged_frames())
def test_what_is_skimmed_is_json(data):
    said, _ = said_of(data)
    if is_utf8(data) and said.kind is not FrameKind.MALFORMED:
        assert is_json(data)
        json.loads(data)


@pytest.mark.parametrize(
    "value",
    [b"NaN", b"01", b"1.", b"+1", b'"\x01"', b'"\\x"', b'"\\ud800"', b"tru", b"[1,]", b'{"a"}'],
)
@pytest.mark.parametrize("key", [b"market_ticker", b"price_dollars", b"not_known"])
def test_a_field_that_is_no_json_makes_the_frame_malformed(key, value):
    said, parsed = said_of(b'{"type":"ticker","sid":1,"msg":{"' + key + b'":' + value + b"}}")
    assert said.kind is FrameKind.MALFORMED
    assert said == parsed
