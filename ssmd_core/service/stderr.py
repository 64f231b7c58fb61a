"""How a log line reaches standard error without ever stopping or failing the capture."""

from __future__ import annotations

import os
import select

__all__ = ["LineWriter"]

_CHUNK = 4096
"""What a pipe that polls as writable takes without blocking (PIPE_BUF)."""
_PATIENCE_MS = 100


class LineWriter:
    """Write lines to a descriptor, and count those that it did not take.

    Whoever reads the other end may be gone (EPIPE) or asleep (a stopped terminal, a full
    pipe). Neither may cost a frame: a line that is not taken within 0.1 s is given up,
    those after it at once, until one is taken again.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._poll = select.poll()
        self._poll.register(descriptor, select.POLLOUT)
        self._lost = 0
        self._torn = False

    def write(self, line: bytes) -> bool:
        """Write a line, which ends in a newline, and say whether it was taken whole."""
        rest = b"\n" + line if self._torn else line
        patience_ms = 0 if self._lost else _PATIENCE_MS
        try:
            while rest and self._poll.poll(patience_ms):
                written = os.write(self._descriptor, rest[:_CHUNK])
                rest = rest[written:]
                self._torn = bool(rest)
        except OSError:
            pass
        self._lost += bool(rest)
        return not rest

    def take_lost(self) -> int:
        """Return how many lines were given up since this was last asked."""
        lost, self._lost = self._lost, 0
        return lost
