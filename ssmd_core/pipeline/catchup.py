"""Feeds the bus from the log when memory was given up, in order, until it has caught up."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Hashable, Mapping, Sequence
from typing import Any, Protocol

import anyio
import structlog

from ssmd_core.feed import ConnectionPlan, Feed, WebSocketFeed
from ssmd_core.feed.reading import read_frames
from ssmd_core.pipeline.encoding import Encoding
from ssmd_core.pipeline.publisher import Publisher
from ssmd_core.records import Batch
from ssmd_core.sink import Message, Storage, Transport

__all__ = ["CatchUp", "Log"]

_logger = structlog.get_logger("ssmd.catchup")
_RETRY_SECONDS = 1.0


class Log(Protocol):
    """Where the archive ends at this moment."""

    @property
    def head_ts(self) -> int:
        """Receipt time up to which the archive holds every frame and ledger line."""
        ...

    @property
    def held(self) -> int:
        """How many frames and ledger lines wait for the disk."""
        ...


class CatchUp:
    """One worker a transport. ``wake`` is called when room grew or memory was given up."""

    def __init__(
        self,
        feed: WebSocketFeed | Feed,
        storage: Storage,
        transport: Transport,
        *,
        log: Log,
        publisher: Publisher,
        encoding: Encoding,
        now_ns: Callable[[], int],
    ) -> None:
        self._feed = feed
        self._storage = storage
        self._transport = transport
        self._log = log
        self._publisher = publisher
        self._encoding = encoding
        self._session = _Reading(feed, now_ns)
        self._awake = anyio.Event()
        self._published = 0

    def wake(self) -> None:
        """Look again whether there is something to do."""
        self._awake.set()

    async def run(self) -> None:
        """Work until cancelled."""
        while True:
            if self._publisher.behind_from is not None:
                await self._work()
            await self._sleep()

    async def _work(self) -> None:
        self._published = 0
        while self._publisher.behind_from is not None:
            try:
                await self._read_to_head(self._publisher.behind_from)
            except Exception as error:  # noqa: BLE001  the log is the only source: ask it again
                _logger.warning("cannot read the archive, trying again", why=repr(error))
                await anyio.sleep(_RETRY_SECONDS)
        if self._published:
            _logger.info("caught up from the archive, live again", messages=self._published)

    async def _read_to_head(self, position: int) -> None:
        head = self._log.head_ts
        lines = _Lines(self._storage.notes(position, head))
        async for batch in self._storage.read(position, head):
            await self._give_lines(lines, batch.first_ts)
            await self._give(self._messages(batch))
            self._publisher.behind_from = batch.last_ts
        await self._give_lines(lines, head + 1)
        # From here to the return nothing waits, so no frame can slip between.
        if self._log.head_ts == head and not self._log.held:
            self._publisher.caught_up()
            return
        self._publisher.behind_from = max(self._publisher.behind_from or 0, head)
        if self._log.head_ts == head:
            await self._sleep()

    async def _give_lines(self, lines: _Lines, before: int) -> None:
        """Give the ledger lines whose place is before a frame."""
        while (due := await lines.take(before)) is not None:
            await self._give([self._encoding.status(*due, "catchup")])

    def _messages(self, batch: Batch) -> list[Message]:
        parsed, _ = read_frames(self._feed, batch.frames, batch.raw, self._session)
        return self._encoding.messages(batch, parsed, "catchup")

    async def _give(self, messages: Sequence[Message]) -> None:
        given = 0
        while given < len(messages):
            room = self._transport.room()
            if room <= 0:
                await self._sleep()
                continue
            part = messages[given : given + room]
            self._transport.publish(part)
            given += len(part)
            self._published += len(part)
        # A long catch-up must not starve the loop that captures.
        await anyio.lowlevel.checkpoint()

    async def _sleep(self) -> None:
        self._awake = anyio.Event()
        with anyio.move_on_after(_RETRY_SECONDS):
            await self._awake.wait()


class _Lines:
    """Ledger lines read back, the next one looked at before it is taken."""

    def __init__(self, notes: AsyncIterator[tuple[int, bytes]]) -> None:
        self._notes = notes
        self._next: tuple[int, bytes] | None = None
        self._ended = False

    async def take(self, before: int) -> tuple[int, bytes] | None:
        """Return the next line with ``ts < before``, if there is one."""
        if self._next is None and not self._ended:
            self._next = await anext(self._notes, None)
            self._ended = self._next is None
        if self._next is None or self._next[0] >= before:
            return None
        due, self._next = self._next, None
        return due


class _Reading:
    """The session that a feed sees while its frames are read back."""

    def __init__(self, feed: WebSocketFeed | Feed, now_ns: Callable[[], int]) -> None:
        self.plan = ConnectionPlan()
        self.channels: Mapping[Hashable, str] = {}
        self.state: Any = feed.new_state(self.plan)
        self.now_ns = now_ns
        self._requests = 0

    def next_id(self) -> int:
        self._requests += 1
        return self._requests
