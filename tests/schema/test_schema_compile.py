import math

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ssmd_core.errors import RecordError, SchemaError
from ssmd_core.schema import compile as compile_module
from ssmd_core.schema import compile_packer


def integers(bits, *, signed):
    low = -(1 << bits - 1) if signed else 0
    return st.integers(low, low + (1 << bits) - 1)


SCALARS = {
    "a": integers(8, signed=True),
    "b": integers(16, signed=True),
    "c": integers(32, signed=True),
    "d": integers(64, signed=True),
    "e": integers(8, signed=False),
    "f": integers(16, signed=False),
    "g": integers(32, signed=False),
    "h": integers(64, signed=False),
    "i": st.floats(),
    "j": st.floats(),
    "k": st.booleans(),
    "l": st.sampled_from(["red", "green", "blue"]),
}
FLAGS = {
    "a": st.booleans(),
    "b": st.booleans(),
    "gap": integers(16, signed=False),
    "c": st.booleans(),
    "d": st.booleans(),
    "e": st.booleans(),
    "f": st.booleans(),
    "g": st.booleans(),
    "h": st.booleans(),
    "i": st.booleans(),
    "j": integers(8, signed=False),
}
TEXT = st.text() | st.integers(0, 40).map(lambda size: "x" * size)
DATA = st.binary() | st.integers(0, 40).map(bytes)
TEXTS = {"first": TEXT, "number": st.integers(0, 255), "blob": DATA, "last": TEXT, "class": TEXT}
EMPTY_SCALARS = {
    "a": 0,
    "b": 0,
    "c": 0,
    "d": 0,
    "e": 0,
    "f": 0,
    "g": 0,
    "h": 0,
    "i": 0.0,
    "j": 0.0,
    "k": False,
    "l": "red",
}
EMPTY_TEXTS = {"first": "", "number": 0, "blob": b"", "last": "", "class": ""}


def rows(strategies):
    """Values of every field in ordinal order, which ``st.fixed_dictionaries`` shuffles."""
    return st.tuples(*strategies.values()).map(lambda row: dict(zip(strategies, row, strict=True)))


@pytest.fixture(scope="module")
def packers(everything):
    names = ("Scalars", "Defaults", "Flags", "Texts", "Numbers")
    return {name: compile_packer(getattr(everything, name)) for name in names}


@given(fields=rows(SCALARS))
def test_every_scalar_type_is_packed_as_pycapnp_packs_it(everything, packers, assign, fields):
    assert packers["Scalars"](tuple(fields.values())) == assign(everything.Scalars, fields)


@given(fields=rows(SCALARS | {"m": TEXT}))
def test_default_values_are_packed_as_pycapnp_packs_them(everything, packers, assign, fields):
    assert packers["Defaults"](tuple(fields.values())) == assign(everything.Defaults, fields)


def test_a_message_of_default_values_has_an_empty_data_section(everything, packers):
    defaults = everything.Defaults.new_message().to_dict() | {"m": ""}
    message = packers["Defaults"](tuple(defaults.values()))
    data_bytes = 8 * everything.Defaults.schema.node.struct.dataWordCount
    assert message[16 : 16 + data_bytes] == bytes(data_bytes)


@given(fields=rows(FLAGS))
def test_booleans_share_bytes_as_pycapnp_shares_them(everything, packers, assign, fields):
    assert packers["Flags"](tuple(fields.values())) == assign(everything.Flags, fields)


@given(fields=rows(TEXTS))
@example(fields=EMPTY_TEXTS)
@example(fields=EMPTY_TEXTS | {"first": "nul\0within", "blob": b"\0", "last": "é€😀"})
def test_texts_stand_in_the_order_of_ordinals(everything, packers, assign, fields):
    assert packers["Texts"](tuple(fields.values())) == assign(everything.Texts, fields)


@pytest.mark.parametrize("size", [7, 8, 8119, 8120, 8127, 8128, 8135, 8136, 20_000])
def test_long_texts_are_packed_as_pycapnp_packs_them_whatever_segments_it_takes(
    everything, packers, assign, size
):
    fields = EMPTY_TEXTS | {"first": "a", "last": "x" * size, "class": "tail"}
    assert packers["Texts"](tuple(fields.values())) == assign(everything.Texts, fields)


def test_texts_of_however_many_lengths_take_no_more_memory(everything, assign, monkeypatch):
    monkeypatch.setattr(compile_module, "_MAX_SHAPES", 3)
    pack = compile_packer(everything.Texts)
    for size in [*range(12), *range(12)]:
        fields = EMPTY_TEXTS | {"last": "x" * size}
        assert pack(tuple(fields.values())) == assign(everything.Texts, fields)
        assert len(pack.__globals__["shapes"]) <= 3


def test_what_fits_the_first_segment_is_not_left_to_pycapnp(packers, monkeypatch):
    monkeypatch.setattr(compile_module, "pack_by_pycapnp", pytest.fail)
    fields = EMPTY_TEXTS | {"last": "x" * 8127}
    assert len(packers["Texts"](tuple(fields.values()))) == 8 * 1025  # framing included


def test_a_struct_without_texts_is_packed_as_pycapnp_packs_it(everything, packers, assign):
    fields = {"a": 1, "b": 2.5, "c": 3}
    assert packers["Numbers"](tuple(fields.values())) == assign(everything.Numbers, fields)


def test_a_float32_too_large_becomes_infinite(everything, packers):
    fields = EMPTY_SCALARS | {"i": -1e300}
    with everything.Scalars.from_bytes(packers["Scalars"](tuple(fields.values()))) as read:
        assert read.i == -math.inf


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({"a": 128}, "Scalars.a is out of range"),
        ({"e": -1}, "Scalars.e is out of range"),
        ({"h": 1 << 64}, "Scalars.h is out of range"),
        ({"c": 1.0}, "Scalars.c is not a number of its type"),
        ({"d": None}, "Scalars.d is not a number of its type"),
        ({"i": "1.5"}, "Scalars.i is not a number of its type"),
        ({"j": 10**400}, "Scalars.j is out of range"),
        ({"k": None}, "Scalars.k is neither true nor false"),
        ({"l": "mauve"}, "Scalars.l is not in its closed set"),
        ({"l": []}, "Scalars.l is not in its closed set"),
    ],
)
def test_a_scalar_that_does_not_fit_is_refused_by_name(packers, values, reason):
    fields = EMPTY_SCALARS | values
    with pytest.raises(RecordError) as refusal:
        packers["Scalars"](tuple(fields.values()))
    assert str(refusal.value) == reason


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({"first": "\ud800"}, "Texts.first is not valid Unicode"),
        ({"first": "\ud800" + "x" * 9000}, "Texts.first is not valid Unicode"),
        ({"first": b"bytes"}, "Texts.first is not text"),
        ({"last": None}, "Texts.last is not text"),
        ({"blob": "text"}, "Texts.blob is not bytes"),
        ({"last": "x" * 9000, "number": 256}, "Texts.number is out of range"),
    ],
)
def test_a_text_that_does_not_fit_is_refused_by_name(packers, values, reason):
    fields = EMPTY_TEXTS | values
    with pytest.raises(RecordError) as refusal:
        packers["Texts"](tuple(fields.values()))
    assert str(refusal.value) == reason


@pytest.mark.parametrize(
    ("body", "named"),
    [
        ("struct Odd { ok @0 :UInt8; many @1 :List(UInt8); }", "Odd.many: a field of type list"),
        ("struct Odd { part @0 :Part; } struct Part {}", "Odd.part: a field of type struct"),
        ("struct Odd { any @0 :AnyPointer; }", "Odd.any: a field of type anyPointer"),
        ("struct Odd { face @0 :Face; } interface Face {}", "Odd.face: a field of type interface"),
        ("struct Odd { nothing @0 :Void; }", "Odd.nothing: a field of type void"),
        ("struct Odd { sub :group { x @0 :UInt8; } }", "Odd.sub: a group"),
        ("struct Odd { union { x @0 :UInt8; y @1 :UInt8; } }", "Odd: a struct with a union"),
        ("struct Odd {}", "Odd: a struct without fields"),
    ],
)
def test_what_cannot_be_packed_is_refused_with_struct_and_field(load_text, body, named):
    schema = load_text(body)
    with pytest.raises(SchemaError, match=named):
        compile_packer(schema.Odd)
