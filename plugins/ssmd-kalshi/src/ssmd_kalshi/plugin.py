"""Decides how Kalshi presents itself to ssmd. Light: what it needs is imported when used."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING

from ssmd_core.plugins import Demo, FeedType, hookimpl
from ssmd_kalshi.config import KalshiConfig, resolve_endpoint
from ssmd_kalshi.credentials import CREDENTIAL_FIELDS, read_credentials, read_demo_switch

if TYPE_CHECKING:
    from ssmd_core.feed import FeedContext
    from ssmd_kalshi.feed import KalshiFeed

__all__ = ["open_demo", "open_feed", "open_offline", "ssmd_feeds"]


def open_feed(context: FeedContext, config: KalshiConfig) -> KalshiFeed:
    """Check credentials and endpoint, and return the feed. Opens no connection.

    Raises:
        CredentialError: a key is missing or unreadable.
        ConfigError: the endpoint is no WebSocket URL.
    """
    demo = read_demo_switch(context.environ, context.keys)
    route = resolve_endpoint(context.endpoint, demo=demo.on)
    credentials = read_credentials(context.environ, context.keys)
    # Here and not above: `ssmd plugins` and `ssmd --help` need neither.
    from ssmd_kalshi.auth import load_signer  # noqa: PLC0415  cryptography
    from ssmd_kalshi.feed import KalshiFeed  # noqa: PLC0415  msgspec and its tables

    signer = load_signer(credentials)
    unknown = ", ".join(sorted(set(context.keys) - set(CREDENTIAL_FIELDS)))
    if unknown:
        context.warn(f"keys: {unknown} unknown to Kalshi; fields: {', '.join(CREDENTIAL_FIELDS)}")
    for warning in (demo.warning, route.warning):
        if warning:
            context.warn(warning)
    return KalshiFeed(config, route.url, signer)


def open_offline() -> KalshiFeed:
    """Return a feed that only parses what an archive holds."""
    from ssmd_kalshi.feed import KalshiFeed  # noqa: PLC0415  msgspec and its tables

    return KalshiFeed.offline()


def open_demo() -> AbstractAsyncContextManager[Demo]:
    """Return a venue on loopback that plays a recorded session."""
    from ssmd_kalshi import demo  # noqa: PLC0415  the loopback venue

    return demo.open_demo()


@hookimpl
def ssmd_feeds() -> Iterator[FeedType]:
    """Yield the one feed of this distribution."""
    yield FeedType(
        name="kalshi",
        api_version=1,
        config=KalshiConfig,
        open=open_feed,
        offline=open_offline,
        demo=open_demo,
        summary="Kalshi trade API v2: tickers, trades, order books, lifecycle",
    )
