"""Reads answers along with what is written, while that happens often: a wake-up for both."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable

__all__ = ["Patience"]

_OFTEN_SECONDS = 0.002
_LONGEST_SECONDS = 0.005
"""Then it is seen whether anything was written since; if not, the event loop reads on."""
_FEW_BYTES = 2_048
"""Whoever gets more answers at once is not woken for each."""


class Patience:
    """Decides when the socket of a connection is read.

    At some thousand messages a second the server answers each before the next one is written,
    so that every answer wakes the process for nothing else. Nobody waits for it: while messages
    follow each other closely, the socket is left to the next one that is written.

    Args:
        buffer: where bytes are read to.
        take: called with how many came.
    """

    def __init__(self, buffer: memoryview, take: Callable[[int], None]) -> None:
        self._buffer = buffer
        self._take = take
        self._loop = asyncio.get_running_loop()
        self._wrote_at = 0.0
        self._is_often = False
        self._transport: asyncio.Transport | None = None
        """Whom reading was taken from; None while the event loop reads."""
        self._timer: asyncio.TimerHandle | None = None
        self._look_due = False
        self._fd = -1

    def wrote(self, *, waits: bool) -> None:
        """Take note that something was written; ``waits``: somebody needs the answer."""
        now = self._loop.time()
        self._is_often = not waits and now - self._wrote_at < _OFTEN_SECONDS
        self._wrote_at = now
        if self._transport is None:
            return
        if waits:
            self.end()
        elif not self._look_due:
            # Not from here: an answer makes room, and room makes whoever writes write more.
            self._look_due = True
            self._loop.call_soon(self._look)

    def heard(self, transport: asyncio.Transport, read_bytes: int) -> None:
        """Take note that the event loop read so many bytes; perhaps it need not go on."""
        if not self._is_often or read_bytes >= _FEW_BYTES or self._transport is not None:
            return
        if transport.is_closing() or transport.get_extra_info("ssl_object") is not None:
            return
        transport.pause_reading()
        self._transport = transport
        self._fd = transport.get_extra_info("socket").fileno()
        self._timer = self._loop.call_later(_LONGEST_SECONDS, self._watch, self._wrote_at)

    def end(self) -> None:
        """Let the event loop read."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        transport, self._transport = self._transport, None
        if transport is not None and not transport.is_closing():
            transport.resume_reading()

    def _look(self) -> None:
        """Read what came until now."""
        self._look_due = False
        if self._transport is None or self._transport.is_closing():
            return
        count = _pull(self._fd, self._buffer)
        if count >= _FEW_BYTES:
            self.end()
        if count:
            self._take(count)

    def _watch(self, wrote_at: float) -> None:
        if self._wrote_at == wrote_at:
            self.end()
        else:
            self._timer = self._loop.call_later(_LONGEST_SECONDS, self._watch, self._wrote_at)


def _pull(fd: int, buffer: memoryview) -> int:
    """Read what a paused socket has; 0 where that is nothing, its end or a fault."""
    try:
        return os.readv(fd, [buffer])
    except OSError:
        return 0  # whatever it is, the transport meets it again
