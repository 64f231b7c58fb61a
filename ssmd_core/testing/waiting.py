"""Decides when a test has waited long enough for what it observes from outside."""

from __future__ import annotations

import inspect
from collections.abc import Callable

import anyio

__all__ = ["until"]

_POLL_SECONDS = 0.01


async def until(condition: Callable[[], object], seconds: float = 20.0) -> None:
    """Return once a condition holds, a plain one or one to be awaited, asking again and again.

    Raises:
        TimeoutError: it did not within ``seconds``.
    """
    with anyio.fail_after(seconds):
        while True:
            answer = condition()
            if inspect.isawaitable(answer):
                answer = await answer
            if answer:
                return
            await anyio.sleep(_POLL_SECONDS)
