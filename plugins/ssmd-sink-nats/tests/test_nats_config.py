"""The section of the environment file: what is taken, what is refused, what never shows."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from ssmd_sink_nats.config import NatsConfig, Server


def load(**section) -> NatsConfig:
    return NatsConfig.model_validate({"url": "nats://h"} | section)


def refusal(**section) -> str:
    with pytest.raises(ValidationError) as caught:
        load(**section)
    return str(caught.value)


@pytest.mark.parametrize(
    ("url", "servers"),
    [
        ("nats://h", [Server("h")]),
        ("h:4333", [Server("h", 4333)]),
        ("tls://h:1", [Server("h", 1, tls=True)]),
        ("nats://a,nats://b:5", [Server("a"), Server("b", 5)]),
        (["nats://a", "nats://[::1]:9/"], [Server("a"), Server("::1", 9)]),
    ],
)
def test_a_url_is_one_address_or_several(url, servers):
    config = load(url=url)
    assert list(config.servers) == servers
    assert NatsConfig.model_validate(config.model_dump()).servers == config.servers


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("ws://h", "ws:// is not supported; use nats:// or tls://"),
        ("http://h", "http:// is not supported"),
        ("nats://h:99999", "the port must be a number"),
        ("nats://", "must be nats://host"),
        ("nats://h/path", "nothing may follow"),
        ([], "at least 1 item"),
        ("", "at least 1 item"),
        (7, "url"),
    ],
)
def test_an_address_that_cannot_work_is_refused_with_what_is_allowed(url, words):
    assert words in refusal(url=url)


def test_a_url_is_required():
    with pytest.raises(ValidationError, match="url"):
        NatsConfig.model_validate({})


def test_credentials_in_the_url_are_taken_out_of_it():
    config = load(url=["nats://me:p%40ss@a", "nats://me:p%40ss@b"])
    assert config.url == ("nats://a:4222", "nats://b:4222")
    assert config.user == "me"
    assert config.password.get_secret_value() == "p@ss"
    assert load(url="nats://tok@h").token.get_secret_value() == "tok"


@pytest.mark.parametrize(
    "section",
    [
        {"url": "nats://me:hunter2@h"},
        {"url": "nats://h", "user": "me", "password": "hunter2"},
        {"url": "nats://h", "token": "hunter2"},
    ],
)
def test_a_secret_shows_in_no_repr(section):
    config = NatsConfig.model_validate(section)
    assert "hunter2" not in f"{config!r} {config} {config.model_dump_json()}"


@pytest.mark.parametrize(
    "section",
    [
        {"url": "ws://me:hunter2@h"},
        {"url": "nats://me:hunter2@h:port"},
        {"url": "nats://me:hunter2@h/x"},
        {"url": ["nats://me:hunter2@a", "nats://me:hunter3@b"]},
        {"url": "nats://me:hunter2@h", "user": "you"},
        {"url": "nats://h", "password": "hunter2"},
        {"url": "nats://h", "token": ["hunter2"]},
        {"url": "nats://me:hunter2@h", "windw": 1},
    ],
)
def test_a_secret_shows_in_no_error(section):
    with pytest.raises(ValidationError) as caught:
        NatsConfig.model_validate(section)
    assert "hunter" not in str(caught.value)


def test_there_is_one_way_to_log_in():
    assert "log in one way only" in refusal(token="t", credentials="/c")
    assert "log in one way only" in refusal(user="u", password="p", nkey_seed_path="/n")
    assert "user is given without password" in refusal(user="u")
    assert "password is given without user" in refusal(password_file="/p")
    assert "keep one" in refusal(user="u", password="p", password_file="/p")
    assert "keep one" in refusal(token="t", token_file="/t")
    assert load(user="u", password_file="/p").user == "u"


def test_values_may_come_as_text_from_the_environment():
    config = load(window="100", linger_ms="2.5", create_stream="true")
    assert (config.window, config.linger_ms, config.create_stream) == (100, 2.5, True)


@pytest.mark.parametrize(
    "section",
    [
        {"window": 0},
        {"window": 10_000},
        {"linger_ms": -1},
        {"stream": "A.B"},
        {"stream": ""},
        {"domain": "a b"},
        {"inbox_prefix": "_INBOX.>"},
        {"inbox_prefix": "a..b"},
        {"tls": {"key": "/k"}},
        {"tls": {"verify": False}},
        {"strem": "A"},
    ],
)
def test_a_value_out_of_bounds_or_an_unknown_key_is_refused(section):
    assert next(iter(section)) in refusal(**section)
