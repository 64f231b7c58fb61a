"""The life of a connection: states, what moves them, and one walker."""

from __future__ import annotations

import enum

__all__ = ["Life", "State", "Step"]


class State(enum.Enum):
    """Where a connection stands."""

    IDLE = "idle"
    CONNECTING = "connecting"
    AUTHENTICATING = "authenticating"
    SUBSCRIBING = "subscribing"
    LIVE = "live"
    DRAINING = "draining"
    CLOSED = "closed"


class Step(enum.Enum):
    """What moves it."""

    DIAL = "dial"
    REACHED = "reached"
    ACCEPTED = "accepted"
    ANSWERED = "answered"
    """Every subscription asked for was confirmed or refused."""
    ASKED = "asked"
    """A subscription was asked for again."""
    STOP = "stop"
    END = "end"


_TABLE: dict[tuple[State, Step], State] = {
    (State.IDLE, Step.DIAL): State.CONNECTING,
    (State.CONNECTING, Step.REACHED): State.AUTHENTICATING,
    (State.AUTHENTICATING, Step.ACCEPTED): State.SUBSCRIBING,
    (State.SUBSCRIBING, Step.ASKED): State.SUBSCRIBING,
    (State.SUBSCRIBING, Step.ANSWERED): State.LIVE,
    (State.LIVE, Step.ANSWERED): State.LIVE,
    (State.LIVE, Step.ASKED): State.SUBSCRIBING,
    (State.SUBSCRIBING, Step.STOP): State.DRAINING,
    (State.LIVE, Step.STOP): State.DRAINING,
    **{(state, Step.END): State.CLOSED for state in State},
}


class Life:
    """One connection's walk through the table."""

    __slots__ = ("state",)

    def __init__(self) -> None:
        self.state = State.IDLE

    def step(self, step: Step) -> State:
        """Move on and return the new state.

        Raises:
            RuntimeError: the table has no such move; a bug of ours, never the venue's.
        """
        try:
            self.state = _TABLE[self.state, step]
        except KeyError:
            raise RuntimeError(
                f"a connection that is {self.state.value} cannot {step.value}"
            ) from None
        return self.state
