"""What the rooms around a session are to it: who takes what comes, who carries out wishes."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from ssmd_core.clock import Clock, ReceiptClock
from ssmd_core.errors import ConnectionEnded
from ssmd_core.feed.contract import Parsed
from ssmd_core.feed.repair import Missed
from ssmd_core.metrics import Metrics
from ssmd_core.records import Batch

__all__ = ["HostParts", "Intake", "Wire"]


class Intake(Protocol):
    """Where batches and ledger events go: the pipeline."""

    def deliver(self, batch: Batch, parsed: list[Parsed]) -> None:
        """Archive a batch, then publish what was read from it. Does not wait."""
        ...

    def report(self, event: str, *, session: str | None, conn: int | None, **fields: Any) -> None:
        """Write one event to the coverage ledger."""
        ...

    def place(self) -> Mapping[str, Any]:
        """Return ``file`` and ``offset`` where the next frame will stand, if anywhere."""
        ...

    def fault(self, batch: Batch, index: int, parsed: Parsed) -> None:
        """Report a frame that could not be read."""
        ...


class Wire(Protocol):
    """What a session asks of its connection and of the host."""

    def send(self, data: bytes) -> None:
        """Send one text message."""
        ...

    def abort(self, why: ConnectionEnded) -> None:
        """Give the connection up."""
        ...

    def call_later(self, seconds: float, name: str) -> None:
        """Fire a timer of the feed."""
        ...

    def repair(self, missed: Missed) -> None:
        """Bring back what a channel missed, where the feed can."""
        ...

    def monotonic(self) -> float:
        """Monotonic seconds."""
        ...

    def mask(self, text: str) -> str:
        """Return what the venue said without the credentials that it was sent."""
        ...


@dataclass(frozen=True, slots=True)
class HostParts:
    """What a host works with; tests pass their own."""

    intake: Intake
    receipt: ReceiptClock
    clock: Clock
    metrics: Metrics
    skims: bool = False
    """Only an archive is fed: records may be left unread."""
    read_every_seconds: float = 0.0
    """Sockets are read no oftener; 0: whenever something comes."""
    rng: random.Random = field(default_factory=random.Random)
