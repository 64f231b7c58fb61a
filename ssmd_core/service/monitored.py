"""What the service asks of the thing it reports on."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from ssmd_core.metrics import Metrics
from ssmd_core.sink import Health

__all__ = ["Component", "Monitored", "Readiness"]


class Component(enum.StrEnum):
    """What a connector depends on, in the words of its reasons."""

    VENUE = "venue"
    ARCHIVE = "archive"
    BUS = "bus"


@dataclass(frozen=True, slots=True)
class Readiness:
    """Whether data flows end to end, and in one sentence each, what prevents or strains it."""

    ready: bool
    reasons: tuple[str, ...] = ()
    """Why it is not ready."""
    degraded: tuple[str, ...] = ()
    """What an operator should know of although it is ready."""
    failing: frozenset[Component] = frozenset()
    """What the reasons are about."""


class Monitored(Protocol):
    """A running connector as the health port sees it. Every call answers at once."""

    @property
    def name(self) -> str:
        """The feed's name."""
        ...

    @property
    def environment(self) -> str:
        """The environment's name."""
        ...

    @property
    def metrics(self) -> Metrics:
        """What it counts."""
        ...

    def connected(self) -> bool:
        """Say whether every connection to the venue is up."""
        ...

    def readiness(self) -> Readiness:
        """Say whether it is connected, subscribed and every sink takes data."""
        ...

    def status(self) -> Mapping[str, Any]:
        """Return everything worth knowing, as values that JSON can hold."""
        ...

    def alive(self) -> Health:
        """Say whether the event loop turns; never depends on venue, bus or disk."""
        ...

    def clock_offset_ns(self) -> int:
        """Return how far receipt time is ahead of the wall clock."""
        ...
