"""Decides what a day of one feed adds up to: what is archived, and what the ledger declares."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from ssmd_core.audit.channel_day import ChannelDay
from ssmd_core.audit.events import Event

__all__ = ["ChannelTotals", "DayTotals"]


@dataclass(slots=True)
class ChannelTotals:
    """One channel on one day, over all connections that carry it."""

    frames: int | None = None
    """None where no plugin was there to tell."""
    covered_seconds: float | None = None
    """Of the connection that was covered least; None where none is known to carry it."""
    gaps: int = 0
    missing: int = 0
    """Numbers that did not come, where the venue numbers its frames."""
    repaired: int = 0
    """Holes brought back; ``repaired_records`` is what came."""
    repaired_records: int = 0
    unrepaired: int = 0


@dataclass(slots=True)
class DayTotals:
    """One feed on one day."""

    day: str
    feed: str
    sessions: int = 0
    """Sessions that ran at any time of the day."""
    frames: int = 0
    fetched: int = 0
    """Bodies in the REST file."""
    ledger_lines: int = 0
    dropped_frames: int = 0
    """Declared as never archived."""
    dropped_messages: int = 0
    """Declared as never published."""
    dropped_lines: int = 0
    """Ledger lines declared as lost."""
    torn_bytes: int = 0
    failing_seconds: float = 0.0
    """So long the archive did not take frames, as far as it was declared that day."""
    events: Counter[str] = field(default_factory=Counter)
    """Ledger lines by event."""
    channels: dict[str, ChannelTotals] = field(default_factory=dict)

    def channel(self, name: str) -> ChannelTotals:
        """Return the totals of a channel."""
        return self.channels.setdefault(name, ChannelTotals())

    def add_events(self, events: Iterable[Event]) -> None:
        """Add what the ledger of the day declares."""
        failing_since: int | None = None
        for event in events:
            self.ledger_lines += 1
            self.events[event.word] += 1
            match event.word:
                case "gap":
                    totals = self.channel(event.text("channel"))
                    totals.gaps += 1
                    first, last = event.number("first"), event.number("last")
                    if first is not None and last is not None:
                        totals.missing += last - first + 1
                case "repaired":
                    totals = self.channel(event.text("channel"))
                    totals.repaired += 1
                    totals.repaired_records += event.number("records") or 0
                case "unrepaired":
                    self.channel(event.text("channel")).unrepaired += 1
                case "dropped":
                    self._add_dropped(event)
                case "sink_failed" if event.text("sink") == "storage":
                    failing_since = failing_since or event.ts
                case "sink_recovered" if event.text("sink") == "storage" and failing_since:
                    self.failing_seconds += (event.ts - failing_since) / 1e9
                    failing_since = None

    def add_coverage(self, channels: Iterable[ChannelDay]) -> None:
        """Add how long each channel was covered."""
        for each in channels:
            totals, seconds = self.channel(each.key.channel), each.covered_seconds
            least = totals.covered_seconds
            totals.covered_seconds = seconds if least is None else min(least, seconds)

    def _add_dropped(self, event: Event) -> None:
        match event.text("sink"):
            case "storage":
                self.dropped_frames += event.number("frames") or 0
            case "transport":
                self.dropped_messages += event.number("messages") or 1
            case "ledger":
                self.dropped_lines += event.number("lines") or 0
