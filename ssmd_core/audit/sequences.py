"""Decides where sequences have holes, counted anew from the frames themselves."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any, NamedTuple

from ssmd_core.audit.events import Event
from ssmd_core.audit.sessions import Session
from ssmd_core.feed import (
    ConnectionPlan,
    Feed,
    Parsed,
    Refused,
    Subscribed,
    Unsubscribed,
    WebSocketFeed,
)
from ssmd_core.feed.sequence import SequenceTracker
from ssmd_core.records import Batch

__all__ = ["Confirmed", "DeclaredGap", "HoleFound", "Recount"]


class Confirmed(NamedTuple):
    """A frame in which the venue confirms a channel."""

    session: Session
    sid: str
    channel: str
    ts: int


class HoleFound(NamedTuple):
    """Numbers that no frame of a session carries, between two frames."""

    session: str
    conn: int
    channel: str
    first: int
    last: int
    from_ts: int
    to_ts: int


class DeclaredGap(NamedTuple):
    """A ``gap`` line that names numbers."""

    session: str
    conn: int
    channel: str
    first: int
    last: int
    from_ts: int
    to_ts: int

    @classmethod
    def of(cls, event: Event) -> DeclaredGap | None:
        """Read a line; None for one without numbers: then nobody knows what was missed."""
        first, last, to_ts = event.number("first"), event.number("last"), event.time("to_ts")
        if event.word != "gap" or event.session is None or event.conn is None:
            return None
        if first is None or last is None or to_ts is None:
            return None
        from_ts = event.time("from_ts") or to_ts
        channel = event.text("channel")
        return cls(event.session, event.conn, channel, first, last, from_ts, to_ts)

    @property
    def place(self) -> tuple[str, int, int, int]:
        """What it shares with the hole that it declares. The frame after it names it."""
        return self.session, self.first, self.last, self.to_ts


class Recount:
    """Follows the sequences of one session through its frames, as the connector did.

    It is also the session that the feed sees.
    """

    def __init__(self, feed: WebSocketFeed | Feed, session: Session) -> None:
        self.feed = feed
        self.plan = ConnectionPlan(conn=session.conn)
        self.channels: dict[Hashable, str] = {}
        self.state: Any = feed.new_state(self.plan)
        self.holes: list[HoleFound] = []
        self._confirmed: list[Confirmed] = []
        self._session = session
        self._frames: dict[Hashable, int] = {}
        self._names: dict[Hashable, str] = {}
        self._tracker = SequenceTracker(feed.first_sequence)
        self._seen: set[Hashable] = set()
        self._requests = 0

    def next_id(self) -> int:
        """Return a number: nothing is ever sent."""
        self._requests += 1
        return self._requests

    def now_ns(self) -> int:
        """Return the receipt time of the last frame."""
        return self._session.last_ts

    def follow(self, batch: Batch, parsed: Sequence[Parsed]) -> None:
        """Take the frames of a batch. The hot call."""
        check, frames = self._tracker.check, self._frames
        joined = not self._session.whole
        for ts, said in enumerate(parsed, batch.first_ts):
            sid, first = said.sid, said.first_seq
            if sid is not None:
                frames[sid] = frames.get(sid, 0) + 1
            if first is not None:
                if joined and sid not in self._seen:
                    self._seed(sid, first)
                last = first if said.last_seq is None else said.last_seq
                gap = check(sid, first, last, ts)
                if gap is not None:
                    self._found(sid, gap.first, gap.last, (gap.from_ts, ts))
            if said.event is not None:
                self._on_event(said, ts)

    def take_counts(self) -> Mapping[str, int]:
        """Return frames by channel since the last call."""
        counts: dict[str, int] = {}
        for sid, count in self._frames.items():
            name = self._name(sid)
            counts[name] = counts.get(name, 0) + count
        self._frames = {}
        return counts

    def take_holes(self) -> list[HoleFound]:
        """Return the holes found since the last call."""
        holes, self.holes = self.holes, []
        return holes

    def take_confirmed(self) -> list[Confirmed]:
        """Return the confirmations met since the last call."""
        confirmed, self._confirmed = self._confirmed, []
        return confirmed

    def _found(self, sid: Hashable, first: int, last: int, between: tuple[int, int]) -> None:
        session = self._session
        self.holes.append(
            HoleFound(session.id, session.conn, self._name(sid), first, last, *between)
        )

    def _name(self, sid: Hashable) -> str:
        return self._names.get(sid) or self._session.channels.get(str(sid)) or str(sid)

    def _seed(self, sid: Hashable, first: int) -> None:
        """Go on where a channel stood when this reading joined a session in the middle."""
        self._seen.add(sid)
        session = self._session
        number = session.carried.get(str(sid))
        if number is None and not session.carried_ts and sid not in self.channels:
            number = first - 1
        if number is not None:
            self._tracker.check(sid, number, number, session.carried_ts)

    def _on_event(self, said: Parsed, ts: int) -> None:
        match said.event:
            case Subscribed() as event:
                self.channels[event.sid] = self._names[event.sid] = event.channel
                self._tracker.open(event.sid, ts)
                # A feed that does its own I/O tells of its channels in its own way.
                if isinstance(self.feed, WebSocketFeed):
                    told = Confirmed(self._session, str(event.sid), event.channel, ts)
                    self._confirmed.append(told)
            case Unsubscribed() as event:
                self._end(event.sid)
            case Refused() as event if event.ends_sid:
                self._end(event.sid)

    def _end(self, sid: Hashable) -> None:
        if self.channels.pop(sid, None) is not None or str(sid) in self._session.channels:
            self._tracker.end(sid)
