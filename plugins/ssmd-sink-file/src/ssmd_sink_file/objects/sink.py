"""The archive in object storage: decides when a part closes, and when it may leave the spool."""

from __future__ import annotations

import errno
import time
from collections.abc import AsyncIterator, Callable, Sequence
from functools import partial
from pathlib import Path

import anyio
from anyio import to_thread

from ssmd_core.clock import day_of
from ssmd_core.errors import StorageFailed, StorageUnusable
from ssmd_core.records import Batch
from ssmd_core.sink import Health, Mark, Storage, StorageContext
from ssmd_sink_file.disk.files import FULL, describe
from ssmd_sink_file.disk.lock import Lock, acquire
from ssmd_sink_file.disk.segments import Ticket, at_risk, flush, which_may_be_lost
from ssmd_sink_file.disk.state import State
from ssmd_sink_file.disk.volume import free_bytes, prepare
from ssmd_sink_file.frames.compress import Compression
from ssmd_sink_file.lines.layout import Kind, Layout, kind_of
from ssmd_sink_file.lines.writer import LineWriter, one_line
from ssmd_sink_file.lines.writer import Part as Lines
from ssmd_sink_file.objects.config import ObjectConfig
from ssmd_sink_file.objects.leftovers import Leftovers, look
from ssmd_sink_file.objects.open_parts import OpenPart, OpenParts, Refused
from ssmd_sink_file.objects.parts import Span
from ssmd_sink_file.objects.reader import SpoolReader
from ssmd_sink_file.objects.shipping import Shipping
from ssmd_sink_file.objects.spool import OpenName, Spool, object_folder
from ssmd_sink_file.objects.store import require
from ssmd_sink_file.objects.worker import backoff_seconds

__all__ = ["ObjectStorage"]

_SPOOL_KEY = "storage.spool"
_LOCK_SECONDS = 30.0
_LAST_SECONDS = 15.0
"""So long closing may take where nobody bounds it."""
_MEASURE_SECONDS = 10.0
_FRAMES_FIRST = (Kind.LIVE, Kind.REST, Kind.COVERAGE)


class ObjectStorage(Storage):
    """Appends frames to a part in the spool, one write a batch; closed parts are uploaded.

    Everything but ``read``, ``notes`` and the values of ``load`` and ``save`` belongs to the task
    that called ``open``; ``sync`` may run while ``append`` and ``note`` are called.
    """

    def __init__(
        self,
        context: StorageContext,
        config: ObjectConfig,
        *,
        lock_seconds: float = _LOCK_SECONDS,
        wall_ns: Callable[[], int] = time.time_ns,
        monotonic: Callable[[], float] = time.monotonic,
        wait_seconds: Callable[[int], float] = backoff_seconds,
    ) -> None:
        """Open nothing.

        Raises:
            StorageUnusable: the library of the store is not installed.
        """
        require(config.place.protocol)
        self.root = Path(config.spool).absolute()
        self.sync_seconds = config.sync_seconds
        self._context = context
        self._config = config
        self._lock_seconds = lock_seconds
        self._wall_ns = wall_ns
        layout = Layout(context.feed)
        self._probe = self.root / layout.beside("probe")
        self._lock = Lock(self.root / layout.beside("lock"))
        self._state = State(self.root, layout)
        self._spool = Spool(self.root / context.feed)
        self._writer = LineWriter(context.feed)
        self._reader = SpoolReader(
            self._spool, context.feed, readable=self._readable, warn=context.warn
        )
        self._parts = OpenParts(
            self._spool,
            config.part_bytes,
            before_open=self._may_open,
            on_torn=self._on_torn,
            monotonic=monotonic,
        )
        self._shipping = Shipping(
            context,
            self._spool,
            self._state,
            compression=Compression(config.compression),
            kept_bytes=config.part_bytes,
            on_torn=self._on_torn,
            wait_seconds=wait_seconds,
        )
        self._monotonic = monotonic
        self._measured = -_MEASURE_SECONDS
        self._syncing = anyio.Lock()
        self._is_open = False
        self._last_ts = 0
        self._append_faults: dict[Kind, str] = {}
        self._sync_fault = ""

    # ── opening ──────────────────────────────────────────────────────────────────

    async def open(self) -> int:
        """Take the lock, look at the store once, and return the last ``ts`` kept (0: none).

        What an earlier run left in the spool is closed and uploaded from here on. A store
        that does not answer is no fault.

        Raises:
            StorageUnusable: lock held, spool not writable, no such bucket, or refused.
        """
        await to_thread.run_sync(
            partial(prepare, self.root, self._probe, self._context.warn, key=_SPOOL_KEY)
        )
        self._lock = await acquire(self._lock.path, self._lock_seconds, key=_SPOOL_KEY)
        try:
            found = await self._look()
            uploaded_ts = await self._shipping.connect(self._config, is_empty=not found.jobs)
        except BaseException:
            self._lock.release()
            raise
        self._is_open = True
        self._parts.last_number = found.last_number
        self._last_ts = max(found.last_ts, uploaded_ts)
        self._shipping.start(found)
        return self._last_ts

    async def _look(self) -> Leftovers:
        try:
            return await to_thread.run_sync(look, self._spool, self._context.feed)
        except OSError as error:
            msg = (
                f"cannot read the spool {self._spool.base}: {describe(error)}; "
                "make it readable for us, or move it away"
            )
            raise StorageUnusable(msg) from error

    def _on_torn(self, path: Path, size: int) -> None:
        self._context.metrics.torn_tails += 1
        self._context.warn(
            f"{path} ended in a partial line of {size} bytes: moved to {path.parent / 'torn'}"
        )

    def _may_open(self) -> None:
        if not self._is_open:
            raise OSError(errno.EBADF, "the archive is not open")
        self._lock.ensure()

    # ── appending ────────────────────────────────────────────────────────────────

    def append(self, batch: Batch) -> None:
        """Append a batch, whole or not at all. Does not wait for durability."""
        count = len(batch.frames)
        if not count:
            return
        kind = kind_of(batch.stream)
        self._check_room(kind)
        lines = self._writer.parts(batch)
        self._write(kind, lines, batch.first_ts, count)
        self._last_ts = max(self._last_ts, batch.first_ts + count - 1)
        metrics = self._context.metrics
        metrics.archived += count
        for part in lines:
            metrics.archived_bytes += len(part.data)

    def note(self, ts: int, line: bytes) -> None:
        """Append one line (JSON, no newline) to the coverage ledger of the day of ``ts``."""
        self._write(Kind.COVERAGE, [Lines(day_of(ts), one_line(line) + b"\n")], ts)
        self._last_ts = max(self._last_ts, ts)

    def _write(self, kind: Kind, lines: list[Lines], first_ts: int, count: int = 1) -> None:
        try:
            self._parts.append(kind, lines, first_ts, count)
        except Refused as refused:
            self._shipping.is_scarce |= refused.error.errno in FULL
            fault = f"cannot append to {refused.path}: {describe(refused.error)}"
            self._append_faults[kind] = fault
            raise StorageFailed(fault) from refused.error
        self._append_faults.pop(kind, None)

    def _check_room(self, kind: Kind) -> None:
        limit = self._config.max_spool_bytes
        if limit is not None and self._parts.bytes + self._shipping.bytes > limit:
            fault = (
                f"the spool {self._spool.base} is full: it holds the {limit} bytes that "
                f"`max_spool_bytes` allows; {self._shipping.backlog()}"
            )
            self._append_faults[kind] = fault
            raise StorageFailed(fault)

    # ── durability ───────────────────────────────────────────────────────────────

    async def sync(self) -> None:
        """Return when everything appended before the call is durable, on local disk."""
        async with self._syncing:
            self._parts.close_older(self._config.part_seconds)
            retired = list(self._parts.retired)
            faults = await self._flush(retired)
            for part in retired:
                part.close()
                self._shipping.take(part.closed())
            del self._parts.retired[: len(retired)]
            await self._shipping.attend(today=day_of(self._wall_ns()))
            await self._measure()
        if faults:
            raise StorageFailed("; ".join(faults))

    async def _measure(self) -> None:
        """Say now and then how much room the spool has left."""
        now = self._monotonic()
        if now >= self._measured + _MEASURE_SECONDS:
            self._measured = now
            free = await to_thread.run_sync(free_bytes, self.root)
            self._context.metrics.archive_free_bytes = free
            self._context.metrics.upload_backlog_bytes = self._shipping.bytes
            await to_thread.run_sync(self._shipping.look_aside)

    async def _flush(self, retired: list[OpenPart]) -> list[str]:
        files = [
            (part, kind)
            for part in self._parts.all()
            for kind in _FRAMES_FIRST
            if kind in part.segments and (part not in retired or part.segments[kind].dirty)
        ]
        if not self._sync_fault and not any(part.segments[kind].dirty for part, kind in files):
            return []
        faults: list[str] = []
        lost: list[Span] = []
        began = time.perf_counter()
        for part, kind in files:
            fault = await self._flush_one(part, kind, lost, is_open=part not in retired)
            faults += [fault] if fault else []
        self._context.metrics.archive_sync.observe(time.perf_counter() - began)
        self._sync_fault = "; ".join(faults)
        # Last: what is told of it must not go to a ledger that was removed as well.
        for span in lost:
            self._shipping.lose(span)
        return faults

    async def _flush_one(
        self, part: OpenPart, kind: Kind, lost: list[Span], *, is_open: bool
    ) -> str:
        """Make a file durable; return what went wrong.

        What went with a file that somebody removed is told of: of a part that is closed
        by whoever closes it.
        """
        segment = part.segments[kind]
        ticket: Ticket | None = None
        try:
            ticket = segment.ticket()
            await to_thread.run_sync(flush, ticket)
        except OSError as error:
            fault = f"{segment.path} may not be durable: {describe(error)}"
            risk = None
            if ticket is not None:
                risk = await to_thread.run_sync(at_risk, ticket, segment.seen_bytes)
            live = part.live if kind is Kind.LIVE and is_open else None
            if risk is not None:
                held = f"; it held {live.frames} frames" if live is not None else ""
                fault += f"{held}; {which_may_be_lost(risk)}"
            if risk is not None and risk.is_gone and live is not None:
                lost.append(live)
                part.forget_live()
            if is_open:
                segment.reopen()
            return fault
        segment.flushed(ticket)
        return ""

    def release(self, upto: int) -> None:
        """Take note that catch-up will not read up to ``upto`` again: parts may go."""
        self._shipping.released_ts = max(self._shipping.released_ts, upto)

    def health(self) -> Health:
        """Say whether the spool takes data, and the store has done so within the last minute."""
        fault = next(iter(self._append_faults.values()), self._sync_fault)
        fault = fault or self._shipping.fault()
        return Health(ok=not fault, reason=fault)

    def degraded(self) -> Sequence[str]:
        """Say what hinders uploads, and what was set aside."""
        return list(self._shipping.degraded())

    async def drain(self) -> None:
        """Close what is open and upload it, as far as the store takes it now.

        Raises:
            StorageFailed: something may not be durable.
        """
        faults: list[str] = []
        # What the first round reports of its parts needs a part of the ledger of its own.
        for _ in range(2):
            self._parts.close_older(0)
            try:
                await self.sync()
            except StorageFailed as error:
                faults.append(str(error))
            await self._shipping.made()
            await self._shipping.attend(today=day_of(self._wall_ns()))
        await self._shipping.uploaded()
        await self._shipping.attend(today=day_of(self._wall_ns()), is_end=True)
        if faults:
            raise StorageFailed(faults[0])

    async def aclose(self) -> None:
        """Close and upload what there is, as far as time allows; release the lock.

        What is not uploaded when this is cancelled, or fails, is so after the next start.
        """
        try:
            if self._is_open:
                with anyio.move_on_after(_LAST_SECONDS):
                    await self.drain()
        finally:
            self._is_open = False
            self._parts.forget()
            self._shipping.stop(self._lock.release)
        await to_thread.run_sync(self._shipping.join, abandon_on_cancel=True)

    # ── reading ──────────────────────────────────────────────────────────────────

    def mark(self) -> Mark:
        """Return where the next live frame will stand: in the object whose name begins so.

        The offset counts bytes before compression. An object is named when it is closed,
        so before its first frame only its folder is known.
        """
        day = day_of(max(self._wall_ns(), self._last_ts + 1))
        folder = object_folder(day, self._context.feed)
        part = self._parts.live(day)
        segment = None if part is None else part.segments.get(Kind.LIVE)
        if part is None or segment is None or not segment.size:
            return Mark(f"{folder}/", 0)
        return Mark(f"{folder}/{part.first_live_ts:019d}-", segment.size)

    def read(self, after: int, upto: int) -> AsyncIterator[Batch]:
        """Yield the frames in the spool with ``after < ts <= upto`` in order, without ``open``.

        What was uploaded stays there until it is released.
        """
        return self._reader.read(after, upto)

    def notes(self, after: int, upto: int) -> AsyncIterator[tuple[int, bytes]]:
        """Yield the ledger lines in the spool with ``after < ts <= upto`` in order."""
        return self._reader.notes(after, upto)

    def _readable(self, name: OpenName) -> int | None:
        size = self._parts.readable(name)
        return self._shipping.readable(name) if size is None else size

    # ── values beside the spool ──────────────────────────────────────────────────

    def load(self, name: str) -> bytes | None:
        """Return a small durable value kept beside the spool, such as ``connector``."""
        return self._state.load(name)

    def save(self, name: str, value: bytes) -> None:
        """Replace such a value atomically."""
        self._state.save(name, value)
