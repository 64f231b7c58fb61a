"""What is counted: plain integers, read by the service when it is asked.

No label ever holds a ticker, and labels that a venue chooses are capped.
"""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass, field

__all__ = ["Histogram", "Metrics", "Tally"]

_MAX_LABELS = 64


class Tally(dict[str, int]):
    """Counts by label. Past 64 labels new ones are counted as ``other``."""

    def add(self, label: str, count: int = 1) -> None:
        """Add ``count`` to ``label``."""
        if label not in self and len(self) >= _MAX_LABELS:
            label = "other"
        self[label] = self.get(label, 0) + count


class Histogram:
    """Cumulative-bucket histogram of seconds."""

    __slots__ = ("bounds", "buckets", "total")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self.bounds = bounds
        self.buckets = [0] * (len(bounds) + 1)
        self.total = 0.0

    def observe(self, seconds: float, count: int = 1) -> None:
        """Count ``count`` observations of ``seconds``."""
        self.buckets[bisect_left(self.bounds, seconds)] += count
        self.total += seconds * count


_AGE = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0)
_SHORT = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 1.0, 5.0)


@dataclass(slots=True)
class Metrics:
    """Everything one connector counts. Names follow docs/operate.md."""

    messages: Tally = field(default_factory=Tally)
    received_bytes: int = 0
    last_activity_ns: int = 0
    parse_errors: int = 0
    invalid_frames: int = 0
    markets_requested: int = 0
    markets_subscribed: int = 0
    subscriptions_requested: int = 0
    subscriptions_confirmed: int = 0
    subscriptions_refused: int = 0
    reconnects: Tally = field(default_factory=Tally)
    refusals: int = 0
    """Connections that the venue refused for their credentials."""
    gaps: Tally = field(default_factory=Tally)
    missing: Tally = field(default_factory=Tally)
    sequence_regressed: int = 0
    backfilled: int = 0
    repairs: int = 0
    repairs_failed: int = 0
    archived: int = 0
    archived_bytes: int = 0
    torn_tails: int = 0
    archive_free_bytes: int | None = None
    """What the volume of the archive has left; None until it is known."""
    upload_backlog_bytes: int | None = None
    """What object storage has closed and keeps in its spool; None for other archives."""
    published: int = 0
    unacked: int = 0
    publish_retries: int = 0
    duplicates: int = 0
    unpublishable: Tally = field(default_factory=Tally)
    """Records that the wire schema cannot carry, by reason: archived, not published."""
    rounded: int = 0
    saturated: int = 0
    dropped: Tally = field(default_factory=Tally)
    lost: int = 0
    """Frames or messages received and neither archived nor acknowledged, ever."""
    backlog_bytes: int = 0
    paused_seconds: float = 0.0
    message_age: Histogram = field(default_factory=lambda: Histogram(_AGE))
    publish_duration: Histogram = field(default_factory=lambda: Histogram(_SHORT))
    archive_sync: Histogram = field(default_factory=lambda: Histogram(_SHORT))
