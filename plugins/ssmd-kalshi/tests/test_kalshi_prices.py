"""Numbers: exact whatever form they come in, refused where a record cannot carry them."""

from contextlib import suppress
from decimal import Decimal, localcontext

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import UNSET

from ssmd_core.errors import ParseError
from ssmd_kalshi.prices import CENTS, COUNTS, DOLLARS, NumberCache, hundredths, scaled


def exact(text: str, places: int) -> Decimal:
    with localcontext() as context:
        context.prec = 80
        return Decimal(text).scaleb(places)


decimals = st.builds(
    lambda sign, whole, fraction: f"{sign}{whole}{'.' + fraction if fraction else ''}",
    st.sampled_from(["", "-"]),
    (st.integers(0, 10**18 - 1) | st.integers(0, 10**40 - 1)).map(str),
    st.text("0123456789", max_size=9),
)


@given(decimals)
def test_a_decimal_text_is_worth_what_decimal_says(text):
    assert scaled(text) == exact(text, 9)


@given(decimals, st.integers(0, 12))
def test_trailing_zeros_beyond_nine_decimals_change_nothing(text, zeros):
    longer = f"{text if '.' in text else text + '.'}{'0' * zeros}"
    assert scaled(longer) == scaled(text)


@given(decimals)
def test_a_json_number_is_worth_the_same_as_its_text(text):
    assert scaled(Decimal(text)) == scaled(text)


@given(st.integers(-(10**40) + 1, 10**40 - 1), st.sampled_from([7, 9]))
def test_an_integer_is_scaled_by_its_unit(value, places):
    assert scaled(value, places) == value * 10**places


@given(st.text() | st.integers() | st.booleans() | st.decimals() | st.binary())
def test_anything_else_is_refused_with_a_parse_error(value):
    with suppress(ParseError):
        assert isinstance(scaled(value), int)


@pytest.mark.parametrize(
    "value",
    [
        *("abc", "1e5", "1_0", " 1", "1 ", "+1", ".5", "-", ".", "--1", "$1", "0x1", "1,5"),
        *("\u0661", "\u0661.5", "NaN", "Infinity", "9" * 41, "0.1234567891", True, False),
        *(
            10**40,
            -(10**40),
            Decimal("1e40"),
            Decimal("1e999999999"),
            Decimal("1e-999999999"),
            Decimal("NaN"),
            0.5,
            b"1",
            [],
        ),
    ],
)
def test_what_is_no_number_that_a_record_carries_is_refused(value):
    with pytest.raises(ParseError):
        scaled(value)


@pytest.mark.parametrize("value", [10**40 - 1, "9" * 40, Decimal("9" * 40)])
def test_numbers_beyond_any_wire_form_are_kept_exactly(value):
    assert scaled(value) == (10**40 - 1) * 10**9


@given(st.from_regex(r"[0-9]{1,25}\.[0-9]{2}", fullmatch=True))
def test_a_text_with_two_decimals_is_worth_the_same_read_the_short_way(text):
    assert hundredths(text) == scaled(text)


@given(decimals | st.text("0123456789.-_e ") | st.text() | st.integers() | st.none() | st.binary())
def test_the_short_way_reads_nothing_that_the_exact_one_reads_differently(value):
    number = hundredths(value)
    assert number is None or number == scaled(value)


@pytest.mark.parametrize(
    "value",
    [
        *(".50", "1.2.34", "..50", "1.5", "1.234", "150", "-1.50", "+1.50", "1_0.00", " 1.50"),
        *("1.e5", "1.5 ", "\u0661.50", "1.\u0661\u0661", "0" * 40 + ".50", "", None, 150, b"1.50"),
    ],
)
def test_the_short_way_leaves_every_other_form_alone(value):
    assert hundredths(value) is None


def test_a_message_shows_only_the_beginning_of_a_long_text():
    with pytest.raises(ParseError) as refused:
        scaled("x" * 10_000)
    assert len(str(refused.value)) < 200


def test_the_caches_know_their_units():
    assert DOLLARS["0.0001"] == 100_000
    assert DOLLARS["1"] == 1_000_000_000
    assert COUNTS["0.01"] == 10_000_000
    assert CENTS[45] == 450_000_000
    assert CENTS["45"] == 450_000_000
    assert CENTS[Decimal("45.5")] == 455_000_000


@pytest.mark.parametrize("value", [None, UNSET, ""])
def test_what_is_left_out_is_none(value):
    cache = NumberCache(9)
    assert cache[value] is None
    assert cache[value] is None


def test_equal_keys_of_other_types_are_read_for_themselves():
    cache = NumberCache(9)
    assert cache["1"] == cache[1] == cache[Decimal(1)] == 1_000_000_000
    with pytest.raises(ParseError):
        cache[True]


def test_the_cache_is_bounded():
    cache = NumberCache(9)
    for number in range(100_000):
        assert cache[f"{number}.00"] == number * 10**9
    assert len(cache) <= 10_000
    assert cache[""] is None


def test_a_long_text_is_read_and_not_kept():
    cache = NumberCache(9)
    text = "0.5" + "0" * 1000
    assert cache[text] == 500_000_000
    assert text not in cache
