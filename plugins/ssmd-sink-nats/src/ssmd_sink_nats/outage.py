"""Decides what is told of a bus that is away: the latest that is known, and how old it is."""

from __future__ import annotations

import time
from collections.abc import Callable

__all__ = ["Outage"]

_SHORT_SECONDS = 1.0
"""What is younger needs no age."""


class Outage:
    """Why there is no connection, and what is being done about it; falsy while there is one.

    Args:
        fault: what is known at the beginning.
        monotonic: seconds that never go back.
    """

    def __init__(self, fault: str, *, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self.fault = fault
        """What was found last, and empty while there is a connection."""
        self._found_at = monotonic()
        self._next_at: float | None = None
        self._dialing_since: float | None = None

    def __bool__(self) -> bool:
        """Say whether there is no connection."""
        return bool(self.fault)

    def find(self, fault: str) -> None:
        """Take a new fact: whatever was known before is over."""
        self.fault, self._found_at = fault, self._monotonic()
        self._next_at = self._dialing_since = None

    def wait(self, seconds: float) -> None:
        """Take note that nothing is tried for so long."""
        self._next_at = self._monotonic() + seconds

    def dial(self) -> None:
        """Take note that a connection is tried from here on."""
        self._next_at, self._dialing_since = None, self._monotonic()

    def told(self, servers: str) -> str:
        """Return what stands now, in one sentence."""
        now = self._monotonic()
        if self._dialing_since is not None and now - self._dialing_since >= _SHORT_SECONDS:
            seconds = now - self._dialing_since
            silent = f"{servers} gives a new connection no answer for {seconds:.0f} s"
            return f"{silent}; before that: {self.fault}"
        age = now - self._found_at
        if age < _SHORT_SECONDS:
            return self.fault
        if self._dialing_since is not None:
            return f"{self.fault} ({age:.0f} s ago, being tried again)"
        if self._next_at is not None:
            left = max(0.0, self._next_at - now)
            return f"{self.fault} ({age:.0f} s ago, tried again in {left:.0f} s)"
        return self.fault
