"""Decides how often frames that could not be read are told: at once, then every ten seconds."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from ssmd_core.clock import NS

__all__ = ["Fault", "Faults"]

_EVERY_NS = 10 * NS
_MAX_LABELS = 64


@dataclass(slots=True)
class Fault:
    """What is known of one kind of unreadable frame."""

    label: str
    text: str = ""
    """What was wrong with the last one."""
    ts: int = 0
    """Receipt time of the last one."""
    untold: int = 0
    told_ts: int = -_EVERY_NS


class Faults:
    """Faults by the label of the frame; a venue chooses labels, so they are bounded."""

    def __init__(self) -> None:
        self._by_label: dict[str, Fault] = {}

    def note(self, label: str, text: str, ts: int) -> None:
        """Take a frame that could not be read."""
        if label not in self._by_label and len(self._by_label) >= _MAX_LABELS:
            label = "other"
        fault = self._by_label.setdefault(label, Fault(label))
        fault.text, fault.ts = text, ts
        fault.untold += 1

    def due(self, now_ns: int | None) -> Iterator[Fault]:
        """Yield what is to be told now, and count it as told; None: whatever is untold."""
        for fault in self._by_label.values():
            if fault.untold and (now_ns is None or now_ns - fault.told_ts >= _EVERY_NS):
                fault.told_ts = fault.ts if now_ns is None else now_ns
                yield fault
                fault.untold = 0
