"""Decides whether a stream may take a replay, and what of it the stream has already."""

from __future__ import annotations

from ssmd_core.clock import iso
from ssmd_core.errors import UsageError
from ssmd_core.service.interval import Interval
from ssmd_core.sink import Message
from ssmd_core.sink.bus import BusReader, StoredMessage
from ssmd_core.sink.origin import Origin

__all__ = ["Held", "look_into"]

_MAX_HELD = 2_000_000
"""Ids remembered: some 150 MB."""


class Held:
    """Which messages of an interval a stream holds: those need not be sent again."""

    def __init__(self, *, limit: int = _MAX_HELD) -> None:
        self._limit = limit
        # Numbers take a third of the memory of the ids themselves; two of 64 bits do not meet.
        self._ids: set[int] = set()

    def __len__(self) -> int:
        return len(self._ids)

    def __contains__(self, message: Message) -> bool:
        return hash(message.msg_id) in self._ids

    def add(self, message: StoredMessage) -> None:
        """Remember a message.

        Raises:
            UsageError: there are too many.
        """
        self._ids.add(hash(message.msg_id))
        if len(self._ids) > self._limit:
            raise UsageError(
                f"the stream holds more than {self._limit:,} messages of this time already, too "
                "many to compare: purge it, narrow --from and --to, or replay into an "
                "environment of another name"
            )


async def look_into(
    reader: BusReader,
    environment: str,
    feed: str,
    interval: Interval,
    *,
    into_live: bool,
    held: Held | None = None,
) -> Held:
    """Read through what a stream holds of a feed, without payloads.

    Raises:
        UsageError: live records, unless ``into_live``; or too many of the interval.
        TransportUnusable: the bus cannot be read.
    """
    held = Held() if held is None else held
    async for messages in reader.messages(environment, feed):
        for message in messages:
            if message.origin != Origin.REPLAY and not into_live:
                raise UsageError(_refusal(message, environment, feed))
            if message.ts in interval and message.msg_id:
                held.add(message)
    return held


def _refusal(message: StoredMessage, environment: str, feed: str) -> str:
    when = f" received {iso(message.ts)}" if message.ts else ""
    return (
        f"the stream of {environment}.{feed} holds what is not of a replay ({message.subject}"
        f"{when}): replayed records would stand among live ones; copy the environment file, "
        f"give the copy another name such as `name: {environment}-replay`, and replay into "
        "that; or say --into-live"
    )
