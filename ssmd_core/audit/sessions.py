"""Decides which session a frame belongs to, and which declared losses are a session's."""

from __future__ import annotations

from bisect import insort
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from ssmd_core.audit.events import Event

__all__ = ["Dropped", "Session", "SessionBook", "take_from_drops"]


@dataclass(slots=True, kw_only=True)
class Session:
    """One connection from its opening to its end, and what the archive holds of it."""

    id: str
    conn: int
    opened_ts: int
    """0 where the opening is not in what was read."""
    environment: str = ""
    connector: str = ""
    plugin: str = ""
    channels: Mapping[str, str] = field(default_factory=dict)
    """Of ``session_carried``: channel id as text → channel."""
    carried: Mapping[str, int] = field(default_factory=dict)
    """Of ``session_carried``: channel id as text → last sequence number."""
    carried_ts: int = 0
    confirmed: set[tuple[str, str]] = field(default_factory=set)
    """Of ``subscribed``: channel id as text, channel."""
    whole: bool = True
    """All its frames from the first on are in what is read."""
    announced: bool = True
    """The ledger says when it began, or that it goes on from before what is read."""
    closed_ts: int | None = None
    cause: str = ""
    said: int | None = None
    """Frames that it received, by its own account."""
    superseded: bool = False
    """Another session of the connection was opened before anything said that this one ended."""
    lines: int = 0
    last_ts: int = 0
    """Of the last frame in the archive."""

    @property
    def crashed(self) -> bool:
        """Whether it ended without a word, and was closed by the next start."""
        return self.cause == "crashed"

    def overlaps(self, from_ts: int, to_ts: int) -> bool:
        """Say whether it ran at any time from ``from_ts`` to ``to_ts``."""
        return self.opened_ts <= to_ts and (self.closed_ts is None or self.closed_ts >= from_ts)


class SessionBook:
    """The sessions of one feed by connection. Takes ledger lines, then answers for frames.

    Args:
        from_ts: where the frames that are read begin.
    """

    def __init__(self, from_ts: int = 0) -> None:
        self._from_ts = from_ts
        self._by_id: dict[str, Session] = {}
        self._order: dict[int, list[Session]] = {}
        self._place: dict[int, int] = {}

    def take(self, event: Event) -> None:
        """Follow one ledger line."""
        if event.session is None or event.conn is None:
            return
        session = self._by_id.get(event.session)
        if event.word == "session_opened":
            self._open(event, event.session, event.conn)
            return
        if session is None:
            # The opening is not in what was read: whatever came before belongs to it, too.
            session = Session(
                id=event.session, conn=event.conn, opened_ts=0, whole=False, announced=False
            )
            self._add(session)
        match event.word:
            case "session_closed":
                session.closed_ts = event.ts
                session.cause = event.text("cause") or "closed"
                session.said = event.number("frames")
            case "subscribed":
                session.confirmed.add((str(event.fields.get("sid")), event.text("channel")))
            case "session_carried":
                session.environment = session.environment or event.text("environment")
                session.connector = session.connector or event.text("connector")
                session.plugin = session.plugin or event.text("plugin")
                session.announced |= (event.time("opened") or 0) < self._from_ts
                session.channels = {k: str(v) for k, v in event.table("channels").items()}
                if session.carried_ts:
                    return  # carried again behind a failing disk: it was joined before
                session.carried_ts = event.ts
                session.carried = {
                    k: v for k, v in event.table("last").items() if isinstance(v, int)
                }

    def at(self, conn: int, ts: int) -> Session | None:
        """Return the session that a frame belongs to. Frames are asked for in their order."""
        order = self._order.get(conn)
        if order is None:
            return None
        place = self._place.get(conn, 0)
        while place + 1 < len(order) and order[place + 1].opened_ts <= ts:
            place += 1
        self._place[conn] = place
        session = order[place]
        if ts < session.opened_ts or (session.closed_ts is not None and ts > session.closed_ts):
            return None
        return session

    def ran_between(self, from_ts: int, to_ts: int) -> int:
        """Return how many sessions ran in between."""
        return sum(session.overlaps(from_ts, to_ts) for session in self._by_id.values())

    def take_closed(self, before_ts: int) -> Iterator[Session]:
        """Take out and yield what closed before a time, oldest first."""
        ready = [
            session
            for session in self._by_id.values()
            if session.closed_ts is not None and session.closed_ts < before_ts
        ]
        for session in sorted(ready, key=lambda session: session.closed_ts or 0):
            self._forget(session)
            yield session

    def left(self) -> list[Session]:
        """Return what was not taken out, in order of opening."""
        return sorted(self._by_id.values(), key=lambda session: session.opened_ts)

    def before(self, ts: int) -> Session | None:
        """Return the session of any connection that was opened last before a time."""
        opened = (session for session in self._by_id.values() if session.opened_ts <= ts)
        return max(opened, key=lambda session: session.opened_ts, default=None)

    def _open(self, event: Event, name: str, conn: int) -> None:
        for former in self._order.get(conn, ()):
            if former.closed_ts is None:
                former.superseded = True
        self._add(
            Session(
                id=name,
                conn=conn,
                opened_ts=event.ts,
                environment=event.text("environment"),
                connector=event.text("connector"),
                plugin=event.text("plugin"),
                whole=event.ts >= self._from_ts,
            )
        )

    def _add(self, session: Session) -> None:
        self._by_id[session.id] = session
        insort(self._order.setdefault(session.conn, []), session, key=lambda each: each.opened_ts)

    def _forget(self, session: Session) -> None:
        del self._by_id[session.id]
        order = self._order[session.conn]
        place = order.index(session)
        del order[place]
        if self._place.get(session.conn, 0) > place:
            self._place[session.conn] -= 1
        if not order:
            del self._order[session.conn]


@dataclass(slots=True)
class Dropped:
    """Frames that the ledger declares as never archived."""

    from_ts: int
    to_ts: int
    frames: int
    left: int
    """Of them, not yet found missing."""
    shared: bool = False
    """Frames that nobody counted may be among them."""


def take_from_drops(session: Session, missing: int, drops: Sequence[Dropped]) -> int:
    """Take what a session misses from what was declared in its time; return what was taken."""
    taken = 0
    for drop in drops:
        if taken < missing and session.overlaps(drop.from_ts, drop.to_ts):
            part = min(missing - taken, drop.left)
            drop.left -= part
            taken += part
    return taken
