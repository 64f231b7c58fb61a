"""Decides what a start need not publish: what the bus holds beyond the cursor, and lately had."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence

import anyio

from ssmd_core.clock import NS
from ssmd_core.feed import WebSocketFeed
from ssmd_core.feed.lag import Lag
from ssmd_core.feed.repair import Missed
from ssmd_core.log import get_logger
from ssmd_core.pipeline.encoding import Encoding
from ssmd_core.pipeline.guard import Guarded
from ssmd_core.pipeline.log import LogReader
from ssmd_core.records import Stream
from ssmd_core.sink import Message, Storage, Stored

__all__ = ["Known", "ask", "beginning", "fetched_from", "lag_at", "place_below", "recall"]

_log = get_logger("ssmd.catchup")
_ASK_SECONDS = 30.0
_LOOK_BACK_NS = 5 * NS
_LAG_NS = NS
"""Who is behind reads without a pause: the last second tells."""
_RECALL_NS = 30 * NS
_RECALL_MOST_NS = 600 * NS
_RECALL_SECONDS = 5.0
"""So long a start may take over it, however many frames came at the end."""


class Known:
    """Ids that the bus was found to hold; each is forgotten once the log has passed it."""

    def __init__(self, stored: Stored | None) -> None:
        self._ids = set(stored.ids) if stored is not None else set()
        self._met: list[str] = []

    def __len__(self) -> int:
        return len(self._ids)

    def without(self, messages: Sequence[Message]) -> list[Message]:
        """Return the messages that the bus has not."""
        out: list[Message] = []
        for message in messages:
            if message.msg_id in self._ids:
                self._met.append(message.msg_id)
            else:
                out.append(message)
        return out

    def forget(self) -> None:
        """Take note that the log has passed what was met so far: it will not be read again."""
        self._ids.difference_update(self._met)
        self._met.clear()


def place_below(stored: Stored | None, head_ts: int) -> int | None:
    """Return from where to publish when nothing but the bus says how far it came.

    A few seconds below its newest message: what was acknowledged late stands before it.
    None where the bus cannot tell.
    """
    if stored is None or not stored.last_ts:
        return None
    return min(head_ts, max(0, stored.last_ts - _LOOK_BACK_NS))


async def ask(
    bus: Guarded, after: int | None, *, sleep: Callable[[], Awaitable[None]]
) -> Stored | None:
    """Wait until the bus is there, and ask what it holds; None where it cannot tell in time.

    Args:
        bus: who is asked.
        after: receipt time, or None where it is not known.
        sleep: waits a little, less where the bus has news.
    """
    while True:
        while not bus.connected() or bus.room() <= 0:
            await sleep()
        with anyio.move_on_after(_ASK_SECONDS) as scope:
            found = await bus.stored(after)
            if found is not None or bus.connected():
                return found
        if scope.cancelled_caught:
            _log.warning("the bus did not say in time what it holds", seconds=_ASK_SECONDS)
            return None


async def beginning(storage: Storage, upto: int) -> int | None:
    """Return the receipt time of the first frame that the log can still give; None: unknown."""
    frames = storage.read(0, upto)
    try:
        with anyio.move_on_after(_RECALL_SECONDS):
            first = await anext(frames, None)
            return None if first is None else first.first_ts
    except Exception as error:  # noqa: BLE001  it is only told
        _log.warning("the archive cannot be read back", why=str(error) or repr(error))
    finally:
        if isinstance(frames, AsyncGenerator):
            await frames.aclose()
    return None


def fetched_from(feed: WebSocketFeed, covered: Mapping[str, int], last_ts: int) -> int | None:
    """Return from when on the feed will fetch what was missed; None: it will not."""
    asked: list[int] = []
    for channel, from_ts in covered.items():
        missed = Missed(channel=channel, from_ts=from_ts, to_ts=last_ts)
        with contextlib.suppress(Exception):  # a stranger's code: asked again when it matters
            if feed.backfill(missed) is not None:
                asked.append(from_ts)
    return min(asked, default=None)


async def lag_at(storage: Storage, reader: LogReader, last_ts: int) -> int:
    """Return how late the last frames of the log were read, in nanoseconds.

    Args:
        storage: where the log is.
        reader: reads it.
        last_ts: where the log ends.
    """
    lags: dict[int, Lag] = {}
    try:
        with anyio.move_on_after(_RECALL_SECONDS):
            async for batch in storage.read(last_ts - _LAG_NS, last_ts):
                if batch.stream is Stream.LIVE:
                    lag = lags.setdefault(batch.conn, Lag())
                    lag.note(batch.first_ts, reader.read(batch))
    except Exception as error:  # noqa: BLE001  what was missed is looked for from the end on
        _log.warning("the end of the archive cannot be read back", why=str(error) or repr(error))
    return max((lag.ns for lag in lags.values()), default=0)


async def recall(
    storage: Storage, reader: LogReader, encoding: Encoding, *, from_ts: int, last_ts: int
) -> None:
    """Remember what was published last: a page that was fetched, or will be, may bring it again.

    Args:
        storage: where the log is.
        reader: reads it.
        encoding: remembers it.
        from_ts: from here on what was missed will be asked for.
        last_ts: where publishing goes on.
    """
    after = max(min(from_ts, last_ts) - _RECALL_NS, last_ts - _RECALL_MOST_NS)
    try:
        with anyio.move_on_after(_RECALL_SECONDS):
            async for batch in storage.read(after, last_ts):
                encoding.recall(batch, reader.read(batch))
    except Exception as error:  # noqa: BLE001  the bus recognises what it had lately, too
        _log.warning("the end of the archive cannot be read back", why=str(error) or repr(error))
