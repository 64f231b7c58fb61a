"""Decides when each channel was covered, from the ledger alone, and what happened to its holes.

A channel is covered from its confirmation by the venue to the end of its session, minus
what the ledger declares as lost on it: gaps, silence that ended the connection, frames
that no disk took. A pause delays and loses nothing. What a backfill brought back is
repaired, not covered: it was not seen as it happened.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from ssmd_core.audit.channel_day import ChannelDay, Key, Lost, channel_day
from ssmd_core.audit.events import DAY_NS, Event, day_start
from ssmd_core.audit.intervals import Interval

__all__ = ["ALL", "Coverage"]

ALL = "*"
"""The channel of a feed that confirms none: whatever its connection brings."""


@dataclass(slots=True)
class _Track:
    """What is known of one channel."""

    first_ts: int
    since: int | None = None
    covered: list[Interval] = field(default_factory=list)
    lost: list[Lost] = field(default_factory=list)
    """Declared as lost, whatever the session did."""
    marks: list[Lost] = field(default_factory=list)
    """Why a hole is there that is known otherwise."""
    repaired: list[Interval] = field(default_factory=list)
    ended: str = ""
    """Why it was not covered any more, before the day that was asked for."""

    def day(self, key: Key, span: Interval) -> ChannelDay:
        open_ = [] if self.since is None else [Interval(self.since, span.to_ts)]
        return channel_day(
            key,
            span,
            [*self.covered, *open_],
            self.lost,
            repaired=self.repaired,
            marks=self.marks,
            ended=self.ended,
        )

    def begin(self, ts: int) -> None:
        if self.since is None:
            self.since = ts

    def forget(self, before_ts: int) -> None:
        for mark in self.marks:
            if mark.interval.to_ts <= before_ts:
                self.ended = mark.why
        self.covered = [each for each in self.covered if each.to_ts > before_ts]
        self.lost = [each for each in self.lost if each.interval.to_ts > before_ts]
        self.marks = [each for each in self.marks if each.interval.to_ts > before_ts]
        self.repaired = [each for each in self.repaired if each.to_ts > before_ts]

    def end(self, ts: int) -> None:
        if self.since is not None:
            self.covered.append(Interval(self.since, ts))
            self.since = None


@dataclass(slots=True)
class _Running:
    """The session that a connection is in."""

    id: str
    opened_ts: int
    seen_ts: int
    """Of its last ledger line: all that is known where it never closed."""


class Coverage:
    """Follows the ledger of one feed, line by line; days are asked for in their order."""

    def __init__(self) -> None:
        self._tracks: dict[Key, _Track] = {}
        self._running: dict[int, _Running] = {}
        self._named: set[int] = set()
        """Connections whose channels the venue confirms."""
        self._stopped: dict[int, int] = {}
        """Connections whose session ended because the connector was told to stop."""
        self._last_ts = 0

    def take(self, event: Event) -> None:
        """Follow one line."""
        self._last_ts = max(self._last_ts, event.ts)
        conn = event.conn
        if conn is None or event.session is None:
            self._take_loss(event)
            return
        running = self._running.get(conn)
        match event.word:
            case "session_opened":
                self._leave(conn)
                self._stopped.pop(conn, None)
                self._running[conn] = _Running(event.session, event.ts, event.ts)
                return
            case "session_carried" if running is None or running.id != event.session:
                opened = event.time("opened") or event.ts
                running = self._running[conn] = _Running(event.session, opened, event.ts)
                for channel in set(map(str, event.table("channels").values())):
                    self._named.add(conn)
                    self._track(Key(conn, channel), opened).begin(opened)
            case "subscribed":
                self._named.add(conn)
                self._track(Key(conn, event.text("channel")), event.ts).begin(event.ts)
            case "session_closed":
                self._close(event, conn)
                return
            case "refused" if event.text("channel") and event.fields.get("sid") is None:
                self._named.add(conn)
                why = f"refused: {event.fields.get('code')} {event.text('reason')}".strip()
                track = self._track(Key(conn, event.text("channel")), event.ts)
                track.marks.append(Lost(Interval(event.ts, event.ts + 1), why))
            case "stale":
                start = event.time("last_ts") or (running.opened_ts if running else event.ts)
                lost = Lost(Interval(start, event.ts), event.text("cause") or "stale")
                self._lose(lost, lambda key: key.conn == conn)
            case _:
                self._take_loss(event)
        if running is not None and running.id == event.session:
            running.seen_ts = event.ts

    def day(self, day: str, upto: int) -> list[ChannelDay]:
        """Return each channel on a day, up to now; forget what only earlier days needed."""
        self._begin_unnamed()
        start = day_start(day)
        out = []
        for key, track in sorted(self._tracks.items()):
            track.forget(start)
            end = upto if self._running else self._stopped.get(key.conn, self._last_ts)
            span = Interval(max(start, track.first_ts), min(start + DAY_NS, end))
            if span.length_ns > 0 and self._is_shown(key):
                out.append(track.day(key, span))
        return out

    # ── between ──────────────────────────────────────────────────────────────────

    def _take_loss(self, event: Event) -> None:
        interval = Interval(event.time("from_ts") or 0, event.time("to_ts") or 0)
        if interval.length_ns < 0 or not interval.from_ts:
            return
        channel, conn = event.text("channel"), event.conn

        def concerns(key: Key) -> bool:
            return key.channel in {channel, ALL} and conn in {None, key.conn}

        match event.word:
            case "gap":
                first, last = event.number("first"), event.number("last")
                why = "subscription lost" if first is None else f"gap {first}..{last}"
                self._lose(Lost(interval, why), concerns)
            case "dropped" if event.text("sink") == "storage":
                # Both ends were lost themselves.
                lost = Lost(Interval(interval.from_ts, interval.to_ts + 1), "not archived")
                self._lose(lost, lambda _: True)
            case "repaired":
                for key in filter(concerns, self._tracks):
                    self._tracks[key].repaired.append(interval)
            case "unrepaired":
                why = f"not repaired: {event.text('reason')}"
                for key in filter(concerns, self._tracks):
                    self._tracks[key].marks.append(Lost(interval, why))

    def _close(self, event: Event, conn: int) -> None:
        running = self._running.get(conn)
        if running is not None and running.id != event.session:
            return
        cause = event.text("cause")
        seen = running.seen_ts if running else event.ts
        end = event.time("last_ts") or seen if cause == "crashed" else event.ts
        self._end(conn, max(end, seen) if cause == "crashed" else end, cause or "closed")
        self._running.pop(conn, None)
        if cause == "stopped":
            self._stopped[conn] = event.ts

    def _leave(self, conn: int) -> None:
        """A session begins; end the one before if nothing else did."""
        former = self._running.get(conn)
        if former is not None:
            self._end(conn, former.seen_ts, "never closed")

    def _end(self, conn: int, ts: int, why: str) -> None:
        self._begin_unnamed()
        for key, track in self._tracks.items():
            if key.conn == conn:
                track.end(ts)
                track.marks.append(Lost(Interval(ts, ts + 1), why))

    def _lose(self, lost: Lost, concerns: Callable[[Key], bool]) -> None:
        self._begin_unnamed()
        for key in filter(concerns, self._tracks):
            self._tracks[key].lost.append(lost)

    def _begin_unnamed(self) -> None:
        for conn, running in self._running.items():
            if conn not in self._named:
                self._track(Key(conn, ALL), running.opened_ts).begin(running.opened_ts)

    def _track(self, key: Key, ts: int) -> _Track:
        if key not in self._tracks:
            self._tracks[key] = _Track(ts)
        return self._tracks[key]

    def _is_shown(self, key: Key) -> bool:
        return key.channel != ALL or key.conn not in self._named
