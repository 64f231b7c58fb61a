"""Reads an archive and a bus side by side, over the time that the bus holds."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, closing
from dataclasses import dataclass, field

import anyio

from ssmd_core.pipeline.encoding import STATUS
from ssmd_core.service.comparison import Matcher
from ssmd_core.service.interval import Interval
from ssmd_core.service.playback import Playback
from ssmd_core.service.replay import chunks
from ssmd_core.service.rereading import Rereading
from ssmd_core.sink import Message
from ssmd_core.sink.bus import BusReader, StoredMessage

__all__ = ["Diff", "Findings"]


@dataclass(slots=True)
class Findings:
    """What was compared, and what differs."""

    comparison: Matcher = field(default_factory=Matcher)
    first_ts: int = 0
    """Receipt time of the oldest message that the stream holds; 0: it holds none."""
    last_ts: int = 0
    earlier: int = 0
    """Archived messages before the oldest one that the stream holds."""
    later: int = 0
    """Archived messages after the last one that the stream holds."""

    @property
    def equal(self) -> bool:
        """Whether something was compared and nothing differs."""
        return bool(self.first_ts) and not self.comparison.differences


class Diff:
    """One comparison. Publishes nothing."""

    def __init__(
        self,
        playback: Playback,
        rereading: Rereading,
        reader: BusReader,
        *,
        environment: str,
        feed: str,
        interval: Interval,
    ) -> None:
        self._playback = playback
        self._rereading = rereading
        self._reader = reader
        self._environment = environment
        self._feed = feed
        self._interval = interval
        self._first_id = ""
        """Older messages are gone from the stream; empty once it was met in the archive."""
        self._first_place = 0
        self.so_far = Findings()

    async def run(self) -> Findings:
        """Compare.

        Raises:
            TransportUnusable: the bus cannot be read.
            UsageError: the archive does not say whose its frames were.
            StorageFailed: the archive cannot be read.
        """
        told = self.so_far
        await self._find_oldest()
        async with aclosing(self._archived()) as archived:
            ahead = await anext(archived, None)
            async for stored in self._stored():
                if 0 < self._first_place < stored.place and stored.ts:
                    # It let go of something meanwhile, maybe of the oldest.
                    told.first_ts, self._first_id = stored.ts, stored.msg_id
                self._first_place = 0
                told.last_ts = max(told.last_ts, stored.ts)
                while ahead is not None and ahead.ts <= stored.ts:
                    self._take(ahead)
                    ahead = await anext(archived, None)
                told.comparison.take_stored(stored)
            while ahead is not None:
                told.later += 1
                ahead = await anext(archived, None)
        told.comparison.close()
        return told

    async def _find_oldest(self) -> None:
        """Find out where the stream begins: what was stored first need not be the oldest."""
        told = self.so_far
        async for stored in self._stored(payloads=False):
            self._first_place = self._first_place or stored.place
            if stored.ts and not 0 < told.first_ts <= stored.ts:
                told.first_ts, self._first_id = stored.ts, stored.msg_id

    def _take(self, message: Message) -> None:
        first_ts = self.so_far.first_ts
        # The stream may have let go of the first records of a frame and hold the rest.
        gone = message.ts == first_ts and self._first_id not in {"", message.msg_id}
        if message.ts < first_ts or gone:
            self.so_far.earlier += 1
            return
        self._first_id = ""
        subject = self._reader.subject(self._environment, self._feed, message.kind, message.ticker)
        self.so_far.comparison.take_archived(message, subject)

    async def _archived(self) -> AsyncGenerator[Message]:
        with closing(chunks(self._playback.passages())) as source:
            while chunk := await anyio.to_thread.run_sync(next, source, ()):
                for passage in chunk:
                    for message in self._rereading.messages(passage):
                        yield message

    async def _stored(self, *, payloads: bool = True) -> AsyncIterator[StoredMessage]:
        status = f"{self._environment}.{self._feed}.{STATUS}"
        held = self._reader.messages(self._environment, self._feed, payloads=payloads)
        async for messages in held:
            for message in messages:
                if message.subject != status and message.ts in self._interval:
                    yield message
