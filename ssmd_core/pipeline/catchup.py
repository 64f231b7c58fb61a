"""Feeds the bus from the log when memory was given up, in order, until it has caught up."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from typing import Protocol

import anyio

from ssmd_core.clock import iso
from ssmd_core.log import get_logger
from ssmd_core.metrics import Metrics
from ssmd_core.pipeline.cursor import Cursor
from ssmd_core.pipeline.encoding import Encoding
from ssmd_core.pipeline.guard import Guarded
from ssmd_core.pipeline.log import LogReader
from ssmd_core.pipeline.publisher import Publisher
from ssmd_core.pipeline.resume import Known, ask, beginning, place_below
from ssmd_core.records import Batch, Stream
from ssmd_core.sink import Message, Storage, Stored
from ssmd_core.sink.origin import Origin

__all__ = ["CatchUp", "Log"]

_logger = get_logger("ssmd.catchup")
_RETRY_SECONDS = 1.0
_TRIES = 5
"""So often a bus that is there is asked how far it came: one that just started is slow."""
_ASKED = "the bus is asked how far it came"
_MISSING = f"the archive has frames and no cursor: {_ASKED}"
_UNTOLD = (
    "no cursor says how far the bus came, and it cannot say so either: what it missed before this "
    "start stands in the archive only, `ssmd replay` publishes it"
)
_JOINS = (
    "the bus holds nothing of this feed and is fed from here on: what the archive holds of before "
    "stands there only, `ssmd replay` publishes it"
)


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
        storage: Storage,
        bus: Guarded,
        *,
        log: Log,
        reader: LogReader,
        publisher: Publisher,
        encoding: Encoding,
        metrics: Metrics,
        report: Callable[..., None],
    ) -> None:
        self._storage = storage
        self._bus = bus
        self._log = log
        self._reader = reader
        self._publisher = publisher
        self._encoding = encoding
        self._metrics = metrics
        self._report = report
        self._head_ts = 0
        """Where the archive ended at the start."""
        self._known = Known(None)
        self._starting = False
        self._owed_from = 0
        """Without a cursor: the bus had nothing to do with the archive before, or will tell."""
        self.seeking = ""
        """Why nobody knows yet how far the bus came, or empty: no cursor may be kept."""
        self.failing = ""
        """Why the archive cannot be read, or empty."""
        self._awake = anyio.Event()
        self._published = 0

    def wake(self) -> None:
        """Look again whether there is something to do."""
        self._awake.set()

    async def start(self, cursor: Cursor, head_ts: int) -> None:
        """Begin behind, where the cursor does not say that the bus has everything.

        The bus is asked first what it has beyond the cursor; how far it came, where there
        is none or a damaged one.

        Args:
            cursor: how far the bus had come when the last run ended.
            head_ts: where the archive ends.

        Raises:
            StorageFailed: the cursor is there and cannot be read.
        """
        try:
            kept = cursor.load(head_ts)
        except ValueError as error:
            self._seek(f"{error}: {_ASKED}", head_ts, head_ts)
            return
        if kept is None:
            await cursor.begin(head_ts)
            if head_ts:
                self._owed_from = cursor.owed_from
                self._seek(_MISSING, cursor.owed_from, head_ts)
        elif kept < head_ts:
            self._begin(kept, head_ts)

    def _seek(self, why: str, position: int, head_ts: int) -> None:
        self.seeking = why
        self._begin(position, head_ts)
        self._report("sink_failed", sink="transport", reason=why)

    def _begin(self, position: int, head_ts: int) -> None:
        self._starting, self._head_ts = True, head_ts
        self._publisher.resume_from(position)

    async def run(self) -> None:
        """Work until cancelled."""
        if self._starting:
            await self._find_place()
        while True:
            if self._publisher.behind_from is not None:
                await self._work()
            await self._sleep()

    # ── after a start ────────────────────────────────────────────────────────────

    async def _find_place(self) -> None:
        """Learn what the bus has already: its memory of ids is shorter than an outage."""
        if self.seeking:
            place = await self._seek_place()
            self.seeking = ""
            if place is None:
                return  # what came since then the bus cannot have
            self._publisher.resume_from(place)
            self._report("sink_recovered", sink="transport", resumed_from=iso(place))
        self._known = Known(await ask(self._bus, self._publisher.behind_from, sleep=self._sleep))
        if self._known:
            _logger.info("the bus has messages beyond the cursor", messages=len(self._known))

    async def _seek_place(self) -> int | None:
        """Return from where to publish, by what the bus holds; None: from where it stands."""
        found: Stored | None = None
        for _ in range(_TRIES):
            found = await ask(self._bus, None, sleep=self._sleep)
            if found is not None:
                break
            await self._sleep()
        place = place_below(found, self._head_ts)
        if place is not None:
            return min(place, self._owed_from or place)
        if found is None or not self._owed_from:
            self._report("sink_failed", sink="transport", reason=_UNTOLD)
            return None
        await self._join(self._owed_from)
        return None

    async def _join(self, position: int) -> None:
        """Say what a bus will not have that was added to an older archive."""
        began = await beginning(self._storage, position)
        about = {"archive_from": iso(began)} if began is not None else {}
        _logger.warning("the archive is older than the bus", resumed_from=iso(position), **about)
        self._report(
            "sink_recovered", sink="transport", resumed_from=iso(position), **about, reason=_JOINS
        )

    # ── behind ───────────────────────────────────────────────────────────────────

    async def _work(self) -> None:
        self._published = 0
        while self._publisher.behind_from is not None:
            try:
                await self._read_to_head(self._publisher.behind_from)
            except Exception as error:  # noqa: BLE001  the log is the only source: ask it again
                if not self.failing:
                    _logger.warning("cannot read the archive, trying again", why=repr(error))
                self.failing = str(error) or repr(error)
                await anyio.sleep(_RETRY_SECONDS)
            else:
                self.failing = ""
        if self._published:
            _logger.info("caught up from the archive, live again", messages=self._published)

    async def _read_to_head(self, position: int) -> None:
        head = self._log.head_ts
        lines = _Lines(self._storage.notes(position, head))
        async for batch in self._storage.read(position, head):
            await self._give_lines(lines, batch.first_ts)
            await self._give(self._messages(batch))
            self._publisher.advanced_to(batch.last_ts, sum(map(len, batch.frames)))
            self._known.forget()
        await self._give_lines(lines, head + 1)
        # From here to the return nothing waits, so no frame can slip between.
        if self._log.head_ts == head and not self._log.held:
            self._publisher.caught_up()
            self._known = Known(None)
            return
        self._publisher.advanced_to(head)
        if self._log.head_ts == head:
            await self._sleep()

    async def _give_lines(self, lines: _Lines, before: int) -> None:
        """Give the ledger lines whose place is before a frame."""
        while (due := await lines.take(before)) is not None:
            await self._give([self._encoding.status(*due, Origin.CATCHUP)])

    def _messages(self, batch: Batch) -> list[Message]:
        origin = Origin.BACKFILL if batch.stream is Stream.REST else Origin.CATCHUP
        return self._encoding.messages(batch, self._reader.read(batch), origin)

    async def _give(self, messages: Sequence[Message]) -> None:
        due = self._known.without(messages) if self._known else messages
        self._metrics.duplicates += len(messages) - len(due)
        given = 0
        while given < len(due):
            room = self._bus.room()
            if room <= 0:
                await self._sleep()
                continue
            part = due[given : given + room]
            if self._bus.publish(part):
                await anyio.sleep(_RETRY_SECONDS)
                continue
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
