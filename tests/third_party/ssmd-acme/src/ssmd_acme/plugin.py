"""Registers the acme feed and an observer. Light: opens nothing."""

from __future__ import annotations

import logging
from collections.abc import Iterator

from ssmd_acme.config import AcmeConfig
from ssmd_acme.feed import open_feed
from ssmd_core.plugins import FeedType, hookimpl

_log = logging.getLogger("ssmd_acme")


@hookimpl
def ssmd_feeds() -> Iterator[FeedType]:
    """Yield the acme feed."""
    yield FeedType(
        name="acme",
        api_version=1,
        config=AcmeConfig,
        open=open_feed,
        summary="Acme exchange, trades and quotes",
        stability="alpha",
    )


@hookimpl
def ssmd_gap_detected(channel: str, first: int | None, last: int | None) -> None:
    """Say how much is missing, where that can be known."""
    missing = "messages" if first is None or last is None else last - first + 1
    _log.warning("acme: %s missing on %s", missing, channel)
