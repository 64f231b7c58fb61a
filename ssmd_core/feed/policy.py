"""Decides when a connection is dead and how long to wait before the next one."""

from __future__ import annotations

import random
from dataclasses import dataclass, field

__all__ = ["Backoff", "Liveness", "Overdue", "SilencePatience"]

PING_EVERY_SECONDS = 10.0
PING_ANSWER_SECONDS = 20.0
SEND_SECONDS = 10.0
_MAX_SILENT_SECONDS = 900.0


@dataclass(slots=True)
class Backoff:
    """Wait longer after each failure, with jitter, up to a cap; anew after a good spell."""

    first_seconds: float = 0.5
    cap_seconds: float = 30.0
    reset_after_seconds: float = 60.0
    rng: random.Random = field(default_factory=random.Random)
    failures: int = 0

    def next_seconds(self, live_seconds: float = 0.0) -> float:
        """Return the wait after a connection that was live for ``live_seconds``."""
        if live_seconds >= self.reset_after_seconds:
            self.failures = 0
        full = min(self.cap_seconds, self.first_seconds * 2.0 ** min(self.failures, 16))
        self.failures += 1
        return full * self.rng.uniform(0.5, 1.0)


@dataclass(slots=True)
class SilencePatience:
    """Reconnecting is the wrong cure for a quiet market: wait twice as long each time."""

    seconds: float | None
    _factor: float = 1.0

    def current(self) -> float | None:
        """Return how long silence is borne now."""
        if self.seconds is None:
            return None
        return max(self.seconds, min(self.seconds * self._factor, _MAX_SILENT_SECONDS))

    def grow(self) -> None:
        """Silence made us reconnect."""
        self._factor = min(self._factor * 2, 1024.0)

    def reset(self) -> None:
        """Data came."""
        self._factor = 1.0


@dataclass(frozen=True, slots=True)
class Overdue:
    """Why a connection has to go."""

    cause: str
    detail: str


@dataclass(slots=True)
class Liveness:
    """The clocks of one connection, in monotonic seconds.

    Only what the venue sends counts as life: bytes for the first clock, data frames
    for the second, an answer to our own ping for the third. A send that does not
    leave is the fourth.
    """

    stale_seconds: float
    opened: float
    bytes_at: float = 0.0
    data_at: float = 0.0
    ping_at: float | None = None
    stuck_since: float | None = None

    def __post_init__(self) -> None:
        """All clocks start when the connection opens."""
        self.bytes_at = self.data_at = self.opened

    def overdue(self, now: float, silent_seconds: float | None) -> Overdue | None:
        """Return why the connection is dead, or None while it lives."""
        if now - self.bytes_at > self.stale_seconds:
            return Overdue("stale", f"no bytes from the venue for {now - self.bytes_at:.0f} s")
        if silent_seconds is not None and now - self.data_at > silent_seconds:
            return Overdue("silent", f"no data for {now - self.data_at:.0f} s, pings answered")
        if self.ping_at is not None and now - self.ping_at > PING_ANSWER_SECONDS:
            return Overdue("ping_timeout", f"a ping unanswered for {now - self.ping_at:.0f} s")
        if self.stuck_since is not None and now - self.stuck_since > SEND_SECONDS:
            return Overdue("send_timeout", f"a send stuck for {now - self.stuck_since:.0f} s")
        return None
