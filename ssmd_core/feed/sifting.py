"""Decides which frames of a wake-up a session has to look at closer. Most say nothing new."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from ssmd_core.feed.contract import FrameKind, Parsed

__all__ = ["Sifted", "sift"]

_DATA, _UNKNOWN = FrameKind.DATA, FrameKind.UNKNOWN
_NOTHING_SAID = Parsed("")


class Sifted(NamedTuple):
    """What one look at each frame finds."""

    counts: dict[str, int]
    """How many there are of each type."""
    data_frames: int
    """Those that are signs of life of the venue's market."""
    rare: list[int]
    """Positions of those that bring an event or a fault."""
    numbered: list[tuple[int, Parsed]]
    """Those that carry a number, with their receipt times; some are among ``rare`` instead."""


def sift(parsed: Sequence[Parsed], first_ts: int) -> Sifted:
    """Look through the frames of a wake-up, the first received at ``first_ts``; the hot call."""
    counts: dict[str, int] = {}
    rare: list[int] = []
    numbered: list[tuple[int, Parsed]] = []
    usual, usual_count, data_frames = _NOTHING_SAID, 0, 0
    for ts, said in enumerate(parsed, first_ts):
        # A feed may say the same of many frames, which is looked at once. What has a number,
        # an event or a fault is never among them.
        if said is usual:
            usual_count += 1
            continue
        label, kind = said.label, said.kind
        counts[label] = counts.get(label, 0) + 1
        if kind is _DATA or kind is _UNKNOWN:
            data_frames += 1
        if said.event is not None or said.fault:
            rare.append(ts - first_ts)
        elif said.first_seq is not None:
            numbered.append((ts, said))
        elif not usual_count and kind is _DATA:
            usual = said
    if usual_count:
        counts[usual.label] += usual_count
    return Sifted(counts, data_frames + usual_count, rare, numbered)
