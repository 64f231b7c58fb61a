"""What a feed asks the host to keep up: connections, where they lead, and how they are kept."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

__all__ = ["ConnectionPlan", "Endpoint", "Heartbeat"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectionPlan:
    """One connection that the host keeps up. ``conn`` numbers them from 0."""

    conn: int = 0
    channels: tuple[str, ...] = ()
    markets: tuple[str, ...] = ()
    """Empty: all markets of the channels."""
    stale_seconds: float = 30.0
    """Reconnect after so long without a byte from the venue."""
    silent_seconds: float | None = 120.0
    """Reconnect after so long without data; None where silence is normal."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """Where and how to connect, asked anew for every attempt because signatures expire."""

    url: str
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    subprotocols: tuple[str, ...] = ()
    max_frame_bytes: int = 4 * 1024 * 1024
    compression: bool = False
    """Offer permessage-deflate: saves bandwidth, costs CPU."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Heartbeat:
    """An application-level ping that the venue wants."""

    every_seconds: float
    payload: bytes
