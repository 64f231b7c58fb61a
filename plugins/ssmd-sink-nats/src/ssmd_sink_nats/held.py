"""What the bus already holds: asked where the stream's own memory of message ids has ended."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from datetime import UTC, datetime, timedelta

from ssmd_core.sink import Stored
from ssmd_core.sink.bus import StoredMessage
from ssmd_core.sink.origin import Origin
from ssmd_sink_nats.config import MAX_WINDOW
from ssmd_sink_nats.protocol import ApiError
from ssmd_sink_nats.reading import Selection, Source, Unreadable, read
from ssmd_sink_nats.streams import Plan, StreamInfo, find_streams
from ssmd_sink_nats.subjects import STATUS

__all__ = ["begins_below", "newest_ts", "stored_above", "stored_among"]

_LIVE = frozenset({Origin.LIVE, Origin.CATCHUP})
"""Origins of messages whose ``ts`` says how far the log was published."""
_BELOW_NS = 10 * 10**9
"""How far below the newest message the ids are wanted where no place is known."""
_FIRST_SPAN = 16_384
"""Messages from the end of the stream that are looked at first: more than any window."""
_WIDER = 8
_MAX_IDS = 250_000
"""Some 40 MB of them."""
_CLOCK_SECONDS = 10.0
"""By so much the servers of a cluster may differ, and a message take to be stored."""
_BLIND_SECONDS = 60.0
"""The same where the server does not tell its time."""
_SERVER_FAULT = 500


# ── decisions ────────────────────────────────────────────────────────────────────


def begins_below(page: Sequence[StoredMessage], after: int) -> bool:
    """Say whether everything above ``after`` stands in or behind this page, the first read.

    The bus is filled in the order of the log, but for replays, and two connectors may
    fill it at once, each in its own order: so all of a page must be old.
    """
    of_log = [message.ts for message in page if message.origin != Origin.REPLAY]
    return bool(of_log) and max(of_log) <= after


def newest_ts(page: Sequence[StoredMessage], plan: Plan) -> int:
    """Return the highest ``ts`` of a record that is live or caught up; 0 without any.

    A ledger line says nothing of the records before it.
    """
    status = f"{plan.root}.{STATUS}"
    return max((m.ts for m in page if m.origin in _LIVE and m.subject != status), default=0)


def _since(info: StreamInfo, age_seconds: float) -> datetime:
    if info.ts is not None:
        return info.ts - timedelta(seconds=age_seconds + _CLOCK_SECONDS)
    return datetime.now(UTC) - timedelta(seconds=age_seconds + _BLIND_SECONDS)


# ── effects ──────────────────────────────────────────────────────────────────────


async def stored_above(source: Source, plan: Plan, after: int | None) -> Stored:
    """Return what the contract's ``Transport.stored`` asks for.

    Raises:
        Unreadable: the bus does not let us, or holds more ids than memory may.
        PermissionError: this user may not look.
        OSError: no answer in time, or the connection ended.
    """
    streams = await _streams(source, plan)
    if after is None:
        newest = [await _newest_of(source, plan, info) for info in streams]
        after = max(0, max(newest, default=0) - _BELOW_NS)
    ids: set[str] = set()
    last_ts = 0
    for info in streams:
        start = await _begin_above(source, plan, info, after)
        wanted = _selection(plan, info, after=start - 1)
        async with contextlib.aclosing(read(source, wanted)) as pages:
            async for page in pages:
                last_ts = max(last_ts, newest_ts(page, plan))
                ids.update(m.msg_id for m in page if m.ts > after and m.msg_id)
                if len(ids) > _MAX_IDS:
                    raise Unreadable(f"it holds more than {_MAX_IDS} messages above the cursor")
    return Stored(last_ts, frozenset(ids))


async def stored_among(
    source: Source, plan: Plan, ids: AbstractSet[str], age_seconds: float
) -> frozenset[str]:
    """Return which of these message ids were stored in the last ``age_seconds``.

    Raises:
        Unreadable: the bus does not let us.
        PermissionError: this user may not look.
        OSError: no answer in time, or the connection ended.
    """
    missing = set(ids)
    for info in await _streams(source, plan):
        wanted = _selection(plan, info, since=_since(info, age_seconds))
        async with contextlib.aclosing(read(source, wanted)) as pages:
            async for page in pages:
                missing.difference_update(message.msg_id for message in page)
                if not missing:
                    return frozenset(ids)
    return frozenset(ids) - missing


async def _streams(source: Source, plan: Plan) -> list[StreamInfo]:
    found = await find_streams(source.request, plan)
    if isinstance(found, ApiError):
        text = f"{found.description} ({found.err_code})"
        if found.code >= _SERVER_FAULT:
            raise TimeoutError(text)
        raise Unreadable(text)
    return [info for info in found if info.state.messages]


async def _newest_of(source: Source, plan: Plan, info: StreamInfo) -> int:
    span = _FIRST_SPAN
    while True:
        start = _start(info, span)
        newest = 0
        async with contextlib.aclosing(
            read(source, _selection(plan, info, after=start - 1))
        ) as pages:
            async for page in pages:
                newest = max(newest, newest_ts(page, plan))
        if newest or start <= info.state.first_seq:
            return newest
        span *= _WIDER


async def _begin_above(source: Source, plan: Plan, info: StreamInfo, after: int) -> int:
    """Return a sequence that nothing above ``after`` stands before."""
    span = _FIRST_SPAN
    while (start := _start(info, span)) > info.state.first_seq:
        pages = read(source, _selection(plan, info, after=start - 1))
        async with contextlib.aclosing(pages):
            first: list[StoredMessage] = await anext(pages, [])
        if begins_below(first, after):
            # What the bus refused at first stands behind what was given later.
            return _start(info, span + MAX_WINDOW)
        span *= _WIDER
    return start


def _start(info: StreamInfo, span: int) -> int:
    return max(info.state.first_seq, info.state.last_seq - span + 1, 1)


def _selection(
    plan: Plan, info: StreamInfo, *, after: int = 0, since: datetime | None = None
) -> Selection:
    return Selection(
        api=plan.api,
        stream=info.name,
        subjects=plan.everything,
        after=after,
        since=since,
        upto=info.state.last_seq,
    )
