"""How much is measured: the full run of under ten minutes, and a quick one that shows it works."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["FULL", "QUICK", "Plan"]


@dataclass(frozen=True, slots=True)
class Plan:
    """The sizes of a run."""

    rounds: int
    share: float
    """Of the frames that a saturated run of each contender has."""
    paced_rounds: int
    """Also of the growing markets."""
    paced_seconds: float
    rates: tuple[int, ...]
    burst_rate: int
    tickers: tuple[int, ...]
    growth_frames: int
    frame_sizes: tuple[int, ...]
    size_bytes: int
    """So much in all for each frame size."""
    memory_seconds: float
    memory_rate: int
    starts: int


FULL = Plan(
    rounds=3,
    share=1.0,
    paced_rounds=2,
    paced_seconds=3.0,
    rates=(1_000, 5_000, 20_000),
    burst_rate=5_000,
    tickers=(100, 1_000, 10_000, 100_000),
    growth_frames=150_000,
    frame_sizes=(200, 1_024, 8_192, 65_536),
    size_bytes=60_000_000,
    memory_seconds=45.0,
    memory_rate=5_000,
    starts=5,
)
QUICK = Plan(
    rounds=1,
    share=0.02,
    paced_rounds=1,
    paced_seconds=0.5,
    rates=(1_000,),
    burst_rate=1_000,
    tickers=(100, 1_000),
    growth_frames=4_000,
    frame_sizes=(200, 1_024),
    size_bytes=1_000_000,
    memory_seconds=2.0,
    memory_rate=1_000,
    starts=1,
)
