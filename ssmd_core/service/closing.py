"""Decides how the seconds of a stop are shared, and when a stop that hangs is ended by force."""

from __future__ import annotations

import threading
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import anyio

from ssmd_core.log import get_logger

__all__ = ["Closer", "Shares", "Stop", "close_all", "share"]

_log = get_logger("ssmd")
_LEAST_SECONDS = 4.0
"""However short the limit is set, files and sockets are given so long to close."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Shares:
    """What each part of a stop may take, at most. Together they stay within the limit."""

    drain_seconds: float
    archive_seconds: float
    """At least so long to close files, compress and upload; more where draining left it."""
    close_seconds: float
    """For the bus, and for the venue."""
    spare_seconds: float
    """For what comes before and after."""


def share(limit_seconds: float, *, archived: bool = True) -> Shares:
    """Share a limit: a quarter for an archive, something for peers, the rest for draining."""
    whole = max(limit_seconds, _LEAST_SECONDS)
    close = min(1.0, whole / 8)
    spare = min(0.5, whole / 8)
    archive = whole / 4 if archived else 0.0
    drain = limit_seconds - min(archive, limit_seconds / 4) - 2 * close - spare
    return Shares(
        drain_seconds=max(0.0, drain),
        archive_seconds=archive,
        close_seconds=close,
        spare_seconds=spare,
    )


class Stop:
    """The seconds of one stop, counted from its first sign.

    Args:
        limit_seconds: after which nothing may be left.
        monotonic: seconds that never go back.
        force: ends the process; called in a thread of its own, when the limit has passed.
        archived: there are files to close.
    """

    def __init__(
        self,
        limit_seconds: float,
        *,
        monotonic: Callable[[], float],
        force: Callable[[], None],
        archived: bool = True,
    ) -> None:
        self.shares = share(limit_seconds, archived=archived)
        self._whole_seconds = max(limit_seconds, _LEAST_SECONDS)
        self._monotonic = monotonic
        self._force = force
        self._began: float | None = None
        self._timer: threading.Timer | None = None

    def begin(self) -> None:
        """Count from now, unless it began before."""
        if self._began is not None:
            return
        self._began = self._monotonic()
        # A thread, because a call that hangs on a disk may hold the event loop, or the
        # cancellation that is to end it.
        self._timer = threading.Timer(self._whole_seconds, self._force)
        self._timer.daemon = True
        self._timer.start()

    def archive_seconds(self) -> float:
        """Return how long the archive may take to close: what the peers after it leave."""
        began = self._monotonic() if self._began is None else self._began
        left = self._whole_seconds - (self._monotonic() - began)
        reserved = 2 * self.shares.close_seconds + self.shares.spare_seconds / 2
        return max(self.shares.archive_seconds, left - reserved)

    def end(self) -> None:
        """Nothing is left to wait for."""
        if self._timer is not None:
            self._timer.cancel()


@dataclass(frozen=True, slots=True, kw_only=True)
class Closer:
    """One part that is to be closed."""

    part: str
    close: Callable[[], Awaitable[None]]
    seconds: float


async def close_all(closers: list[Closer]) -> Exception | None:
    """Close in order, each within its time; return what failed first."""
    fault: Exception | None = None
    for closer in closers:
        with anyio.move_on_after(closer.seconds, shield=True) as scope:
            try:
                await closer.close()
            except Exception as error:  # noqa: BLE001  the others are closed all the same
                _log.exception("a part could not be closed", part=closer.part)
                fault = fault or error
        if scope.cancelled_caught:
            _log.warning(
                "a part could not be closed in time, the next start goes on with it",
                part=closer.part,
                seconds=round(closer.seconds, 1),
            )
    return fault
