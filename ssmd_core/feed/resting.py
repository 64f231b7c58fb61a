"""Leaves a socket alone for a while after a read: what comes meanwhile is one wake-up."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable

__all__ = ["Rest"]

_MUCH_BYTES = 64 * 1024
"""Who brings so much at once is read on at once: wake-ups cost little by then."""
_MOST_KEPT_BYTES = 1024 * 1024


class Rest:
    """The pauses of one connection.

    While they last the descriptor is read here, by the clock: to let the event loop wait for it
    anew each time would cost as much as the wake-ups that are saved. Over TLS that cannot be
    done, and held back, its layer may lose what it has read when the venue goes without a word:
    there it goes on receiving, and what it hands over is kept.

    Args:
        seconds: how long one is.
        buffer: where bytes are read to.
        take: called with what came.
    """

    def __init__(self, seconds: float, buffer: memoryview, take: Callable[[bytes], None]) -> None:
        self._seconds = seconds
        self._buffer = buffer
        self._take = take
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self._fd = -1
        self._kept: list[bytes] = []
        self._kept_bytes = 0

    @property
    def lasts(self) -> bool:
        """Whether one has begun and is not over."""
        return self._timer is not None

    def begin(self, transport: asyncio.Transport, read_bytes: int) -> None:
        """Leave the socket alone, after a read of so many bytes."""
        if read_bytes >= _MUCH_BYTES or self.lasts or transport.is_closing():
            return
        if transport.get_extra_info("ssl_object") is None:
            transport.pause_reading()
            self._fd = transport.get_extra_info("socket").fileno()
            self._again(self._look, transport)
        else:
            self._again(self._hand_over)

    def keeps(self, data: bytes) -> bool:
        """Keep what was received all the same until the rest is over; say whether it was kept."""
        if not self.lasts:
            return False
        self._kept.append(data)
        self._kept_bytes += len(data)
        if self._kept_bytes >= _MOST_KEPT_BYTES:
            self.end()
        return True

    def end(self) -> None:
        """End it now. What was kept is taken; a plain socket is still left alone."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._kept:
            self._take_kept()

    def _take_kept(self) -> None:
        data = b"".join(self._kept)
        self._kept, self._kept_bytes = [], 0
        self._take(data)

    def _again(self, then: Callable[..., None], *arguments: asyncio.Transport) -> None:
        self._timer = self._loop.call_later(self._seconds, then, *arguments)

    def _hand_over(self) -> None:
        self._timer = None
        if self._kept:
            self._again(self._hand_over)  # first: to take it may end the rest
            self._take_kept()

    def _look(self, transport: asyncio.Transport) -> None:
        """Read what came. Let the event loop go on after nothing, after much, or at the end."""
        self._timer = None
        if transport.is_closing():
            return
        count = _pull(self._fd, self._buffer)
        if not 0 < count < _MUCH_BYTES:
            transport.resume_reading()
        else:
            self._again(self._look, transport)
        if count:
            self._take(bytes(self._buffer[:count]))


def _pull(fd: int, buffer: memoryview) -> int:
    """Read what a paused socket has; 0 where that is nothing, its end or a fault."""
    try:
        return os.readv(fd, [buffer])
    except OSError:
        return 0  # whatever it is, the transport meets it again
