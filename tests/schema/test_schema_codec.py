from pathlib import Path
from typing import ClassVar

import pytest

from ssmd_core.errors import RecordError, SchemaError
from ssmd_core.metrics import Metrics
from ssmd_core.records import Record, Side, Trade
from ssmd_core.schema import (
    Decoder,
    Wire,
    codec,
    compile_packer,
    find_schema,
    load_schema,
    open_codec,
    open_trade_v1,
    open_trade_v1_decoder,
)
from ssmd_core.schema.oracle import check_packer

A_TRADE = Trade("KX", 1, 500_000_000, 3_000_000_000, Side.SELL, "id")


class Funding(Record, frozen=True):
    """A stranger's kind."""

    kind: ClassVar[str] = "funding"

    rate: float
    settled: bool


@pytest.fixture(scope="module")
def funding_path(tmp_path_factory):
    path = tmp_path_factory.mktemp("stranger") / "funding.capnp"
    path.write_text(
        "@0xc0ffee0000020001;\n"
        "struct Funding { at @0 :UInt64; market @1 :Text; rate @2 :Float64; settled @3 :Bool; }\n"
    )
    return path


def funding_values(record, ts):
    return record.venue_ns, record.ticker, record.rate, record.settled


def test_a_stranger_writes_a_schema_and_one_mapping(funding_path):
    encoder = open_codec(
        "funding:v1", funding_path, {"funding": Wire(struct="Funding", values=funding_values)}
    )
    payload = encoder.encode(Funding("BTC-PERP", 42, 0.0001, settled=True))
    decoder = Decoder("funding:v1", funding_path, {"funding": "Funding"})
    assert decoder.decode("funding", payload) == {
        "at": 42,
        "market": "BTC-PERP",
        "rate": 0.0001,
        "settled": True,
    }


@pytest.mark.parametrize(
    "values",
    [
        lambda record, ts: (record.nothing_such,),
        lambda record, ts: (record.venue_ns, record.ticker),
        lambda record, ts: (record.venue_ns, record.ticker, 1 / 0, True),
        lambda record, ts: (record.venue_ns, record.ticker, float("x"), True),
    ],
    ids=["wrong attribute", "too few values", "arithmetic", "conversion"],
)
def test_a_mapping_that_breaks_costs_the_record_and_nothing_else(funding_path, values):
    encoder = open_codec(
        "funding:v1", funding_path, {"funding": Wire(struct="Funding", values=values)}
    )
    with pytest.raises(RecordError, match="not a funding record as funding:v1 knows it"):
        encoder.encode(Funding("BTC-PERP", 42, 0.0001, settled=True))


def test_a_wire_for_a_struct_that_the_text_lacks_is_refused(funding_path):
    with pytest.raises(SchemaError, match=r"funding\.capnp: no struct Quote"):
        open_codec("funding:v1", funding_path, {"x": Wire(struct="Quote", values=funding_values)})


def test_a_packer_that_pycapnp_disagrees_with_is_refused(monkeypatch):
    trade = load_schema(find_schema("trade.capnp")).Trade
    right = compile_packer(trade)

    def wrong(values):
        message = bytearray(right(values))
        message[-1] ^= 1
        return bytes(message)

    check_packer(trade, right)
    with pytest.raises(SchemaError, match="Trade: the packer and pycapnp disagree"):
        check_packer(trade, wrong)
    monkeypatch.setattr(codec, "compile_packer", lambda _struct: wrong)
    with pytest.raises(SchemaError, match="Trade: the packer and pycapnp disagree"):
        open_trade_v1(Metrics())


def test_the_check_sees_every_field(everything):
    # A packer that mixes up any one field must not pass.
    right = compile_packer(everything.Defaults)
    constants = (0, 0, 0, 0, 0, 0, 0, 0, 0.0, 0.0, False, "red", "")
    for position, constant in enumerate(constants):

        def deaf(values, position=position, constant=constant):
            return right((*values[:position], constant, *values[position + 1 :]))

        with pytest.raises(SchemaError, match="Defaults"):
            check_packer(everything.Defaults, deaf)


# ── evolution ────────────────────────────────────────────────────────────────────


APPENDED = """@0xc0ffee0000020002;
enum Side { buy @0; sell @1; }
struct Trade {
  timestamp @0 :UInt64;
  ticker @1 :Text;
  price @2 :Float64;
  size @3 :UInt32;
  side @4 :Side;
  tradeId @5 :Text;
  priceE9 @6 :Int64;
  note @7 :Text;
}
"""


@pytest.fixture(scope="module")
def appended_path(tmp_path_factory):
    path = Path(tmp_path_factory.mktemp("appended")) / "trade_appended.capnp"
    path.write_text(APPENDED)
    return path


def test_a_reader_of_v1_reads_a_schema_with_appended_fields(appended_path):
    pack = compile_packer(load_schema(appended_path).Trade)
    payload = pack((1, "KX", 0.5, 3, "sell", "id", 500_000_000, "later"))
    assert open_trade_v1_decoder().decode("trade", payload) == {
        "timestamp": 1,
        "ticker": "KX",
        "price": 0.5,
        "size": 3,
        "side": "sell",
        "tradeId": "id",
    }


def test_a_reader_of_appended_fields_reads_v1_with_their_defaults(appended_path):
    payload = open_trade_v1(Metrics()).encode(A_TRADE)
    fields = Decoder("trade:next", appended_path, {"trade": "Trade"}).decode("trade", payload)
    assert fields["tradeId"] == "id"
    assert fields["priceE9"] == 0


# ── decoding what is not ours ────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"odd length",
        bytes.fromhex("ffffffffffffffff"),
        bytes.fromhex("00000000ff000000") + bytes(8),
        open_trade_v1(Metrics()).encode(A_TRADE)[:-24],
    ],
    ids=["empty", "odd", "absurd segments", "segment cut", "text cut"],
)
def test_bytes_that_are_no_message_are_refused(payload):
    with pytest.raises(SchemaError, match="not a trade message of trade:v1"):
        open_trade_v1_decoder().decode("trade", payload)


def test_an_enumerant_that_the_reader_does_not_know_is_refused():
    payload = bytearray(open_trade_v1(Metrics()).encode(A_TRADE))
    payload[36] = 9
    with pytest.raises(SchemaError, match="not a trade message of trade:v1"):
        open_trade_v1_decoder().decode("trade", bytes(payload))


def test_a_kind_without_a_struct_is_refused():
    with pytest.raises(SchemaError, match="trade:v1 has no struct for orderbook"):
        open_trade_v1_decoder().decode("orderbook", b"")
