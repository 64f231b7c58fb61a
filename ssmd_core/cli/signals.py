"""Decides what a signal does before there is anything to drain, and after all is drained.

In between the connector listens. A program that has received nothing may simply end;
as process 1 of a container it would not even do that by itself.
"""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Callable
from types import FrameType

__all__ = ["Signals", "signals"]

_NUMBERS = (signal.SIGTERM, signal.SIGINT)


class Signals:
    """The dispositions of SIGTERM and SIGINT of this process, once it is ours."""

    def __init__(self) -> None:
        self._ours = False
        self._farewell: Callable[[], object] | None = None

    def end_at_once(self) -> None:
        """From now on a signal ends the process with 0. Called by the console script only."""
        self._ours = True
        for number in _NUMBERS:
            signal.signal(number, self._end)

    def say(self, farewell: Callable[[], object]) -> None:
        """Call this before such an end."""
        self._farewell = farewell

    def interrupt(self) -> None:
        """From now on both raise KeyboardInterrupt, as asyncio knows how to handle."""
        if self._ours:
            signal.signal(signal.SIGINT, signal.default_int_handler)
            signal.signal(signal.SIGTERM, lambda *_: signal.raise_signal(signal.SIGINT))

    def ignore(self) -> None:
        """All is said and done: a late signal must not turn it into something else."""
        if self._ours:
            for number in _NUMBERS:
                signal.signal(number, signal.SIG_IGN)

    def _end(self, _number: int, _frame: FrameType | None) -> None:
        if self._farewell is not None:
            with contextlib.suppress(Exception):
                self._farewell()
        os._exit(0)


signals = Signals()
"""Those of this process."""
