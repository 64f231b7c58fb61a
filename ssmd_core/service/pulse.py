"""Whether the process is alive: beats that must come in time, and a thread that sees them stop.

Alive means that the event loop turns and the components inside it do. The venue, the
bus, the disk and market hours have no say, for a restart mends none of them.
"""

from __future__ import annotations

import contextvars
import enum
import logging
import sys
import threading
import traceback
from collections.abc import Iterable
from dataclasses import dataclass

import anyio
import anyio.abc

from ssmd_core.clock import NS, Clock, SystemClock
from ssmd_core.sink import Health

__all__ = ["Beat", "Finding", "Pulse", "Watchdog", "judge", "stacks"]

_LOOP = "event loop"
_MAX_FRAMES = 40

_log = logging.getLogger(__name__)


@dataclass(slots=True, eq=False)
class Beat:
    """A sign of life of one component. Calling it costs a clock read and a store."""

    name: str
    limit_seconds: float
    clock: Clock
    last_ns: int

    def __call__(self) -> None:
        """Say that the component is alive."""
        self.last_ns = self.clock.monotonic_ns()

    def silent_seconds(self, now_ns: int) -> float:
        """Return for how long nothing was said."""
        return max(0, now_ns - self.last_ns) / NS


def judge(beats: Iterable[Beat], now_ns: int) -> Health:
    """Say whether every beat came within its limit, and name those that did not."""
    late = [
        f"{beat.name}: no sign of life for {beat.silent_seconds(now_ns):.1f} s, "
        f"the limit is {beat.limit_seconds:g} s"
        for beat in beats
        if beat.silent_seconds(now_ns) > beat.limit_seconds
    ]
    return Health(ok=not late, reason="; ".join(late))


class Finding(enum.Enum):
    """What a look at the event loop found."""

    NOTHING_NEW = "nothing new"
    WEDGED = "wedged"
    TURNS_AGAIN = "turns again"


class Watchdog:
    """Tell every wedge of the event loop once, and its end once."""

    def __init__(self, limit_seconds: float) -> None:
        self._limit_seconds = limit_seconds
        self._wedged = False

    def look(self, silent_seconds: float, away_seconds: float) -> Finding:
        """Judge the loop's silence; ``away_seconds`` is how long since the last look.

        A watchdog that was away as long as the loop saw the whole process stand still
        (suspended, stopped by a signal): the loop is given the time to speak first.
        """
        late = silent_seconds > self._limit_seconds
        if late and not self._wedged and away_seconds < self._limit_seconds:
            self._wedged = True
            return Finding.WEDGED
        if self._wedged and not late:
            self._wedged = False
            return Finding.TURNS_AGAIN
        return Finding.NOTHING_NEW


class Pulse:
    """The signs of life of one process."""

    def __init__(
        self,
        clock: Clock | None = None,
        *,
        limit_seconds: float = 10.0,
        stamp_seconds: float = 1.0,
    ) -> None:
        """``limit_seconds`` is how long the event loop may stand still."""
        self._clock = clock or SystemClock()
        self._limit_seconds = limit_seconds
        self._stamp_seconds = stamp_seconds
        self._beats: tuple[Beat, ...] = ()

    def watch(self, name: str, limit_seconds: float) -> Beat:
        """Expect a sign of life of ``name`` every ``limit_seconds`` from now on.

        Returns what the component calls to give it.
        """
        beat = Beat(name, limit_seconds, self._clock, self._clock.monotonic_ns())
        self._beats = (*self._beats, beat)
        return beat

    def unwatch(self, beat: Beat) -> None:
        """Expect nothing more of a component that ended as it should."""
        self._beats = tuple(held for held in self._beats if held is not beat)

    def alive(self) -> Health:
        """Say whether every watched component gave its sign in time."""
        return judge(self._beats, self._clock.monotonic_ns())

    async def run(
        self, *, task_status: anyio.abc.TaskStatus[None] = anyio.TASK_STATUS_IGNORED
    ) -> None:
        """Stamp the event loop's beat until cancelled, watched by a thread outside it."""
        beat = self.watch(_LOOP, self._limit_seconds)
        ended = threading.Event()
        # The context carries the fields that log lines are to have.
        context = contextvars.copy_context()
        threading.Thread(
            target=context.run, args=(self._guard, beat, ended), name="ssmd-pulse", daemon=True
        ).start()
        task_status.started()
        try:
            while True:
                beat()
                await anyio.sleep(self._stamp_seconds)
        finally:
            ended.set()
            self.unwatch(beat)

    def _guard(self, beat: Beat, ended: threading.Event) -> None:
        watchdog = Watchdog(beat.limit_seconds)
        looked_ns = self._clock.monotonic_ns()
        while not ended.wait(self._stamp_seconds):
            now_ns = self._clock.monotonic_ns()
            away_seconds, looked_ns = (now_ns - looked_ns) / NS, now_ns
            silent_seconds = beat.silent_seconds(now_ns)
            match watchdog.look(silent_seconds, away_seconds):
                case Finding.WEDGED:
                    fields = {"silent_seconds": round(silent_seconds, 1), "stacks": stacks()}
                    _log.error("event loop stands still", extra=fields)
                case Finding.TURNS_AGAIN:
                    _log.warning("event loop turns again")
                case Finding.NOTHING_NEW:
                    pass


def stacks() -> dict[str, str]:
    """Return where each thread stands, by the thread's name: source lines, no values."""
    names = {thread.ident: thread.name for thread in threading.enumerate()}
    return {
        names.get(ident, str(ident)): "".join(traceback.format_stack(frame)[-_MAX_FRAMES:])
        for ident, frame in sys._current_frames().items()  # noqa: SLF001  the documented way
    }
