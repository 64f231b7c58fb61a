"""Decides whether what a channel missed can be brought back at all."""

from __future__ import annotations

from ssmd_core.feed import Feed, WebSocketFeed
from ssmd_core.feed.repair import Missed

__all__ = ["can_be_repaired"]

_SOME_TIME = 1_795_327_200_000_000_000
_A_MINUTE = 60_000_000_000


def can_be_repaired(feed: WebSocketFeed | Feed | None, channel: str) -> bool | None:
    """Ask the feed; None where it is not installed, or cannot tell without its settings.

    False means that nobody repeats what was said: the latest message, or a new snapshot,
    brings a reader up to date, and what was said before it stays gone.
    """
    if not isinstance(feed, WebSocketFeed):
        return None
    missed = Missed(channel=channel, from_ts=_SOME_TIME, to_ts=_SOME_TIME + _A_MINUTE)
    try:
        return feed.backfill(missed) is not None
    except Exception:  # noqa: BLE001  a stranger's feed, made without its settings
        return None
