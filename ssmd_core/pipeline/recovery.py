"""Decides from the ledger what a run that did not end in order left open, and what was covered."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import msgspec

from ssmd_core.clock import NS, iso
from ssmd_core.log import get_logger
from ssmd_core.pipeline.ledger import INTRODUCTIONS

__all__ = ["PriorRuns", "ledger_beginnings", "read_prior_runs"]

_log = get_logger("ssmd.recovery")
_DAY_NS = 86_400 * NS
_BEGINNINGS = INTRODUCTIONS | {"subscribed"}
_REPAIRS = frozenset({"repaired", "unrepaired"})
_STOPPED = "stopped"
"""Why a repair was given up that the next run takes up again."""
_SECONDS = len("2026-11-22T06:00:47")

_Place = tuple[int, str]
"""A connection and a channel of it."""


@dataclass(slots=True)
class _Session:
    """A session that the ledger has not closed."""

    id: str
    conn: int | None
    channels: dict[str, str] = field(default_factory=dict)
    """Channel id → channel, of confirmed subscriptions."""
    subscribed_ts: dict[str, int] = field(default_factory=dict)
    """Channel → when it was confirmed last."""
    silent_since: int = 0
    """Receipt time of the last frame before it was found stale."""


class PriorRuns:
    """What the lines of a ledger say, taken in order. Total: damaged lines are passed over."""

    def __init__(self) -> None:
        self._open: dict[str, _Session] = {}
        self._closed: set[str] = set()
        self._until: dict[_Place, int] = {}
        self._holes: dict[str, set[int]] = {}
        """Channel → where its holes begin that no repair has ended."""
        self._unintroduced = False

    def take(self, ts: int, line: bytes) -> None:
        """Take one line with its ``ts``."""
        try:
            said = msgspec.json.decode(line)
            event, session = said["event"], said["session"]
            if event in _REPAIRS:
                self._take_repair(said)
            elif event == "dropped":
                self._take_dropped(said)
            elif isinstance(session, str) and session not in self._closed:
                self._take(ts, event, self._session(session, event, said), said)
        except (msgspec.DecodeError, UnicodeError, LookupError, TypeError, ValueError):
            return

    @property
    def whole(self) -> bool:
        """Whether the lines reach back far enough: each session in them begins in them."""
        return not self._unintroduced and bool(self._open or self._closed)

    def covered_until(self, last_ts: int, conns: Collection[int]) -> dict[str, int]:
        """Return for each channel until when all of it was captured on these connections.

        A hole whose repair the end of the run cut short counts: what follows it is offered
        for repair again.

        Args:
            last_ts: the archive's end: until then open sessions were there.
            conns: the connections that the feed has now; what others covered does not count.
        """
        places = dict(self._until)
        for session in self._open.values():
            until = session.silent_since or last_ts
            for channel in session.channels.values():
                places[session.conn or 0, channel] = until
        covered: dict[str, int] = {}
        for (conn, channel), until in places.items():
            if conn in conns:
                whole_until = min({until, *self._holes.get(channel, ())})
                covered[channel] = min(whole_until, covered.get(channel, whole_until))
        return covered

    def endings(self, last_ts: int) -> Iterator[dict[str, Any]]:
        """Yield what is to be written of each session that nobody closed."""
        for session in self._open.values():
            yield {
                "session": session.id,
                "conn": session.conn,
                "cause": "crashed",
                "detail": "the connector ended without closing it",
                "code": None,
                "frames": None,
                "last": {},
                "last_ts": iso(last_ts),
            }

    # ── between ──────────────────────────────────────────────────────────────────

    def _session(self, name: str, event: str, said: Mapping[str, Any]) -> _Session:
        session = self._open.get(name)
        if session is None:
            conn = said["conn"]
            session = _Session(name, None if conn is None else int(conn))
            self._unintroduced |= event not in INTRODUCTIONS
            if event in _BEGINNINGS:
                self._open[name] = session
        return session

    def _take(self, ts: int, event: str, session: _Session, said: Mapping[str, Any]) -> None:
        match event:
            case "session_carried":
                for sid, channel in dict(said["channels"]).items():
                    self._cover(session, str(sid), str(channel), ts)
            case "subscribed":
                self._cover(session, str(said["sid"]), str(said["channel"]), ts)
            case "refused":
                channel = session.channels.get(str(said["sid"]))
                if channel is not None:
                    self._uncover(session, channel, ts)
            case "gap":
                self._take_gap(session, str(said["channel"]), said)
            case "stale":
                session.silent_since = _nanoseconds(said["last_ts"]) or ts
            case "session_closed":
                self._close(ts, session, said)

    def _take_gap(self, session: _Session, channel: str, said: Mapping[str, Any]) -> None:
        """A channel missed something; it is dead where no confirmation came since."""
        from_ts, to_ts = _nanoseconds(said["from_ts"]), _nanoseconds(said["to_ts"])
        self._note_hole(channel, _nanoseconds(said.get("covered_until")) or from_ts)
        if said["first"] is None and to_ts > session.subscribed_ts.get(channel, 0):
            self._uncover(session, channel, from_ts)

    def _take_repair(self, said: Mapping[str, Any]) -> None:
        channel = str(said["channel"])
        from_ts, to_ts = _nanoseconds(said["from_ts"]), _nanoseconds(said["to_ts"])
        if said["event"] == "unrepaired" and said["reason"] == _STOPPED:
            self._note_hole(channel, from_ts)
        else:
            holes = self._holes.get(channel, set())
            holes.difference_update([begin for begin in holes if from_ts <= begin <= to_ts])

    def _take_dropped(self, said: Mapping[str, Any]) -> None:
        """Frames came that no disk took, of any channel."""
        if said["sink"] != "storage":
            return
        from_ts = _nanoseconds(said["from_ts"])
        known = {channel for _, channel in self._until}
        known.update(*(session.channels.values() for session in self._open.values()))
        for channel in known if from_ts else ():
            self._note_hole(channel, from_ts)

    def _note_hole(self, channel: str, from_ts: int) -> None:
        self._holes.setdefault(channel, set()).add(from_ts)

    def _close(self, ts: int, session: _Session, said: Mapping[str, Any]) -> None:
        until = _nanoseconds(said.get("last_ts")) or session.silent_since or ts
        # Frames that were read late end where the venue was, long before they were read.
        named = dict(said.get("covered_until") or {})
        for channel in list(session.channels.values()):
            self._uncover(session, channel, _nanoseconds(named.get(channel)) or until)
        self._open.pop(session.id, None)
        self._closed.add(session.id)

    def _cover(self, session: _Session, sid: str, channel: str, ts: int) -> None:
        session.channels[sid] = channel
        session.subscribed_ts[channel] = ts
        until = self._until.pop((session.conn or 0, channel), None)
        if until is not None:
            self._note_hole(channel, until)

    def _uncover(self, session: _Session, channel: str, until: int) -> None:
        self._until[session.conn or 0, channel] = until
        session.channels = {sid: name for sid, name in session.channels.items() if name != channel}


async def read_prior_runs(
    notes: Callable[[int, int], AsyncIterator[tuple[int, bytes]]], last_ts: int
) -> PriorRuns:
    """Read the ledger's last day, and the one before where a session began there.

    What cannot be read back is not known, which is no reason not to capture.

    Args:
        notes: yields ``ts`` and line of the ledger between two receipt times.
        last_ts: where the archive ends.
    """
    coverage = PriorRuns()
    for after in ledger_beginnings(last_ts):
        coverage = PriorRuns()
        try:
            async for ts, line in notes(after, last_ts):
                coverage.take(ts, line)
        except Exception as error:  # noqa: BLE001  a stranger's storage, too
            _log.warning("the ledger cannot be read back", why=str(error) or repr(error))
        if coverage.whole:
            break
    return coverage


def ledger_beginnings(last_ts: int) -> Iterator[int]:
    """Yield from where to read the ledger's end: its last day, and that with the one before."""
    midnight = last_ts // _DAY_NS * _DAY_NS
    yield midnight - 1
    yield midnight - _DAY_NS - 1


def _nanoseconds(text: str | None) -> int:
    """Return the time that a ledger line names, 0 for none."""
    if text is None:
        return 0
    seconds = datetime.fromisoformat(f"{text[:_SECONDS]}+00:00").timestamp()
    fraction = text[_SECONDS + 1 : _SECONDS + 10]
    return int(seconds) * NS + int(fraction or 0)
