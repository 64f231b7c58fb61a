"""Decides when a waiting task looks again: whenever something changed."""

from __future__ import annotations

from collections.abc import Callable

import anyio

__all__ = ["Pulse"]


class Pulse:
    """Wakes everyone who waits for a condition, so that nobody polls."""

    def __init__(self) -> None:
        self._event = anyio.Event()

    def beat(self) -> None:
        """Let the waiting look again."""
        self._event.set()
        self._event = anyio.Event()

    async def wait(self, seconds: float) -> None:
        """Return at the next beat, or after ``seconds``."""
        event = self._event
        with anyio.move_on_after(seconds):
            await event.wait()

    async def until(self, condition: Callable[[], object]) -> None:
        """Return once the condition holds, looking at it again at every beat."""
        while not condition():
            await self._event.wait()
