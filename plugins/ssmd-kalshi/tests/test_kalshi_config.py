"""The feed file's section, and the host that a run really connects to."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from ssmd_core.errors import ConfigError
from ssmd_kalshi.config import DEMO_HOST, PRODUCTION_HOST, KalshiConfig, resolve_endpoint

PATH = "/trade-api/ws/v2"


def problem(**settings):
    with pytest.raises(ValidationError) as found:
        KalshiConfig.model_validate(settings)
    return str(found.value)


def test_an_empty_section_captures_tickers_and_trades_of_all_markets():
    config = KalshiConfig()
    assert config.channels == ("ticker", "trade")
    assert config.market_tickers == ()
    assert config.max_frame_bytes == 4 * 1024 * 1024


def test_every_setting_loads():
    config = KalshiConfig.model_validate(
        {
            "channels": ["ticker", "trade", "orderbook_delta", "market_lifecycle_v2"],
            "market_tickers": ["KXTEST-26DEC31-T1.5"],
            "book_markets_per_connection": 50,
            "rest_endpoint": "https://example.com/trade-api/v2",
            "backfill_seconds": 3600,
            "max_frame_bytes": 1024,
            "stale_seconds": 15,
            "silent_seconds": None,
            "send_initial_snapshot": False,
            "compression": True,
        }
    )
    assert config.silent_seconds is None


def test_an_unknown_channel_lists_the_known_ones():
    text = problem(channels=["ticker_v2"])
    for channel in ("ticker", "trade", "orderbook_delta", "market_lifecycle_v2"):
        assert f"'{channel}'" in text


def test_books_without_markets_say_what_is_missing():
    assert "orderbook_delta needs market_tickers" in problem(channels=["orderbook_delta"])


@pytest.mark.parametrize(
    "settings",
    [
        {"chanels": ["ticker"]},
        {"channels": []},
        {"channels": "ticker"},
        {"market_tickers": [""]},
        {"backfill_seconds": -1},
        {"backfill_seconds": 2_592_001},
        {"market_tickers": ["  "]},
        {"market_tickers": [5]},
        {"book_markets_per_connection": 0},
        {"max_frame_bytes": 0},
        {"stale_seconds": 0},
        {"silent_seconds": -1},
        {"rest_endpoint": "ftp://example.com"},
        {"rest_endpoint": "https://"},
        {"rest_endpoint": "trade-api/v2"},
    ],
)
def test_a_wrong_setting_is_refused(settings):
    problem(**settings)


def test_what_is_listed_twice_is_taken_once_and_in_order():
    config = KalshiConfig.model_validate(
        {"channels": ["trade", "ticker", "trade"], "market_tickers": ["B", " A ", "B"]}
    )
    assert config.channels == ("trade", "ticker")
    assert config.market_tickers == ("B", "A")


def test_a_section_cannot_be_changed():
    with pytest.raises(ValidationError):
        KalshiConfig().compression = True


# ── endpoints ────────────────────────────────────────────────────────────────────


def test_the_dead_host_becomes_the_present_one_with_a_warning_that_names_them():
    route = resolve_endpoint(f"wss://trading-api.kalshi.com{PATH}", demo=False)
    assert route.url == f"wss://{PRODUCTION_HOST}{PATH}"
    for host in ("trading-api.kalshi.com", PRODUCTION_HOST, "api.elections.kalshi.com", DEMO_HOST):
        assert host in route.warning


def test_a_port_of_the_dead_host_does_not_move_to_the_present_one():
    route = resolve_endpoint(f"wss://Trading-API.kalshi.com:8443{PATH}", demo=False)
    assert route.url == f"wss://{PRODUCTION_HOST}{PATH}"


@pytest.mark.parametrize(
    "host",
    [
        PRODUCTION_HOST,
        "api.elections.kalshi.com",
        "demo-api.kalshi.co",
        DEMO_HOST,
        "api.kalshi.com",
        "127.0.0.1:4711",
        "trading-api.kalshi.com.example.com",
    ],
)
def test_any_other_endpoint_is_used_as_written(host):
    assert resolve_endpoint(f"wss://{host}{PATH}?a=1", demo=False) == (
        f"wss://{host}{PATH}?a=1",
        "",
    )


@pytest.mark.parametrize(
    "host", [PRODUCTION_HOST, "api.elections.kalshi.com", "trading-api.kalshi.com"]
)
def test_the_demo_switch_replaces_production_and_dead_hosts(host):
    assert resolve_endpoint(f"wss://{host}{PATH}", demo=True) == (f"wss://{DEMO_HOST}{PATH}", "")


@pytest.mark.parametrize("url", ["ws://127.0.0.1:4711/x", "wss://kalshi.example.com/trade"])
def test_the_demo_switch_is_ignored_elsewhere_with_a_warning(url):
    route = resolve_endpoint(url, demo=True)
    assert route.url == url
    assert "KALSHI_USE_DEMO" in route.warning


@pytest.mark.parametrize("host", [DEMO_HOST, "demo-api.kalshi.co"])
def test_the_demo_switch_has_nothing_to_say_about_a_demo_host(host):
    assert resolve_endpoint(f"wss://{host}{PATH}", demo=True) == (f"wss://{host}{PATH}", "")


@pytest.mark.parametrize(
    "url",
    ["", "kalshi", "https://api.elections.kalshi.com", "wss://", "wss://[::1", "ws://h:99999"],
)
def test_what_is_no_websocket_url_is_a_config_error_that_shows_one(url):
    with pytest.raises(ConfigError, match=f"wss://{PRODUCTION_HOST}"):
        resolve_endpoint(url, demo=False)


@given(st.text(), st.booleans())
def test_no_endpoint_raises_anything_but_a_config_error(endpoint, demo):
    try:
        route = resolve_endpoint(endpoint, demo=demo)
    except ConfigError:
        return
    assert route.url
