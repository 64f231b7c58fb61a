"""Decides what to do about an error code of Kalshi's, and how long to wait before it."""

from __future__ import annotations

import enum

__all__ = ["ENDS_SID", "Remedy", "remedy", "restart_seconds", "retry_seconds"]

_LONGEST_RETRY_SECONDS = 60.0
_LONGEST_RESTART_SECONDS = 30.0

ENDS_SID = frozenset({10, 17, 25})
"""Errors after which a subscription sends nothing more."""


class Remedy(enum.Enum):
    """What to do about a refusal."""

    LEAVE = "leave"
    """Nothing: the request was wrong and stays wrong. The host has it on record."""
    RETRY = "retry"
    """Ask again later."""
    SPLIT = "split"
    """Ask for fewer markets."""
    RESTART = "restart"
    """The subscription is dead: end it and subscribe again."""
    RESET = "reset"
    """The connection is of no use."""


_REMEDIES = {
    **dict.fromkeys((1, 2, 3, 4, 5, 6, 8, 11, 12, 13, 14, 15, 16), Remedy.LEAVE),
    **dict.fromkeys((19, 20, 21, 22, 23, 24, 28), Remedy.LEAVE),
    **dict.fromkeys((7, 10, 17, 25), Remedy.RESTART),
    **dict.fromkeys((18, 27), Remedy.RETRY),
    9: Remedy.RESET,
    26: Remedy.SPLIT,
}


def remedy(code: int | str) -> Remedy:
    """Return what to do about an error code; one not known is tried again later."""
    return _REMEDIES.get(code, Remedy.RETRY) if isinstance(code, int) else Remedy.RETRY


def retry_seconds(attempt: int) -> float:
    """Return how long to wait before the next attempt; the first is attempt 0."""
    return min(2.0 ** min(attempt, 10), _LONGEST_RETRY_SECONDS)


def restart_seconds(restarts: int) -> float:
    """Return how long to wait before a restart: none before the first in a minute."""
    return 0.0 if restarts == 0 else min(2.0 ** min(restarts - 1, 10), _LONGEST_RESTART_SECONDS)
