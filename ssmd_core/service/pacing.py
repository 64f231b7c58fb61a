"""Decides when a recorded frame is due again."""

from __future__ import annotations

import re

from ssmd_core.clock import NS
from ssmd_core.errors import UsageError

__all__ = ["Pacer", "read_speed"]

_FACTOR = re.compile(r"(\d+(?:\.\d+)?|\.\d+)x")


def read_speed(text: str) -> float | None:
    """Return the factor of ``1x``, ``10x`` or ``0.5x``, None for ``max``.

    Raises:
        UsageError: it is none of these.
    """
    if text == "max":
        return None
    match = _FACTOR.fullmatch(text)
    factor = float(match[1]) if match else 0.0
    if factor <= 0:
        raise UsageError(f"--speed `{text}` is no speed; write max, or a factor as 1x, 10x or 0.5x")
    return factor


class Pacer:
    """Deadlines by receipt time, all from one beginning: being late once delays nothing else."""

    def __init__(self, factor: float | None) -> None:
        self._factor = factor
        self._first_ts: int | None = None
        self._began = 0.0

    def wait_seconds(self, ts: int, now: float) -> float:
        """Return how long to wait before the frame of ``ts``; 0 when it is due.

        Args:
            ts: receipt time; the first one asked for is due at once.
            now: monotonic seconds.
        """
        if self._factor is None:
            return 0.0
        if self._first_ts is None:
            self._first_ts, self._began = ts, now
        due = self._began + (ts - self._first_ts) / NS / self._factor
        return max(0.0, due - now)
