"""A Kalshi with no account: the loopback venue plays an invented session, live and in bursts."""

from __future__ import annotations

import random
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio

from ssmd_core.plugins import Demo
from ssmd_core.testing import LoopbackVenue, Recording
from ssmd_kalshi.venue import KalshiFace, KeyPair, market_names, new_key, session

__all__ = ["open_demo", "open_venue"]

_FRAMES_PER_SECOND = 400.0
_MARKETS = 24
_BURST_FRAMES = (50, 400)
_CALM_SECONDS = (0.5, 3.0)


@asynccontextmanager
async def open_demo() -> AsyncIterator[Demo]:
    """Start the venue, and stop it on leaving. Its key is made anew and known to it alone."""
    key = new_key()
    async with open_venue(key) as venue:
        yield Demo(
            endpoint=venue.url,
            environ=key.environ,
            settings={
                "channels": ["ticker", "trade", "orderbook_delta", "market_lifecycle_v2"],
                "market_tickers": market_names(_MARKETS),
            },
        )


@asynccontextmanager
async def open_venue(
    key: KeyPair, *, host: str = "127.0.0.1", port: int = 0
) -> AsyncIterator[LoopbackVenue]:
    """Start a venue that lets one key in, and stop it on leaving.

    Raises:
        OSError: it cannot listen there.
    """
    frames = session(
        time.time_ns(), market_names(_MARKETS), now_ms=lambda: time.time_ns() // 1_000_000
    )
    recording = Recording(frames, rate=_FRAMES_PER_SECOND)
    face = KalshiFace.for_key(key)
    async with (
        LoopbackVenue(recording, face, keep=False, host=host, port=port) as venue,
        anyio.create_task_group() as tasks,
    ):
        tasks.start_soon(_burst_now_and_then, venue)
        yield venue
        tasks.cancel_scope.cancel()


async def _burst_now_and_then(venue: LoopbackVenue) -> None:
    rng = random.Random()
    while True:
        await anyio.sleep(rng.uniform(*_CALM_SECONDS))
        venue.flood(rng.randint(*_BURST_FRAMES))
