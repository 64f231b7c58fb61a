"""How Kalshi presents itself, and that this costs nothing."""

import subprocess
import sys

import pytest
from cryptography.hazmat.primitives.asymmetric import ed25519
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from ssmd_core.errors import ConfigError, CredentialError
from ssmd_core.feed import FeedContext
from ssmd_kalshi import plugin
from ssmd_kalshi.config import DEMO_HOST, PRODUCTION_HOST, KalshiConfig

PEM = (
    ed25519.Ed25519PrivateKey.generate()
    .private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    .decode()
)
ENVIRON = {"KALSHI_API_KEY": "key-id", "KALSHI_PRIVATE_KEY": PEM}
DEAD = "wss://trading-api.kalshi.com/trade-api/ws/v2"


def open_feed(warnings, endpoint=DEAD, environ=ENVIRON, keys=None):
    context = FeedContext(
        name="kalshi",
        environment="test",
        endpoint=endpoint,
        version={},
        environ=environ,
        keys=keys or {},
        warn=warnings.append,
    )
    return plugin.open_feed(context, KalshiConfig())


def url_of(feed):
    return feed.endpoint(feed.connections()[0]).url


def test_the_plugin_registers_one_feed_for_the_first_contract():
    (feed,) = plugin.ssmd_feeds()
    assert (feed.name, feed.api_version) == ("kalshi", 1)
    assert feed.config is KalshiConfig
    assert feed.summary


def test_importing_the_plugin_imports_nothing_heavy():
    code = (
        "import sys, ssmd_kalshi.plugin;"
        "heavy = {'cryptography', 'msgspec', 'websockets', 'anyio', 'nats', 'capnp', 'structlog'};"
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_dead_endpoint_of_old_files_still_runs_with_a_warning():
    warnings = []
    assert url_of(open_feed(warnings)) == f"wss://{PRODUCTION_HOST}/trade-api/ws/v2"
    assert len(warnings) == 1
    assert PRODUCTION_HOST in warnings[0]


def test_the_demo_switch_of_the_environment_chooses_the_demo_host():
    warnings = []
    feed = open_feed(warnings, environ=ENVIRON | {"KALSHI_USE_DEMO": "yes"})
    assert url_of(feed) == f"wss://{DEMO_HOST}/trade-api/ws/v2"
    assert warnings == []


def test_another_endpoint_is_used_as_written_and_the_demo_switch_ignored_with_a_warning():
    warnings = []
    environ = ENVIRON | {"KALSHI_USE_DEMO": "true"}
    feed = open_feed(warnings, endpoint="ws://127.0.0.1:4711/x", environ=environ)
    assert url_of(feed) == "ws://127.0.0.1:4711/x"
    assert len(warnings) == 1


def test_each_attempt_carries_the_three_headers():
    feed = open_feed([])
    assert set(feed.endpoint(feed.connections()[0]).headers) == {
        "KALSHI-ACCESS-KEY",
        "KALSHI-ACCESS-TIMESTAMP",
        "KALSHI-ACCESS-SIGNATURE",
    }


def test_a_credential_field_that_kalshi_does_not_have_is_a_warning():
    warnings = []
    open_feed(warnings, endpoint="ws://127.0.0.1:4711/x", keys={"passphrase": "MINE"})
    assert len(warnings) == 1
    assert "passphrase" in warnings[0]
    assert "private_key" in warnings[0]


def test_missing_credentials_are_found_before_anything_is_opened():
    with pytest.raises(CredentialError, match="KALSHI_API_KEY"):
        open_feed([], environ={})


def test_an_endpoint_that_is_no_websocket_is_a_config_error():
    with pytest.raises(ConfigError, match="endpoint"):
        open_feed([], endpoint="https://api.elections.kalshi.com/trade-api/v2")


def test_the_real_environment_is_not_read(monkeypatch):
    for name, value in ENVIRON.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(CredentialError):
        open_feed([], environ={})


def test_nothing_shows_a_secret():
    feed = open_feed([])
    shown = f"{feed!r} {vars(feed)!r} {feed.endpoint(feed.connections()[0])!r}"
    assert "key-id" not in shown
    assert "KALSHI-ACCESS" not in shown
