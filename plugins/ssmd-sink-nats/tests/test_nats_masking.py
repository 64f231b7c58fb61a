"""Secrets in what somebody else wrote: whole, cut off, or as JSON."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ssmd_sink_nats.masking import Mask

SECRET = 'Tr0ub4dor"&3-correct-horse'


@pytest.mark.parametrize(
    "echo", [SECRET, SECRET[:9], SECRET[7:], SECRET[4:15], SECRET.replace('"', r"\"")]
)
def test_a_secret_and_its_pieces_are_hidden(echo):
    assert Mask([SECRET])(f"parse error at '{echo}'") == "parse error at '***'"


@given(st.text(min_size=6, max_size=40), st.data())
def test_no_run_of_six_characters_gets_through(secret, data):
    start = data.draw(st.integers(0, len(secret) - 6))
    end = data.draw(st.integers(start + 6, len(secret)))
    before, after = data.draw(st.text(max_size=20)), data.draw(st.text(max_size=20))
    shown = Mask([secret])(before + secret[start:end] + after)
    assert secret[start:end] not in shown.replace("***", "\N{NULL}")


def test_a_short_secret_is_hidden_where_it_stands_alone():
    assert Mask(["pass"])("no pass for passengers") == "no *** for passengers"


def test_without_secrets_a_text_stays_and_a_long_one_is_cut():
    assert Mask(["", ""])("as it is") == "as it is"
    assert len(Mask([SECRET])("x" * 10_000)) == 513


def test_its_repr_shows_nothing():
    assert SECRET not in repr(Mask([SECRET]))
