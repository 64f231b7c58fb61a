"""What the bus has against our messages: for ever or for now, and when to try again."""

from __future__ import annotations

from ssmd_sink_nats.cluster import backoff_seconds
from ssmd_sink_nats.protocol import Nack

__all__ = ["Caution", "Objection", "never_taken"]

_OVERLOADED = 10167
"""The server's queue for the stream is full: slow, not broken."""
_PATIENT_RETRIES = 5
"""So often in a row an overloaded server may say no before it counts as a fault."""
_CALM_SECONDS = 5.0
_LONGEST_CALM_SECONDS = 320.0
_RELAPSE_SECONDS = 60.0
_NEVER = frozenset({10054, 10097})
"""The message or its headers are larger than the stream takes."""


def never_taken(nack: Nack) -> bool:
    """Say whether this very message would be turned down for ever."""
    return nack.err_code in _NEVER


class Objection:
    """The reason messages are turned down at present, and how often they were tried again."""

    __slots__ = ("_overloaded", "_reason", "_retries")

    def __init__(self) -> None:
        self._reason = ""
        self._overloaded = False
        self._retries = 0

    def __bool__(self) -> bool:
        return bool(self._reason)

    @property
    def lasting(self) -> bool:
        """Whether there is one, and for another reason than load."""
        return bool(self._reason) and not self._overloaded

    @property
    def fault(self) -> str:
        """What to tell the operator; empty without one, and for a while under load."""
        patient = self._overloaded and self._retries <= _PATIENT_RETRIES
        return "" if patient else self._reason

    def note(self, nack: Nack) -> None:
        """Remember the latest answer of the kind."""
        self._overloaded = nack.err_code == _OVERLOADED
        code = nack.err_code or nack.code
        self._reason = f"it turns messages down: {nack.description} ({code})"

    def cut_off(self, reason: str) -> None:
        """Remember for what of ours the connection was cut; empty: for nothing."""
        self._reason, self._overloaded = reason, False

    def withdraw(self) -> None:
        """Forget it: messages are taken again."""
        self._reason, self._retries = "", 0

    def hurry(self) -> None:
        """Count the retries anew."""
        self._retries = 0

    def next_retry_seconds(self) -> float:
        """Count one more retry, and return how long to wait for it."""
        self._retries += 1
        return backoff_seconds(self._retries - 1, least=0.05, most=5.0)


class Caution:
    """How long after a refusal no subject may be twice on the way.

    Whoever is refused again soon after it ended is cautious for twice as long.
    """

    __slots__ = ("_seconds", "_until")

    def __init__(self) -> None:
        self._seconds = 0.0
        self._until = 0.0

    def note(self, now: float) -> None:
        """Count a refusal, in seconds of a monotonic clock."""
        if now >= self._until:
            relapsed = self._seconds and now < self._until + _RELAPSE_SECONDS
            longer = min(_LONGEST_CALM_SECONDS, 2 * self._seconds)
            self._seconds = longer if relapsed else _CALM_SECONDS
        self._until = now + self._seconds

    def over(self, now: float) -> bool:
        """Say whether all was quiet for long enough."""
        return now >= self._until
