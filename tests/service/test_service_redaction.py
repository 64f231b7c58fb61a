from __future__ import annotations

import enum
from decimal import Decimal
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ssmd_core.service.redaction import redact, redact_text

# Made of parts, so that no scanner of repositories takes them for real ones.
PEM = "-----BEGIN RSA " + "PRIVATE KEY-----\nMIIEow\nabc=\n-----END RSA " + "PRIVATE KEY-----"
NKEY = "SU" + "A" * 56
JWT = "eyJ" + "hbGciOiJIUzI1" + ".eyJzdWIiOiIx.sig_-x"
CREDS = f"-----BEGIN USER NKEY SEED-----\n{NKEY}\n------END USER NKEY SEED------"


@pytest.mark.parametrize(
    "name",
    [
        "password",
        "PASSWORD",
        "db_passwd",
        "token",
        "auth-token",
        "KALSHI_API_KEY",
        "KALSHI-ACCESS-KEY",
        "KALSHI-ACCESS-SIGNATURE",
        "private_key",
        "privateKey",
        "Authorization",
        "client_secret",
        "nkey_seed",
        "credentials",
        "cookie",
    ],
)
@pytest.mark.parametrize("value", ["hunter2", b"hunter2", 1234, ["hunter2"], {"value": "hunter2"}])
def test_whatever_stands_under_a_secret_name_is_masked(name, value):
    assert redact({name: value}) == {name: "***"}


@pytest.mark.parametrize(
    "name", ["private_key_path", "token_file", "markets", "key", "path", "url"]
)
def test_a_harmless_name_keeps_its_value(name):
    assert redact({name: "kept"}) == {name: "kept"}


def test_whether_a_secret_is_set_may_be_told():
    assert redact({"token": None, "password": True}) == {"token": None, "password": True}


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("nats://user:pass@bus:4222", "nats://***@bus:4222"),
        ("nats://token@bus:4222", "nats://***@bus:4222"),
        ("s3://key:se@cret@host/a@b", "s3://***@host/a@b"),
        ("nats://a:b@one,nats://c:d@two", "nats://***@one,nats://***@two"),
        ("no credentials in wss://host/path?x=1", "no credentials in wss://host/path?x=1"),
        (f"key is {PEM} and more", "key is *** and more"),
        (repr(PEM), "'***'"),
        (PEM[:40], "***"),
        (CREDS, "***"),
        (f"seed {NKEY}!", "seed ***!"),
        (f"jwt {JWT}.", "jwt ***."),
        ("Authorization: Bearer abcdefgh12345", "Authorization: Bearer ***"),
        ("?token=abc&page=2", "?token=***&page=2"),
        ("Settings(password='hunter2', url='x')", "Settings(password=***, url='x')"),
        ('{"api_key": "hunter2", "n": 1}', '{"api_key": ***, "n": 1}'),
        ("SSMD_TRANSPORT__PASSWORD=hunter2", "SSMD_TRANSPORT__PASSWORD=***"),
        ("env.yaml:3: transport.token: unknown key", "env.yaml:3: transport.token: unknown key"),
    ],
)
def test_a_secret_inside_a_text_is_masked_and_the_rest_stays(text, masked):
    assert redact_text(text) == masked


def test_secrets_deep_inside_are_found():
    found = redact({"a": [{"b": ({"password": "x"}, "nats://u:p@h")}]})
    assert found == {"a": [{"b": [{"password": "***"}, "nats://***@h"]}]}


def test_what_json_does_not_know_becomes_text():
    class Color(enum.Enum):
        RED = 1

    class Broken:
        def __str__(self):
            raise RuntimeError

    shown = redact({"p": Path("/x"), "d": Decimal("1.50"), "e": Color.RED, "o": Broken()})
    assert shown == {"p": "/x", "d": "1.50", "e": "Color.RED", "o": "<Broken>"}


def test_a_long_text_is_cut_and_says_how_long_it_was():
    text = redact_text("a" * 1_000_000)
    assert len(text) < 17_000
    assert text.endswith("… (1000000 characters)")


def test_a_secret_at_the_cut_is_not_shown_in_part():
    text = "a" * (16_384 - 20) + " nats://user:hunter2@host" + "b" * 100
    assert "hunter2" not in redact_text(text)


def test_a_structure_without_end_ends():
    loop: dict = {}
    loop["loop"] = loop
    assert "loop" in redact(loop)


@pytest.mark.parametrize(
    "unit",
    ["a", "a.", "-", "eyJ", "eyJ-", "token", "://", "@", "-----BEGIN A-----", "'", "token='"],
)
def test_no_text_makes_the_patterns_run_away(unit):
    # A pattern that backtracks needs hours for this; the suite's time limit is the assertion.
    assert redact_text(unit * 50_000)


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(st.characters())
    | st.binary()
    | st.dates(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


@given(JSON)
def test_every_redacted_value_can_be_written_as_json(value):
    msgspec.json.encode(redact(value))


@given(st.text(st.characters()), st.text(st.characters()))
def test_a_password_in_a_url_never_comes_through(before, after):
    text = f"{before} nats://user:hunter2@host {after}"
    assert "hunter2" not in redact_text(text)
