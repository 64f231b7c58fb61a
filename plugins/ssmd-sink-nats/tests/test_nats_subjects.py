"""Subjects: what stands verbatim, what is encoded, and what a stream covers."""

from __future__ import annotations

import itertools
import re

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from ssmd_sink_nats.subjects import (
    Subjects,
    covers,
    decode_ticker,
    encode_ticker,
    wanted_subjects,
)

AWKWARD = st.text(alphabet=st.sampled_from(list(". *>%\t\n\x00\x7f\x85aB2E€")), max_size=8)
ANY = st.text(alphabet=st.characters(), max_size=12)


@pytest.mark.parametrize(
    ("ticker", "tail"),
    [
        ("KXBTCD-26MAR1213-T69499.99", "KXBTCD-26MAR1213-T69499.99"),
        ("A B", "A%20B"),
        ("A*", "A%2A"),
        (">", "%3E"),
        ("100%", "100%25"),
        ("A\tB\n", "A%09B%0A"),
        ("\x7f", "%7F"),
        ("\x85", "%C2%85"),
        (".A", "%2EA"),
        ("A.", "A%2E"),
        ("A..B", "A.%2EB"),
        (".", "%2E"),
        ("..A", "%2E.A"),
        ("", "%"),
        ("%", "%25"),
        ("ÆØ/:@$|", "ÆØ/:@$|"),
    ],
)
def test_a_ticker_stands_verbatim_except_for_what_is_illegal(ticker, tail):
    assert encode_ticker(ticker) == tail


@settings(deadline=None)
@given(st.one_of(AWKWARD, ANY))
@example("\ud800")
def test_a_ticker_can_be_read_back_so_no_two_share_a_subject(ticker):
    assert decode_ticker(encode_ticker(ticker)) == ticker


@settings(deadline=None)
@given(AWKWARD, AWKWARD)
def test_two_tickers_never_share_a_subject(one, other):
    subjects = Subjects("prod", "kalshi")
    same = subjects.subject("trade", one) == subjects.subject("trade", other)
    assert same == (one == other)


@settings(deadline=None)
@given(st.one_of(AWKWARD, ANY))
def test_every_tail_is_a_legal_literal_subject(ticker):
    tail = encode_ticker(ticker)
    assert all(tail.split("."))
    assert not re.search(r"[\x00-\x20\x7f-\x9f*>]", tail)
    tail.encode()


def test_only_a_status_without_ticker_has_three_tokens():
    subjects = Subjects("prod", "kalshi")
    assert subjects.subject("status", "") == "prod.kalshi.status"
    assert subjects.subject("status", "A") == "prod.kalshi.status.A"
    assert subjects.subject("trade", "") == "prod.kalshi.trade.%"


def test_no_more_tickers_are_remembered_than_allowed():
    subjects = Subjects("prod", "kalshi", limit=10)
    for number in range(1_000):
        assert subjects.subject("trade", f"T{number}") == f"prod.kalshi.trade.T{number}"
        assert len(subjects.plain_tails) <= 10


def test_what_is_wanted_is_each_kind_and_the_status():
    assert wanted_subjects("prod", "kalshi", {"trade", "ticker"}) == (
        "prod.kalshi.ticker.>",
        "prod.kalshi.trade.>",
        "prod.kalshi.status",
    )


@pytest.mark.parametrize(
    ("subjects", "wanted", "answer"),
    [
        (["prod.>"], "prod.kalshi.trade.>", True),
        (["prod.kalshi.trade.>"], "prod.kalshi.trade.>", True),
        (["prod.kalshi.trade.*"], "prod.kalshi.trade.>", False),
        (["prod.kalshi.trade.*", "prod.kalshi.trade.*.>"], "prod.kalshi.trade.>", True),
        (["prod.*.trade.>"], "prod.kalshi.trade.>", True),
        (["prod.kalshi.*.>"], "prod.kalshi.status", False),
        (["prod.kalshi.trade.A"], "prod.kalshi.trade.>", False),
        ([], "prod.kalshi.status", False),
    ],
)
def test_a_stream_covers_a_pattern_when_it_takes_all_of_it(subjects, wanted, answer):
    assert covers(subjects, wanted) is answer


def _patterns():
    tokens = st.lists(st.sampled_from(["a", "b", "*"]), min_size=0, max_size=3)
    return st.builds(lambda head, last: ".".join([*head, last]), tokens, st.sampled_from("ab*>"))


def _matches(pattern: str, subject: tuple[str, ...]) -> bool:
    tokens = pattern.split(".")
    if tokens[-1] == ">":
        head = tokens[:-1]
        return len(subject) > len(head) and all(
            p in ("*", s) for p, s in zip(head, subject, strict=False)
        )
    return len(subject) == len(tokens) and all(
        p in ("*", s) for p, s in zip(tokens, subject, strict=True)
    )


# One token that no pattern names, and one more than the longest pattern has: enough to
# stand for every subject there is.
_ALL = [s for size in range(1, 6) for s in itertools.product("abz", repeat=size)]


@settings(deadline=None)
@given(st.lists(_patterns(), max_size=4), _patterns())
def test_covering_agrees_with_trying_every_subject(subjects, wanted):
    tried = all(
        any(_matches(pattern, subject) for pattern in subjects)
        for subject in _ALL
        if _matches(wanted, subject)
    )
    assert covers(subjects, wanted) == tried
