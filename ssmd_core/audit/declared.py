"""Decides what the ledger's own words excuse: intervals in which frames or lines were given up."""

from __future__ import annotations

from ssmd_core.audit.events import Event
from ssmd_core.audit.sequences import DeclaredGap
from ssmd_core.audit.sessions import Dropped

__all__ = ["Declared"]

_FOREVER = 1 << 63


class Declared:
    """What lines of one feed declare, as far as the days at work need it."""

    def __init__(self) -> None:
        self.drops: list[Dropped] = []
        self.lines_lost: list[tuple[int, int]] = []
        """Intervals whose ledger lines are not all there."""
        self.unsent: list[tuple[int, int]] = []
        """Intervals whose messages are declared as never published."""
        self.unsent_messages = 0
        """Messages so declared without a time."""
        self.gaps: list[DeclaredGap] = []
        self.failing_since = _FOREVER
        """From when on the archive refuses frames, which wait in memory."""

    def take(self, event: Event) -> None:
        """Take one line."""
        match event.word:
            case "gap":
                gap = DeclaredGap.of(event)
                if gap is not None:
                    self.gaps.append(gap)
            case "dropped":
                self._take_dropped(event)
            case "sink_failed" if event.text("sink") == "storage":
                self.failing_since = min(self.failing_since, event.ts)
            case "sink_recovered" if event.text("sink") == "storage":
                self.failing_since = _FOREVER

    def take_gaps(self, before_ts: int) -> list[DeclaredGap]:
        """Take out the gaps whose frame came before a time."""
        due = [gap for gap in self.gaps if gap.to_ts < before_ts]
        self.gaps = [gap for gap in self.gaps if gap.to_ts >= before_ts]
        return due

    def excuses_hole(self, from_ts: int, to_ts: int) -> str:
        """Say why numbers may be missing between two times without a ``gap`` line; or empty."""
        if any(drop.from_ts <= to_ts and drop.to_ts >= from_ts for drop in self.drops):
            return "frames declared as dropped"
        if self.lost_lines(from_ts, to_ts):
            return "ledger lines declared as lost"
        return ""

    def lost_lines(self, from_ts: int, to_ts: int) -> bool:
        """Say whether ledger lines between two times are declared as lost."""
        return any(start <= to_ts and end >= from_ts for start, end in self.lines_lost)

    def excuses_message(self, ts: int) -> bool:
        """Say whether a message is declared as never published."""
        return any(start <= ts <= end for start, end in self.unsent)

    def _take_dropped(self, event: Event) -> None:
        from_ts, to_ts = event.time("from_ts") or 0, event.time("to_ts") or 0
        match event.text("sink"):
            case "storage":
                frames = event.number("frames") or 0
                self.drops.append(Dropped(from_ts, to_ts, frames, frames))
            case "ledger":
                self.lines_lost.append((from_ts, to_ts))
            case "transport" if frame := event.time("frame"):
                self.unsent.append((frame, frame))
            case "transport" if from_ts:
                self.unsent.append((from_ts, to_ts))
            case "transport":
                self.unsent_messages += event.number("messages") or 1
