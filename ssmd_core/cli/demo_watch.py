"""Decides what is worth showing of a running capture: last trades, ages, rates."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ssmd_core.feed import Parsed
from ssmd_core.metrics import Metrics, Tally
from ssmd_core.records import Batch, Record, Trade

__all__ = ["BusMessage", "Glimpse", "Watch"]

_LAST_TRADES = 5
_LAST_MESSAGES = 3
_MS = 1_000_000


@dataclass(frozen=True, slots=True)
class BusMessage:
    """One message as it came off the bus."""

    subject: str
    fields: Mapping[str, Any]


@dataclass(slots=True)
class Watch:
    """What was seen go by. Bounded, whatever the rate."""

    records: Tally = field(default_factory=Tally)
    """Records read, by kind."""
    trades: deque[Trade] = field(default_factory=lambda: deque(maxlen=_LAST_TRADES))
    bus: deque[BusMessage] = field(default_factory=lambda: deque(maxlen=_LAST_MESSAGES))
    bus_count: int = 0
    """Messages decoded."""
    bus_status: int = 0
    """Ledger lines, JSON."""
    bus_unreadable: int = 0
    _ages_ms: float = 0.0
    _aged: int = 0

    @property
    def bus_total(self) -> int:
        """Everything that came off the bus."""
        return self.bus_count + self.bus_status + self.bus_unreadable

    def take(self, batch: Batch, parsed: Sequence[Parsed]) -> None:
        """Look at a batch after the sinks took it: the connector's tap."""
        for place, frame in enumerate(parsed):
            for record in frame.records:
                self._note(record, batch.first_ts + place)

    def take_message(self, message: BusMessage) -> None:
        """Look at a message off the bus."""
        self.bus_count += 1
        self.bus.append(message)

    def take_age_ms(self) -> float:
        """Return the mean age, venue to receipt, since the last call, and begin again."""
        mean = self._ages_ms / self._aged if self._aged else 0.0
        self._ages_ms, self._aged = 0.0, 0
        return mean

    def _note(self, record: Record, received_ns: int) -> None:
        self.records.add(record.kind)
        if record.venue_ns:
            self._ages_ms += (received_ns - record.venue_ns) / _MS
            self._aged += 1
        if isinstance(record, Trade):
            self.trades.append(record)


@dataclass(frozen=True, slots=True, kw_only=True)
class Glimpse:
    """The capture at one moment."""

    feed: str
    elapsed_seconds: float
    frames: int
    rate: float
    """Frames a second since the glimpse before."""
    messages: Mapping[str, int]
    """Frames by the venue's own message type."""
    age_ms: float
    archived: int
    archived_bytes: int
    file: str
    published: int
    unacked: int
    ready: bool
    reasons: Sequence[str]
    trades: Sequence[Trade]
    bus: Sequence[BusMessage]
    bus_count: int
    bus_status: int
    nats: bool

    @classmethod
    def of(
        cls,
        metrics: Metrics,
        status: Mapping[str, Any],
        watch: Watch,
        *,
        elapsed_seconds: float,
        nats: bool,
        before: Glimpse | None,
    ) -> Glimpse:
        """Look once."""
        frames = sum(metrics.messages.values())
        since = elapsed_seconds - (before.elapsed_seconds if before else 0.0)
        new = frames - (before.frames if before else 0)
        storage = status.get("storage") or {}
        return cls(
            feed=status["feed"],
            elapsed_seconds=elapsed_seconds,
            frames=frames,
            rate=new / since if since > 0 else 0.0,
            messages=dict(metrics.messages),
            age_ms=watch.take_age_ms(),
            archived=metrics.archived,
            archived_bytes=metrics.archived_bytes,
            file=str(storage.get("file", "")),
            published=metrics.published,
            unacked=metrics.unacked,
            ready=bool(status["ready"]),
            reasons=tuple(status["reasons"]),
            trades=tuple(watch.trades),
            bus=tuple(watch.bus),
            bus_count=watch.bus_count,
            bus_status=watch.bus_status,
            nats=nats,
        )
