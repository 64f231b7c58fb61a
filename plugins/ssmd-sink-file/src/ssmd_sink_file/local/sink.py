"""The local archive: decides which file takes a batch, and what a failure means."""

from __future__ import annotations

import errno
import time
from collections.abc import AsyncIterator, Callable
from functools import partial
from pathlib import Path

import anyio
from anyio import to_thread

from ssmd_core.clock import day_of
from ssmd_core.errors import StorageFailed
from ssmd_core.records import Batch
from ssmd_core.sink import Health, Mark, Storage, StorageContext
from ssmd_sink_file.config import LocalConfig
from ssmd_sink_file.disk.files import describe
from ssmd_sink_file.disk.lock import Lock, acquire
from ssmd_sink_file.disk.segments import AtRisk, Segment, Ticket, at_risk, flush, which_may_be_lost
from ssmd_sink_file.disk.state import State
from ssmd_sink_file.disk.volume import prepare
from ssmd_sink_file.lines.layout import Kind, Layout, kind_of
from ssmd_sink_file.lines.parser import LineParser
from ssmd_sink_file.lines.writer import LineWriter, Part, one_line
from ssmd_sink_file.local.mending import Told
from ssmd_sink_file.local.open_files import OpenFiles
from ssmd_sink_file.local.pieces import PACKED_KINDS, look
from ssmd_sink_file.local.reader import Reader
from ssmd_sink_file.local.recovery import recover
from ssmd_sink_file.local.upkeep import Upkeep

__all__ = ["LocalStorage"]

_LOCK_SECONDS = 30.0
_LAST_WORK_SECONDS = 5.0
"""So long a stop may go on closing parts and reading finished files; the next start goes on."""
_REMOVED = "the file that they stood in was removed by somebody"


class LocalStorage(Storage):
    """Appends frames to ``{path}/{day}/{feed}.jsonl``, one write a batch.

    With compression that file is a tail: what closes moves to ``{feed}.jsonl.zst`` or ``.gz``.

    Everything but ``read``, ``notes`` and the values of ``load`` and ``save`` belongs to the task
    that called ``open``; ``sync`` may run while ``append`` and ``note`` are called.
    """

    def __init__(
        self,
        context: StorageContext,
        config: LocalConfig,
        *,
        lock_seconds: float = _LOCK_SECONDS,
        wall_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        self.root = Path(config.path).absolute()
        self.sync_seconds = config.sync_seconds
        self.sync_failures = 0
        self._context = context
        self._lock_seconds = lock_seconds
        self._wall_ns = wall_ns
        self._layout = Layout(context.feed)
        self._writer = LineWriter(context.feed)
        self._files = OpenFiles(
            self.root,
            self._layout,
            may_open=self._may_open,
            on_torn=self._on_torn,
            on_day=self._on_day,
        )
        self._reader = Reader(
            self.root, self._layout, readable=self._files.readable, warn=context.warn
        )
        self._state = State(self.root, self._layout)
        self._lock = Lock(self.root / self._layout.beside("lock"))
        self._before: dict[str, int] = {}
        """Plain bytes of a day that stand before its plain file."""
        self._upkeep = Upkeep(
            self.root,
            self._layout,
            config,
            context,
            told=Told(self._on_torn, self._on_damaged),
            may_touch=self._may_open,
            is_held=self._files.is_held,
            wall_ns=wall_ns,
        )
        self._syncing = anyio.Lock()
        self._is_open = False
        self._last_ts = 0
        self._sync_fault = ""

    # ── opening ──────────────────────────────────────────────────────────────────

    async def open(self) -> int:
        """Take the lock, mend what a crash left, and return the last ``ts`` kept (0: none)."""
        warn = self._context.warn
        probe = self.root / self._layout.beside("probe")
        await to_thread.run_sync(prepare, self.root, probe, warn)
        self._lock = await acquire(self._lock.path, self._lock_seconds)
        try:
            found = await to_thread.run_sync(
                partial(
                    recover,
                    self.root,
                    self._layout,
                    on_torn=self._on_torn,
                    warn=warn,
                    on_damaged=self._on_damaged,
                )
            )
            today = day_of(max(self._wall_ns(), found.last_ts + 1))
            await self._upkeep.resume(found, today)
        except BaseException:
            self._lock.release()
            raise
        self._is_open = True
        self._files.latest = found.latest
        self._last_ts = found.last_ts
        for place, settled in found.settled.items():
            self._before[self._layout.file(*place)] = settled.raw_bytes + settled.closing_bytes
        return found.last_ts

    def _on_torn(self, path: Path, size: int) -> None:
        self._context.metrics.torn_tails += 1
        self._context.warn(
            f"{path} ended in a partial line of {size} bytes: moved to {path.parent.name}/"
            f"{self._context.feed}.torn"
        )

    def _on_damaged(self, what: str) -> None:
        self._context.metrics.torn_tails += 1
        self._context.warn(what)

    # ── appending ────────────────────────────────────────────────────────────────

    def append(self, batch: Batch) -> None:
        """Append a batch, whole or not at all. Does not wait for durability."""
        count = len(batch.frames)
        if not count:
            return
        parts = self._writer.parts(batch)
        self._files.append(kind_of(batch.stream), parts)
        self._last_ts = max(self._last_ts, batch.first_ts + count - 1)
        metrics = self._context.metrics
        metrics.archived += count
        for part in parts:
            metrics.archived_bytes += len(part.data)

    def note(self, ts: int, line: bytes) -> None:
        """Append one line (JSON, no newline) to the coverage ledger of the day of ``ts``."""
        self._files.append(Kind.COVERAGE, [Part(day_of(ts), one_line(line) + b"\n")])
        self._last_ts = max(self._last_ts, ts)

    def _may_open(self) -> None:
        if not self._is_open:
            raise OSError(errno.EBADF, "the archive is not open")
        self._lock.ensure()

    def _on_day(self, kind: Kind, former_day: str, day: str) -> None:
        """Let the day before be finished where time went on."""
        if kind is Kind.COVERAGE:
            return
        if former_day < day:
            self._upkeep.end_day((former_day, kind))
        self._upkeep.begin_day((day, kind))

    @property
    def is_busy(self) -> bool:
        """Whether parts are on their way or files are read that are to be reported."""
        return self._upkeep.is_busy

    # ── durability ───────────────────────────────────────────────────────────────

    async def sync(self) -> None:
        """Return when everything appended before the call is durable."""
        async with self._syncing:
            files = self._files
            finished, current = list(files.retired), list(files.current.values())
            faults: list[str] = []
            if self._sync_fault or any(map(_is_dirty, (*finished, *current))):
                faults = await self._flush(finished, current)
            for segment in finished:
                segment.close()
            del files.retired[: len(finished)]
            await self._close_parts(self._upkeep.is_due)
            await self._upkeep.work()
        if faults:
            raise StorageFailed("; ".join(faults))

    async def _flush(self, finished: list[Segment], current: list[Segment]) -> list[str]:
        faults: list[str] = []
        lost: list[AtRisk] = []
        began = time.perf_counter()
        segments = (*filter(_is_dirty, finished), *current)
        for segment in sorted(segments, key=lambda s: s.name.endswith(Kind.COVERAGE.value)):
            ticket = None
            try:
                ticket = segment.ticket()
                await to_thread.run_sync(flush, ticket)
            except OSError as error:
                risk = await self._risk(segment, ticket, lost)
                faults.append(f"{segment.path} may not be durable: {describe(error)}{risk}")
                if segment in current:
                    segment.reopen()
            else:
                segment.flushed(ticket)
        self._context.metrics.archive_sync.observe(time.perf_counter() - began)
        self._sync_fault = "; ".join(faults)
        self.sync_failures += bool(faults)
        # Last: what is told of it must not go to a ledger that was removed as well.
        self._lose(lost)
        return faults

    async def _risk(self, segment: Segment, ticket: Ticket | None, lost: list[AtRisk]) -> str:
        """Say what went with a file that somebody removed; forget what was compressed beside it."""
        if ticket is None:
            return ""
        risk = await to_thread.run_sync(at_risk, ticket, segment.seen_bytes)
        if risk is None:
            return ""
        for kind in PACKED_KINDS:
            lying = await to_thread.run_sync(look, self.root, self._layout, segment.day, kind)
            if not lying._replace(tail=False):
                self._before.pop(self._layout.file(segment.day, kind), None)
        # Frames came meanwhile, and went to the file that is gone.
        risk = at_risk(ticket._replace(size=segment.size), segment.seen_bytes) or risk
        if segment.name == self._layout.file(segment.day, Kind.LIVE) and risk.is_gone:
            lost.append(risk)
        return f"; {which_may_be_lost(risk)}"

    def _lose(self, lost: list[AtRisk]) -> None:
        parser = LineParser(self._context.feed)
        for lines, *ends, _ in lost:
            first_ts, last_ts = map(parser.whole_ts, ends)
            if lines and first_ts is not None and last_ts is not None:
                self._context.on_lost(lines, first_ts, last_ts, _REMOVED)

    async def _close_parts(self, is_due: Callable[[tuple[str, Kind], int], bool]) -> None:
        for kind in PACKED_KINDS:
            segment = self._files.current.get(kind)
            if segment is None or not is_due((segment.day, kind), segment.size):
                continue
            file, identity = segment.name, segment.identity
            part = await self._upkeep.close_part((segment.day, kind))
            if part is None:
                continue
            if part.identity != identity:
                self._before[file] = self._before.get(file, 0) + part.bytes
                continue
            # Appended to until here, and from here on by nobody.
            self._before[file] = self._before.get(file, 0) + segment.size
            part.end = segment.size
            segment.renamed(self.root, part.closing)
            if self._files.current.get(kind) is segment:
                self._files.retire(kind)

    def health(self) -> Health:
        """Say whether the last append to each file and the last sync succeeded."""
        fault = self._files.fault or self._sync_fault
        return Health(ok=not fault, reason=fault)

    async def aclose(self) -> None:
        """Sync, close, release the lock."""
        if not self._is_open:
            return
        try:
            await self.sync()
            with anyio.move_on_after(_LAST_WORK_SECONDS):
                await self._finish()
            await self.sync()
        finally:
            self._is_open = False
            self._files.close()
            self._lock.release()

    async def _finish(self) -> None:
        """Close what is plain, and report what is over, as far as it can be done now."""
        upkeep = self._upkeep
        upkeep.hurry()
        latest = self._files.latest
        for kind in latest.keys() & set(PACKED_KINDS) - self._files.current.keys():
            upkeep.close_rest((latest[kind], kind))
        while True:
            # A part has to be in before the next one of its day gets a name.
            async with self._syncing:
                await self._close_parts(lambda place, _: upkeep.may_close(place))
            if not upkeep.is_busy:
                return
            await self.sync()

    # ── reading ──────────────────────────────────────────────────────────────────

    def mark(self) -> Mark:
        """Return where the next live frame will stand.

        The file is the day's plain one, whether or not it is there, and the offset counts
        the plain content of the day: what was compressed, what is closing, what is plain.
        So it stays true when the day is compressed.

        It will be of the day that receipt time has reached: that of the wall clock, or of
        the newest ``ts`` where that is ahead. Between this call and the frame midnight may
        pass; the mark then is the end of the day before, with nothing in between.
        """
        day = day_of(max(self._wall_ns(), self._last_ts + 1))
        file = self._layout.file(day, Kind.LIVE)
        before = self._before.get(file, 0)
        current = self._files.current.get(Kind.LIVE)
        if current is not None and current.name == file:
            return Mark(file, before + current.size)
        try:
            return Mark(file, before + (self.root / file).stat().st_size)
        except OSError:
            return Mark(file, before)

    def read(self, after: int, upto: int) -> AsyncIterator[Batch]:
        """Yield the frames with ``after < ts <= upto`` in order. Works without ``open``."""
        return self._reader.read(after, upto)

    def notes(self, after: int, upto: int) -> AsyncIterator[tuple[int, bytes]]:
        """Yield the ledger lines with ``after < ts <= upto`` in order. Works without ``open``.

        ``ts`` is the one that stands in the line.
        """
        return self._reader.notes(after, upto)

    def release(self, upto: int) -> None:
        """Take note that the bus has everything up to ``upto``: days below may go."""
        self._upkeep.release(upto)

    # ── values beside the archive ────────────────────────────────────────────────

    def load(self, name: str) -> bytes | None:
        """Return a small durable value kept beside the archive, such as ``connector``."""
        return self._state.load(name)

    def save(self, name: str, value: bytes) -> None:
        """Replace such a value atomically."""
        self._state.save(name, value)


def _is_dirty(segment: Segment) -> bool:
    return segment.dirty
