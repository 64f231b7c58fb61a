"""Decides what a Kalshi section may say, and which host a run really connects to."""

from __future__ import annotations

from typing import Annotated, Final, Literal, NamedTuple
from urllib.parse import SplitResult, urlsplit

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    model_validator,
)

from ssmd_core.errors import ConfigError

__all__ = [
    "BOOKS",
    "DEMO_HOST",
    "PRODUCTION_HOST",
    "Channel",
    "KalshiConfig",
    "Route",
    "resolve_endpoint",
]

Channel = Literal["ticker", "trade", "orderbook_delta", "market_lifecycle_v2"]
BOOKS: Final = "orderbook_delta"

PRODUCTION_HOST: Final = "external-api-ws.kalshi.com"
DEMO_HOST: Final = "external-api-ws.demo.kalshi.co"
_SHARED_HOST = "api.elections.kalshi.com"
_DEAD_HOSTS = frozenset({"trading-api.kalshi.com"})
_KALSHI_HOSTS = _DEAD_HOSTS | {PRODUCTION_HOST, _SHARED_HOST, "external-api.kalshi.com"}
_DEMO_HOSTS = frozenset({DEMO_HOST, "external-api.demo.kalshi.co", "demo-api.kalshi.co"})


def _listed_once(values: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(values))


def _http_url(url: str) -> str:
    parts = urlsplit(url)
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise ValueError("not an http:// or https:// URL with a host")
    return url


_Ticker = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1)]


class KalshiConfig(BaseModel):
    """The feed file's ``settings`` of a Kalshi feed."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    channels: Annotated[tuple[Channel, ...], AfterValidator(_listed_once), Field(min_length=1)] = (
        "ticker",
        "trade",
    )
    """What to subscribe to; ``orderbook_delta`` needs ``market_tickers``."""
    market_tickers: Annotated[tuple[_Ticker, ...], AfterValidator(_listed_once)] = ()
    """Markets of ticker, trade and books; empty means all. Lifecycle is always of all."""
    book_markets_per_connection: int = Field(default=500, ge=1)
    """Books share out over connections of their own, so that a gap touches few markets."""
    rest_endpoint: Annotated[str, AfterValidator(_http_url)] | None = None
    """Base URL of REST; None is the WebSocket endpoint's host with ``/trade-api/v2``, or the
    host that Kalshi pairs with it."""
    backfill_seconds: float = Field(default=86_400.0, ge=0, le=2_592_000)
    """How far back trades that were missed are fetched; older ones stay declared as missed.
    Kalshi's live tier goes back about three months."""
    max_frame_bytes: int = Field(default=4 * 1024 * 1024, ge=1)
    stale_seconds: float = Field(default=30.0, gt=0)
    """Reconnect after so long without a byte; Kalshi pings every 10 s."""
    silent_seconds: float | None = Field(default=120.0, gt=0)
    """Reconnect after so long without data where all markets are captured; null: never."""
    send_initial_snapshot: bool = True
    """Ask for one ticker a market at once where ``market_tickers`` are given."""
    compression: bool = False
    """Offer permessage-deflate: saves bandwidth, costs CPU."""

    @model_validator(mode="after")
    def _books_name_their_markets(self) -> KalshiConfig:
        if BOOKS in self.channels and not self.market_tickers:
            raise ValueError(
                f"channel {BOOKS} needs market_tickers: Kalshi has no books of all markets"
            )
        return self


class Route(NamedTuple):
    """Where to connect, and what the operator should be told about it, if anything."""

    url: str
    warning: str = ""


def resolve_endpoint(endpoint: str, *, demo: bool) -> Route:
    """Return the URL to connect to: as written, but for dead hosts and the demo switch.

    Raises:
        ConfigError: not a ws:// or wss:// URL with a host.
    """
    url = _websocket_url(endpoint)
    host = url.hostname
    if demo and host in _KALSHI_HOSTS:
        return Route(_with_host(url, DEMO_HOST))
    if host in _DEAD_HOSTS:
        warning = (
            f"endpoint: {host} is dead since 2025, connecting to {PRODUCTION_HOST}; present "
            f"hosts are {PRODUCTION_HOST} and {_SHARED_HOST} (production), {DEMO_HOST} (demo)"
        )
        return Route(_with_host(url, PRODUCTION_HOST), warning)
    if demo and host not in _DEMO_HOSTS:
        warning = (
            f"KALSHI_USE_DEMO is ignored: endpoint {host} is not one of Kalshi's production "
            "hosts and is used as written"
        )
        return Route(endpoint, warning)
    return Route(endpoint)


def _websocket_url(endpoint: str) -> SplitResult:
    try:
        url = urlsplit(endpoint)
        usable = url.scheme in {"ws", "wss"} and url.hostname and url.port != 0
    except ValueError:
        usable = False
    if not usable:
        raise ConfigError(
            "not a ws:// or wss:// URL with a host; Kalshi's is "
            f"wss://{PRODUCTION_HOST}/trade-api/ws/v2",
            key="endpoint",
        )
    return url


def _with_host(url: SplitResult, host: str) -> str:
    return url._replace(netloc=host).geturl()
