"""Runs the tenth feed, the one that does its own I/O, with the same surface as a host."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import anyio

from ssmd_core.clock import NS
from ssmd_core.errors import ConnectionEnded
from ssmd_core.feed.contract import ConnectionPlan, Feed
from ssmd_core.feed.policy import Backoff
from ssmd_core.feed.ports import HostParts
from ssmd_core.feed.repair import Missed
from ssmd_core.feed.session import FeedSession
from ssmd_core.feed.states import State, Step
from ssmd_core.log import get_logger

__all__ = ["FeedRunner"]

_log = get_logger("ssmd.feed")


class FeedRunner:
    """One ``Feed``: restarted for ever with backoff. Also its ``FrameSender``."""

    def __init__(self, feed: Feed, parts: HostParts) -> None:
        self._feed = feed
        self._parts = parts
        self._backoff = Backoff(rng=parts.rng)
        self._sessions: dict[int, FeedSession] = {}
        self._running = False
        self._trouble = "not started yet"
        self._stop = anyio.Event()
        self._open_gate = anyio.Event()
        self._open_gate.set()

    async def run(self) -> None:
        """Capture until ``stop``."""
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._keep_running)
            await self._stop.wait()
            tasks.cancel_scope.cancel()

    async def send(
        self, frames: Sequence[bytes], *, conn: int = 0, binary: frozenset[int] = frozenset()
    ) -> None:
        """Take frames in order of receipt; waits while the sinks cannot keep up.

        After ``stop`` nothing is taken, and nothing is said: ``run`` is being cancelled.
        """
        await self._open_gate.wait()
        if self._stop.is_set() or not frames:
            return
        self._parts.metrics.received_bytes += sum(map(len, frames))
        self._parts.metrics.last_activity_ns = self._parts.clock.wall_ns()
        self._session(conn).on_frames(list(frames), binary)

    def pause(self) -> None:
        """Let ``send`` wait."""
        if self._open_gate.is_set():
            self._open_gate = anyio.Event()

    def resume(self) -> None:
        """Let ``send`` go on."""
        self._open_gate.set()

    def stop(self) -> None:
        """Take nothing more and end the sessions."""
        self._end_sessions(ConnectionEnded("stopped"))
        self._stop.set()

    async def close(self, within_seconds: float) -> None:
        """Nothing is open here: the feed closed its own when it was cancelled."""

    def carry(self) -> None:
        """Write the open sessions into a new day's ledger."""
        for session in self._sessions.values():
            session.carry()

    def miss(self, from_ts: int, to_ts: int) -> None:
        """Leave it to the feed: nobody else can ask its venue."""

    def connected(self) -> bool:
        """Say whether the feed runs."""
        return self._running

    def reasons(self) -> Iterator[str]:
        """Say why data is not captured as asked."""
        if not self._running:
            yield f"the feed does not run: {self._trouble}"

    def degraded(self) -> Iterator[str]:
        """Say nothing: what is normal for this feed only the feed knows."""
        return iter(())

    def status(self) -> list[dict[str, Any]]:
        """Return each session for ``/status``."""
        return [
            {"conn": conn, "session": s.id, "state": s.life.state.value, "frames": s.frames}
            for conn, s in self._sessions.items()
        ]

    async def _keep_running(self) -> None:
        while True:
            began = self._parts.clock.monotonic_ns()
            why = await self._run_once()
            self._running = False
            self._trouble = str(why)
            self._end_sessions(why)
            self._parts.metrics.reconnects.add(why.cause)
            wait = self._backoff.next_seconds((self._parts.clock.monotonic_ns() - began) / NS)
            _log.warning("the feed ended", why=str(why), retry_seconds=wait)
            await anyio.sleep(wait)

    async def _run_once(self) -> ConnectionEnded:
        self._running = True
        try:
            await self._feed.run(self)
        except ConnectionEnded as why:
            return why
        except Exception as error:  # noqa: BLE001  a stranger's code; it is started again
            _log.exception("the feed failed")
            return ConnectionEnded("feed_error", repr(error))
        return ConnectionEnded("feed_ended", "run returned")

    def _session(self, conn: int) -> FeedSession:
        session = self._sessions.get(conn)
        if session is None:
            parts = self._parts
            plan = ConnectionPlan(conn=conn, silent_seconds=None)
            session = FeedSession(
                self._feed, plan, parts.intake, parts.receipt, parts.metrics, skims=parts.skims
            )
            for step in (Step.DIAL, Step.REACHED):
                session.life.step(step)
            session.open(_NoWire(parts), "")
            self._sessions[conn] = session
        return session

    def _end_sessions(self, why: ConnectionEnded) -> None:
        for session in self._sessions.values():
            if session.life.state in {State.SUBSCRIBING, State.LIVE}:
                session.close(why)
        self._sessions.clear()


class _NoWire:
    """The wire of a feed that does its own I/O: wishes to the host make no sense there."""

    def __init__(self, parts: HostParts) -> None:
        self._parts = parts

    def send(self, data: bytes) -> None:
        _log.error("this feed does its own I/O, the host sends nothing", size=len(data))

    def abort(self, why: ConnectionEnded) -> None:
        _log.error("this feed does its own I/O, the host resets nothing", why=str(why))

    def call_later(self, seconds: float, name: str) -> None:  # noqa: ARG002  not kept
        _log.error("this feed does its own I/O, the host keeps no timers", timer=name)

    def repair(self, missed: Missed) -> None:
        """Leave it to the feed: what it fetches comes through ``send``."""

    def mask(self, text: str) -> str:
        return text

    def monotonic(self) -> float:
        return self._parts.clock.monotonic_ns() / NS
