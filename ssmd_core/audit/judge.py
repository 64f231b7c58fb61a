"""Decides whether a difference between archive and ledger is explained, and says it in words."""

from __future__ import annotations

import enum
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

from ssmd_core.audit.declared import Declared
from ssmd_core.audit.events import DAY_NS
from ssmd_core.audit.findings import Finding, Kind, counted
from ssmd_core.audit.scope import Scope
from ssmd_core.audit.sequences import Confirmed, DeclaredGap, HoleFound
from ssmd_core.audit.sessions import Dropped, Session, take_from_drops
from ssmd_core.clock import NS, day_of, iso

__all__ = [
    "Fate",
    "fate_of",
    "judge_closed",
    "judge_confirmed",
    "judge_drops",
    "judge_holes",
    "judge_open",
]

_LAST_MOMENT_NS = NS
"""What a power failure can take of either file: the time between two syncs, and some."""
_NEAR_MIDNIGHT_NS = 600 * NS
"""A market that is captured on is not silent for so long."""


class Fate(enum.Enum):
    """What became of a session that nothing closed."""

    RUNS = "runs"
    """A connector is at work."""
    OPEN = "is open, and nobody can see from here whether a connector is at work"
    GOES_ON = "goes on after what was read"
    ENDED = "ended without a word; the next start of its connector closes it, and says so"


def judge_closed(session: Session, declared: Declared, feed: str, *, end_ts: int) -> Finding | None:
    """Compare what a closed session received with what the archive holds of it.

    Args:
        session: with the lines that were read of it.
        declared: what the ledger declares as dropped; what is found missing is taken from it.
        feed: its name.
        end_ts: where the frames that were read end.
    """
    verdict = _without_count(session, declared, end_ts) or _compare(session, declared)
    if verdict is None:
        return None
    return Finding(
        kind=verdict.kind,
        explained=verdict.explained,
        day=day_of(session.closed_ts or session.last_ts),
        feed=feed,
        text=verdict.text,
        conn=session.conn,
        session=session.id,
        from_ts=session.opened_ts or None,
        to_ts=session.closed_ts,
    )


class _Verdict(NamedTuple):
    kind: Kind
    explained: bool
    text: str


def _without_count(session: Session, declared: Declared, end_ts: int) -> _Verdict | None:
    """Judge a session whose count does not exist, or cannot be compared."""
    unannounced = _unannounced(session, declared)
    uncounted = _uncounted(session, end_ts)
    if unannounced or uncounted:
        _share(session, declared.drops)
    if unannounced:
        return unannounced
    if uncounted:
        text = f"session {session.id} {uncounted}: {session.lines:,} in the archive"
        return _Verdict(Kind.NOT_COUNTED, explained=True, text=text)
    return None


def _unannounced(session: Session, declared: Declared) -> _Verdict | None:
    if session.announced or not session.lines:
        return None
    excused = declared.lost_lines(0, session.last_ts)
    text = f"nothing says when session {session.id} began: {session.lines:,} in the archive"
    return _Verdict(Kind.NEVER_OPENED, excused, text)


def _compare(session: Session, declared: Declared) -> _Verdict | None:
    said = session.said or 0
    missing = said - session.lines
    text = f"session {session.id} received {counted(said, 'frame')}, "
    text += f"{session.lines:,} in the archive"
    if missing < 0:
        return _Verdict(Kind.FRAMES_EXTRA, explained=False, text=text)
    undeclared = missing - take_from_drops(session, missing, declared.drops)
    if undeclared == 0:
        return None
    if (session.closed_ts or 0) >= declared.failing_since:
        text += f": {undeclared:,} waiting for a disk that takes them"
        return _Verdict(Kind.FRAMES_MISSING, explained=True, text=text)
    text += f": {undeclared:,} missing, and not declared"
    return _Verdict(Kind.FRAMES_MISSING, explained=False, text=text)


def _uncounted(session: Session, end_ts: int) -> str:
    """Say why lines and count cannot be compared; empty where they can."""
    if session.crashed:
        return "crashed and left no count"
    if session.said is None:
        return "closed without a count"
    if not session.whole:
        return "began before what was read, so it is not counted"
    if (session.closed_ts or 0) >= end_ts:
        return "goes on after what was read, so it is not counted"
    return ""


def fate_of(session: Session, scope: Scope, *, is_live: bool | None) -> Fate:
    """Decide what became of a session that nothing closed.

    Args:
        session: with the lines that were read of it.
        scope: what was read.
        is_live: a connector was at work before ``scope.upto``; None: nobody can tell.
    """
    if scope.after is not None and session.carried_ts >= scope.end_ts:
        return Fate.GOES_ON
    if is_live:
        return Fate.RUNS
    if scope.after is not None:
        return Fate.ENDED
    if scope.is_growing:
        return Fate.ENDED if is_live is False else Fate.OPEN
    # Of a day that is over, and that may have been copied alone.
    if session.last_ts >= scope.end_ts - _NEAR_MIDNIGHT_NS:
        return Fate.GOES_ON
    late = is_live is None and scope.upto < scope.end_ts + DAY_NS
    return Fate.OPEN if late else Fate.ENDED


def judge_open(session: Session, declared: Declared, feed: str, fate: Fate) -> Finding:
    """Say what a session is that nothing closed."""
    _share(session, declared.drops)
    started = session.opened_ts or session.carried_ts
    name, lines = f"session {session.id}", f"{counted(session.lines, 'frame')} in the archive"
    explained, kind = True, Kind.NOT_COUNTED
    unannounced = _unannounced(session, declared)
    if unannounced is not None:
        kind, explained, text = unannounced
    elif session.superseded:
        explained = declared.lost_lines(session.opened_ts, session.last_ts)
        kind = Kind.NEVER_CLOSED
        text = f"{name} was followed by another, and nothing says how it ended: {lines}"
    elif fate is Fate.ENDED:
        explained, kind = False, Kind.NEVER_CLOSED
        text = f"{name} {fate.value}: {lines}"
    else:
        text = f"{name} {fate.value}: {lines} so far"
    return Finding(
        kind=kind,
        explained=explained,
        day=day_of(session.last_ts or started),
        feed=feed,
        text=text,
        conn=session.conn,
        session=session.id,
        from_ts=session.opened_ts or None,
        to_ts=session.last_ts or None,
    )


def judge_drops(drops: Iterable[Dropped], feed: str) -> Iterator[Finding]:
    """Tell of frames declared as dropped that are missing nowhere."""
    for drop in drops:
        if drop.left and not drop.shared:
            yield Finding(
                kind=Kind.DROPPED_NOT_MISSING,
                explained=False,
                day=day_of(drop.from_ts),
                feed=feed,
                text=f"{drop.left:,} of {counted(drop.frames, 'frame')} declared as dropped from "
                f"{iso(drop.from_ts)} to {iso(drop.to_ts)} missing in no session",
                from_ts=drop.from_ts,
                to_ts=drop.to_ts,
            )


def judge_holes(
    found: Iterable[HoleFound],
    gaps: Iterable[DeclaredGap],
    declared: Declared,
    sessions: Mapping[str, Session],
    feed: str,
) -> Iterator[Finding]:
    """Compare the holes that the frames show with those that the ledger declares.

    Args:
        found: counted anew; of sessions that a plugin could read.
        gaps: declared, of the same sessions and time.
        declared: what else the ledger says.
        sessions: by id; those that crashed may have lost their last moment.
        feed: its name.
    """
    said = Counter(gap.place for gap in gaps)
    by_place = {gap.place: gap for gap in gaps}
    for hole in found:
        place = (hole.session, hole.first, hole.last, hole.to_ts)
        if said[place]:
            said[place] -= 1
            continue
        why = declared.excuses_hole(hole.from_ts, hole.to_ts)
        why = why or _last_moment(sessions.get(hole.session), hole.to_ts)
        text = f"{hole.channel} skips {hole.first}..{hole.last}"
        text += f": {why}" if why else ", and no `gap` line says so"
        kind = Kind.HOLE_DECLARED if why else Kind.HOLE_UNDECLARED
        yield _of_hole(hole, feed, kind, text, explained=bool(why))
    for place, count in said.items():
        gap = by_place[place]
        if count:
            why = declared.excuses_hole(gap.from_ts, gap.to_ts)
            why = why or _last_moment(sessions.get(gap.session), gap.to_ts)
            text = f"{gap.channel}: the gap {gap.first}..{gap.last} is declared, "
            text += f"and cannot be seen: {why}" if why else "and the frames show none there"
            yield _of_hole(gap, feed, Kind.GAP_NOT_THERE, text, explained=bool(why))


def judge_confirmed(
    found: Iterable[Confirmed], declared: Declared, feed: str, *, upto: int
) -> Iterator[Finding]:
    """Tell of channels that the venue confirmed, and that no ``subscribed`` line covers.

    Args:
        found: what the frames show.
        declared: what else the ledger says.
        feed: its name.
        upto: up to when ledger lines were read.
    """
    for each in found:
        session = each.session
        if (each.sid, each.channel) in session.confirmed or each.ts > upto - _LAST_MOMENT_NS:
            continue
        why = "ledger lines declared as lost" if declared.lost_lines(each.ts, upto) else ""
        why = why or _last_moment(session, each.ts)
        text = f"the venue confirmed {each.channel}"
        text += f": {why}" if why else ", and no `subscribed` line says since when it is covered"
        yield Finding(
            kind=Kind.CONFIRMED_UNDECLARED,
            explained=bool(why),
            day=day_of(each.ts),
            feed=feed,
            text=text,
            conn=session.conn,
            channel=each.channel,
            session=session.id,
            from_ts=each.ts,
            to_ts=each.ts,
        )


def _of_hole(
    hole: HoleFound | DeclaredGap, feed: str, kind: Kind, text: str, *, explained: bool
) -> Finding:
    return Finding(
        kind=kind,
        explained=explained,
        day=day_of(hole.to_ts),
        feed=feed,
        text=text,
        conn=hole.conn,
        channel=hole.channel,
        session=hole.session,
        from_ts=hole.from_ts,
        to_ts=hole.to_ts,
    )


def _last_moment(session: Session | None, ts: int) -> str:
    if session is not None and session.crashed and ts >= session.last_ts - _LAST_MOMENT_NS:
        return "the last moment before a crash"
    return ""


def _share(session: Session, drops: Iterable[Dropped]) -> None:
    for drop in drops:
        if session.overlaps(drop.from_ts, drop.to_ts):
            drop.shared = True
