"""What is exchanged to bring back what a channel missed: for venues that keep history over HTTP."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

__all__ = ["Fetch", "Missed"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Missed:
    """A channel was not, or not wholly, received between two receipt times."""

    channel: str
    from_ts: int
    """Before the last frame's receipt by as much as that was read after the venue sent it."""
    to_ts: int
    markets: tuple[str, ...] = ()
    """Markets of the connection; empty: all."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fetch:
    """One GET. The host sends it, tries it again, archives what comes, and publishes it."""

    url: str
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    timeout_seconds: float = 10.0
    max_bytes: int = 16 * 1024 * 1024
    covers_from: int = 0
    """Of a repair's first request: receipt time from which on it brings back what was missed.
    What is older stays missed, and the ledger says so. 0: all that was asked for."""
