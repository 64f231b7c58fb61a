"""Keeps one connection plan up: dial, watch, reconnect, for ever.

The watchdog is a task of its own, outside the task that it watches, and its
deadlines are absolute.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Protocol
from urllib.parse import urlsplit, urlunsplit

import anyio
from anyio.abc import TaskGroup

from ssmd_core.clock import NS, iso
from ssmd_core.errors import ConnectionEnded, CredentialsRefused
from ssmd_core.feed.contract import ConnectionPlan, Endpoint, Verdict, WebSocketFeed
from ssmd_core.feed.dialing import dial
from ssmd_core.feed.policy import PING_EVERY_SECONDS, Backoff, Liveness, Overdue, SilencePatience
from ssmd_core.feed.ports import HostParts
from ssmd_core.feed.repair import Missed
from ssmd_core.feed.session import FeedSession
from ssmd_core.feed.states import State, Step
from ssmd_core.feed.subscriptions import Refusal
from ssmd_core.feed.websocket import Connection
from ssmd_core.log import get_logger

__all__ = ["Group", "Link"]

_log = get_logger("ssmd.feed")
_REFUSED_RETRY_SECONDS = 15.0
_WATCH_SECONDS = 0.25
_HELD_UP_SECONDS = 2 * _WATCH_SECONDS
"""A look that comes so late says more of this process than of the venue."""
_QUIET_SECONDS = 60.0


class Group(Protocol):
    """What a link must know of the links beside it."""

    paused: bool
    accepted_once: bool
    """A venue that accepted us before and refuses now gets slow retries, not exit 3."""

    stopped: bool
    """Whether nothing is taken any more."""

    def give_up(self, error: CredentialsRefused) -> None:
        """End the run of all links with this error."""
        ...

    def repair(self, missed: Missed) -> None:
        """Bring back what a channel missed, where the feed can."""
        ...


class Link:
    """One connection plan, through all its sessions.

    ``covered_until`` says of channels captured before until which receipt time they were:
    what was missed since is brought back once they are captured again.
    """

    def __init__(
        self,
        feed: WebSocketFeed,
        plan: ConnectionPlan,
        parts: HostParts,
        host: Group,
        covered_until: Mapping[str, int],
    ) -> None:
        self.plan = plan
        self._covered_until = covered_until
        self._feed = feed
        self._parts = parts
        self._host = host
        self._backoff = Backoff(rng=parts.rng)
        self._patience = SilencePatience(plan.silent_seconds)
        self._tasks: TaskGroup | None = None
        self._liveness: Liveness | None = None
        self._trouble = "not connected yet"
        self._heard_bytes = 0
        self._life_seen = (0, 0)
        """Bytes heard and data frames, as the watchdog saw them last."""
        self.connection: Connection | None = None
        self.session = self._new_session()

    # ── life ─────────────────────────────────────────────────────────────────────

    async def run(self, tasks: TaskGroup) -> None:
        """Capture until cancelled; ``tasks`` keeps the timers of the feed."""
        self._tasks = tasks
        while True:
            live_from = self.monotonic()
            why = await self._connect_and_capture()
            live_seconds = self.monotonic() - live_from if self.session.frames else 0.0
            self.session.close(why)
            self._covered_until = self.session.covered_until()
            self.connection = None
            self._trouble = str(why)
            self._parts.metrics.reconnects.add(why.cause)
            if why.cause == "silent":
                self._patience.grow()
            wait = self._wait_for(why, live_seconds)
            if self._host.stopped:
                return
            _log.warning("connection ended", conn=self.plan.conn, why=str(why), retry_seconds=wait)
            await anyio.sleep(wait)
            self.session = self._new_session()

    def _wait_for(self, why: ConnectionEnded, live_seconds: float) -> float:
        if self._verdict(why) is Verdict.FATAL:
            self._parts.metrics.refusals += 1
            if not self._host.accepted_once:
                error = CredentialsRefused(
                    f"the venue refused the credentials: {why.detail}; check that the key belongs "
                    "to this venue, and that this machine's clock is right"
                )
                self._host.give_up(error)
            return max(_REFUSED_RETRY_SECONDS, self._backoff.next_seconds())
        return self._backoff.next_seconds(live_seconds)

    def _verdict(self, why: ConnectionEnded) -> Verdict:
        try:
            return self._feed.classify(why)
        except Exception:  # noqa: BLE001  a feed's fault must not end the others
            _log.exception("the feed could not judge a failure", conn=self.plan.conn)
            return Verdict.RETRY

    async def _connect_and_capture(self) -> ConnectionEnded:
        try:
            endpoint = self._feed.endpoint(self.plan)
            connection = await self._dial(endpoint)
        except ConnectionEnded as why:
            return why
        except Exception as error:  # noqa: BLE001  a feed's fault must not end the others
            _log.exception("the feed could not say where to connect", conn=self.plan.conn)
            return ConnectionEnded("feed_error", repr(error))
        return await self._capture(connection, _public_url(endpoint.url))

    async def _dial(self, endpoint: Endpoint) -> Connection:
        life = self.session.life
        life.step(Step.DIAL)
        connection = await dial(
            endpoint,
            self,
            on_reached=lambda: life.step(Step.REACHED),
            read_every_seconds=self._parts.read_every_seconds,
        )
        self._host.accepted_once = True
        return connection

    async def _capture(self, connection: Connection, url: str) -> ConnectionEnded:
        self.connection = connection
        self._liveness = Liveness(self.plan.stale_seconds, self.monotonic())
        self._parts.metrics.last_activity_ns = self._parts.clock.wall_ns()
        self.set_paused()
        try:
            self.session.open(self, url)
            connection.start()
            async with anyio.create_task_group() as watch:
                watch.start_soon(self._watch, connection)
                why = await connection.wait_ended()
                watch.cancel_scope.cancel()
        except Exception as error:  # noqa: BLE001  whatever failed, capture goes on anew
            _log.exception("the session failed", conn=self.plan.conn)
            why = ConnectionEnded("internal", repr(error))
            connection.abort(why)
        return why

    async def _watch(self, connection: Connection) -> None:
        """Look at the clocks four times a second, outside the connection's own callbacks."""
        beat = self._feed.heartbeat
        self._life_seen = (self._heard_bytes, self.session.data_frames)
        next_ping = self.monotonic() + PING_EVERY_SECONDS
        next_beat = self.monotonic() + beat.every_seconds if beat else float("inf")
        while True:
            slept_from = self.monotonic()
            await anyio.sleep(_WATCH_SECONDS)
            if self.monotonic() - slept_from > _HELD_UP_SECONDS:
                await anyio.sleep(_WATCH_SECONDS)  # frozen: what waits in the socket is read first
            now = self.monotonic()
            self._note_life(now)
            overdue = self._overdue(connection, now)
            if overdue is not None:
                self._declare_stale(overdue.cause, overdue.detail)
                connection.abort(ConnectionEnded(overdue.cause, overdue.detail))
                return
            self.session.on_tick(now)
            if now >= next_ping:
                connection.ping()
                self._note_ping(now)
                next_ping = now + PING_EVERY_SECONDS
            if beat and now >= next_beat:
                connection.send(beat.payload)
                next_beat = now + beat.every_seconds

    def _overdue(self, connection: Connection, now: float) -> Overdue | None:
        live = self._liveness
        if live is None:
            return None
        if self._host.paused:
            # We do not read, so the venue's silence is our own doing.
            live.bytes_at = live.data_at = now
            live.ping_at = None
            return None
        if connection.unsent_bytes() == 0:
            live.stuck_since = None
        elif live.stuck_since is None:
            live.stuck_since = now
        silent = self._patience.current() if self.session.life.state is State.LIVE else None
        return live.overdue(now, silent)

    def _note_life(self, now: float) -> None:
        """Look what came since the last look, so that nothing need be timed as it comes."""
        seen, self._life_seen = self._life_seen, (self._heard_bytes, self.session.data_frames)
        if self._liveness is None or self._life_seen == seen:
            return
        self._liveness.bytes_at = now
        self._parts.metrics.last_activity_ns = self._parts.clock.wall_ns()
        if self._life_seen[1] != seen[1]:
            self._liveness.data_at = now
            self._patience.reset()

    def _declare_stale(self, cause: str, detail: str) -> None:
        self._parts.intake.report(
            "stale",
            session=self.session.id,
            conn=self.plan.conn,
            cause=cause,
            detail=detail,
            last_ts=iso(self.session.last_ts) if self.session.last_ts else None,
        )

    def _note_ping(self, now: float) -> None:
        if self._liveness is not None and self._liveness.ping_at is None:
            self._liveness.ping_at = now

    def set_paused(self) -> None:
        """Bring the socket in line with the host's pause."""
        if self.connection is None:
            return
        if self._host.paused:
            self.connection.pause()
        else:
            self.connection.resume()

    def stop(self) -> None:
        """Read no more; the session ends here."""
        if self.connection is not None:
            self.connection.pause()
        if self.session.life.state in {State.SUBSCRIBING, State.LIVE}:
            self.session.life.step(Step.STOP)
        self.session.close(ConnectionEnded("stopped", code=1000))

    def miss(self, from_ts: int, to_ts: int) -> None:
        """Bring back what was received between two receipt times and given up."""
        session = self.session
        # Whoever waits for its next session missed it, too.
        for channel in session.covered_until():
            missed = Missed(
                channel=channel,
                from_ts=from_ts - session.lag.ns,
                to_ts=to_ts,
                markets=self.plan.markets,
            )
            self._host.repair(missed)

    # ── the driver's listener ────────────────────────────────────────────────────

    def on_bytes(self, count: int) -> None:
        """Note a sign of life."""
        self._parts.metrics.received_bytes += count
        self._heard_bytes += count

    def on_frames(self, frames: list[bytes], binary: frozenset[int]) -> None:
        """Hand the messages of a wake-up to the session."""
        if not self._host.stopped:
            self.session.on_frames(frames, binary)

    def on_pong(self) -> None:
        """Note that our ping was answered."""
        if self._liveness is not None:
            self._liveness.ping_at = None

    # ── the session's wire ───────────────────────────────────────────────────────

    def send(self, data: bytes) -> None:
        """Send a command of the feed."""
        if self.connection is not None:
            self.connection.send(data)

    def abort(self, why: ConnectionEnded) -> None:
        """Give the connection up; a new one follows."""
        if self.connection is not None:
            self.connection.abort(why)

    def call_later(self, seconds: float, name: str) -> None:
        """Fire a timer of the feed, unless the session is over by then."""
        session = self.session

        async def fire() -> None:
            await anyio.sleep(seconds)
            if session is self.session:
                session.on_timer(name)

        if self._tasks is not None:
            self._tasks.start_soon(fire)

    def repair(self, missed: Missed) -> None:
        """Bring back what a channel missed, where the feed can."""
        self._host.repair(missed)

    def mask(self, text: str) -> str:
        """Return what the venue said without the credentials that it was sent."""
        return self.connection.mask(text) if self.connection is not None else text

    def monotonic(self) -> float:
        """Monotonic seconds."""
        return self._parts.clock.monotonic_ns() / NS

    # ── what operators see ───────────────────────────────────────────────────────

    def reasons(self) -> Iterator[str]:
        """Say why this connection does not capture as asked."""
        name = f"connection {self.plan.conn}"
        match self.session.life.state:
            case State.LIVE:
                for channel in self.session.lost:
                    yield f"{name}: {channel}: the venue ended the subscription, asking again"
                for refusal in self._refusals():
                    yield f"{name}: {refusal.channel} refused: {refusal.code} {refusal.reason}"
            case State.SUBSCRIBING:
                yield f"{name}: waiting for the venue to confirm subscriptions"
            case State.CLOSED:
                yield f"{name}: {_closed(self._trouble)}"
            case state:
                yield f"{name}: {state.value}; {self._trouble}"

    def _refusals(self) -> Iterator[Refusal]:
        yield from self.session.subscriptions.refusals.values()

    def quiet_seconds(self) -> float | None:
        """Return how long no data came, when that is longer than a minute."""
        if self._liveness is None or self.session.life.state is not State.LIVE:
            return None
        quiet = self.monotonic() - self._liveness.data_at
        return quiet if quiet > _QUIET_SECONDS else None

    def status(self) -> dict[str, Any]:
        """Return where this connection stands."""
        session = self.session
        counts = session.subscriptions.counts()
        return {
            "conn": self.plan.conn,
            "session": session.id,
            "state": session.life.state.value,
            "frames": session.frames,
            "channels": {str(sid): name for sid, name in session.channels.items()},
            "last_sequence": {str(s): n for s, n in session.tracker.last_numbers().items()},
            "requested": counts.requested,
            "confirmed": counts.confirmed,
            "refused": [
                {"channel": r.channel, "code": r.code, "reason": r.reason} for r in self._refusals()
            ],
            "last_error": self._trouble if session.life.state is not State.LIVE else None,
        }

    def _new_session(self) -> FeedSession:
        parts = self._parts
        return FeedSession(
            self._feed,
            self.plan,
            parts.intake,
            parts.receipt,
            parts.metrics,
            behind=self._covered_until,
            skims=parts.skims,
        )


def _closed(trouble: str) -> str:
    """Say that a connection is closed and why, the word only once."""
    word = State.CLOSED.value
    return trouble if trouble.startswith(word) else f"{word}; {trouble}"


def _public_url(url: str) -> str:
    """Leave out user, password and query: they may hold secrets."""
    parts = urlsplit(url)
    host = parts.netloc.rpartition("@")[2]
    return urlunsplit((parts.scheme, host, parts.path, "", ""))
