"""Decides what happens to a part from its closing until it may leave the spool."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import NamedTuple

import anyio
from anyio import to_thread

from ssmd_core.errors import StorageFailed, StorageUnusable
from ssmd_core.sink import StorageContext
from ssmd_sink_file.disk.files import describe
from ssmd_sink_file.disk.state import State
from ssmd_sink_file.frames.compress import Compression
from ssmd_sink_file.lines.layout import Kind
from ssmd_sink_file.objects.config import ObjectConfig
from ssmd_sink_file.objects.kept import Kept
from ssmd_sink_file.objects.leftovers import Leftovers
from ssmd_sink_file.objects.parts import DAMAGED, Closed, Left, Part, PartFile, PartMaker, Span
from ssmd_sink_file.objects.spool import (
    OpenName,
    Spool,
    days_of,
    last_ts_of,
    object_folder,
    rest_folder,
)
from ssmd_sink_file.objects.store import Store, StoreFailed, StoreRefused
from ssmd_sink_file.objects.uploading import Uploaded, Uploader
from ssmd_sink_file.objects.worker import Trouble, Worker, in_daemon, settled

__all__ = ["Shipping"]

_REACH_SECONDS = 10.0
"""So long a start waits for the store."""
_PATIENCE_SECONDS = 60.0
"""A store that takes nothing for longer makes us not ready."""
_LOOKED_DAYS = 3
"""So many of the newest days in the store are looked at for the last receipt time."""
_PLACE, _UPLOADED = "place", "uploaded"
_CONFLICT = "conflict"
_REMOVED = "removed from the spool by somebody before it was uploaded"


class _Done(NamedTuple):
    """A part that is in the store, or of which nothing more can be."""

    part: Part
    conflicts: tuple[PartFile, ...]


class Shipping:
    """Two threads, one that closes parts and one that uploads them; what they did is told here.

    All methods but ``readable`` belong to the task that owns the storage. The threads are
    apart because a store that hangs must not keep parts from being compressed.
    """

    def __init__(
        self,
        context: StorageContext,
        spool: Spool,
        state: State,
        *,
        compression: Compression,
        kept_bytes: int,
        on_torn: Callable[[Path, int], None],
        wait_seconds: Callable[[int], float],
    ) -> None:
        """``kept_bytes`` is how much of uploaded frames may stay for the next start."""
        self.released_ts = 0
        """Catch-up will not read up to here again."""
        self.is_scarce = False
        """Somebody waits for room on the disk of the spool."""
        self._context = context
        self._spool = spool
        self._state = state
        self._wait_seconds = wait_seconds
        maker = PartMaker(spool, context.feed, compression, on_torn)
        self._making: Worker[Closed | Left, Part] = Worker("ssmd-parts", maker.make, wait_seconds)
        self._uploading: Worker[Part, Uploaded] | None = None
        self._url = ""
        self._kept = Kept(spool, kept_bytes)
        self._reported: set[str] = set()
        self._aside: dict[str, int] = {}
        self._closed_bytes = 0
        self._done: list[_Done] = []
        self._told: Trouble | None = None
        self._removal_fault = ""

    # ── starting ─────────────────────────────────────────────────────────────────

    async def connect(self, config: ObjectConfig, *, is_empty: bool) -> int:
        """Look at the store, and return the last receipt time that is known to be there.

        Raises:
            StorageUnusable: the store refuses us, or the spool holds parts of another place.
        """
        store = await to_thread.run_sync(Store, config)
        self._url = store.url
        self._check_place(is_empty=is_empty)
        self._uploading = Worker(
            "ssmd-upload",
            Uploader(self._spool, self._context.feed, store).upload,
            self._wait_seconds,
        )
        kept = await to_thread.run_sync(self._state.load, _UPLOADED)
        last_ts = int(kept) if kept is not None and kept.strip().isdigit() else 0
        return max(last_ts, await self._reach(store))

    def _check_place(self, *, is_empty: bool) -> None:
        kept = self._state.load(_PLACE)
        place = self._url.encode()
        if kept == place:
            return
        is_place = kept is not None and b"://" in kept  # else it is damaged, and tells nothing
        if kept is not None and is_place and not is_empty:
            raise StorageUnusable(
                f"the spool {self._spool.base} holds parts for {kept.decode(errors='replace')}, "
                f"not for {self._url}: let them be uploaded there first, or give another "
                "`storage.spool`"
            )
        # On a full disk there is nothing to be mixed up later, either.
        with contextlib.suppress(StorageFailed):
            self._state.save(_PLACE, place)

    async def _reach(self, store: Store) -> int:
        why = f"no answer within {_REACH_SECONDS:g} s"
        with anyio.move_on_after(_REACH_SECONDS):
            try:
                return await in_daemon(partial(_last_ts, store, self._context.feed))
            except StoreRefused as error:
                raise StorageUnusable(
                    f"cannot archive to {store.url}: {error}; see that the bucket exists and "
                    "that we may list, read and write what is in it"
                ) from error
            except StoreFailed as error:
                why = str(error)
        self._context.warn(
            f"{store.url} cannot be reached: {why}; parts wait in {self._spool.base} until it can"
        )
        return 0

    def start(self, found: Leftovers) -> None:
        """Begin to work, first at what an earlier run left."""
        self._reported.update(found.reported)
        for job in found.jobs:
            self._making.add(job)
        self._making.start()
        if self._uploading is not None:
            self._uploading.start()

    # ── working ──────────────────────────────────────────────────────────────────

    def take(self, closed: Closed) -> None:
        """Take over a part that nothing is appended to any more."""
        self._making.add(closed)

    async def attend(self, *, today: str, is_end: bool = False) -> None:
        """Tell what was done, pass parts on, and remove what may go.

        At the end of a run nobody lets go of its last words; they are read where they are kept.
        """
        uploading = self._uploading
        if uploading is None:
            return
        made = self._making.collect()
        if any(part.damaged for _, part in made):
            await to_thread.run_sync(self.look_aside)
        for _, part in made:
            self._closed_bytes += part.bytes
            self._tell_made(part)
            uploading.add(part)
        for part, uploaded in uploading.collect():
            self._tell_uploaded(uploaded)
            self._done.append(_Done(part, uploaded.conflicts))
        self._tell_trouble()
        due = [
            done
            for done in self._done
            if done.part.last_ts <= self.released_ts or (is_end and done.part.is_ledger)
        ]
        if due or self.is_scarce:
            await self._remove(due, today)

    def _tell_made(self, part: Part) -> None:
        for sentence in (*part.damaged, *part.gone):
            self._fault(sentence)
        if part.lost is not None:
            self.lose(part.lost)
        for file in part.files:
            name = file.name.object_name(self._context.feed)
            if file.name.kind is not Kind.COVERAGE and name not in self._reported:
                self._context.report(
                    "rotated",
                    file=name,
                    lines=file.digest.lines,
                    bytes=file.digest.bytes,
                    sha256=file.digest.sha256,
                )

    def _tell_uploaded(self, uploaded: Uploaded) -> None:
        for file in uploaded.conflicts:
            name = file.name.object_name(self._context.feed)
            self._fault(
                f"{self._url}/{name} is another object: left alone; ours is kept in "
                f"{self._spool.base / _CONFLICT}"
            )
        for sentence in uploaded.unreadable:
            self._fault(sentence)
        for file in uploaded.lost:
            if file.name.kind is Kind.LIVE:
                self.lose(Span(file.digest.lines, file.name.first_ts, file.name.last_ts))

    def lose(self, span: Span) -> None:
        """Tell the host of frames that are in no file any more, nor in the store."""
        self._context.on_lost(span.frames, span.first_ts, span.last_ts, _REMOVED)

    def _fault(self, reason: str) -> None:
        self._context.warn(reason)
        self._context.report("sink_failed", sink="storage", reason=reason)

    def _tell_trouble(self) -> None:
        """Report each spell of failures once."""
        trouble = self._trouble()
        if trouble is not None and self._told is None:
            reason = f"{trouble.reason}; {self.backlog()}"
            self._context.report("sink_failed", sink="storage", reason=reason)
        elif trouble is None and self._told is not None:
            self._context.report("sink_recovered", sink="storage")
        self._told = trouble

    def _trouble(self) -> Trouble | None:
        uploading = self._uploading
        return self._making.trouble or (uploading.trouble if uploading else None)

    async def _remove(self, due: list[_Done], today: str) -> None:
        try:
            await to_thread.run_sync(partial(self._leave, due, today))
        except (OSError, StorageFailed) as error:
            why = describe(error) if isinstance(error, OSError) else str(error)
            fault = f"cannot remove uploaded parts from {self._spool.base}: {why}"
            if fault != self._removal_fault:
                self._context.warn(fault)
            self._removal_fault = fault
            return
        self._removal_fault = ""
        self.is_scarce = False
        self._closed_bytes -= sum(done.part.bytes for done in due)
        self._done = [done for done in self._done if done not in due]

    def _leave(self, due: list[_Done], today: str) -> None:
        """Take parts out of what waits, in a thread; where receipt time goes on is kept first."""
        last_ts = max((done.part.last_ts for done in due), default=0)
        is_saved = self._save(last_ts)
        files = [(file, file in conflicts) for part, conflicts in due for file in part.files]
        # Ledgers last: while frames wait, doing it all again names their ledger as before.
        for file, is_conflict in sorted(files, key=_is_ledger):
            with contextlib.suppress(FileNotFoundError):  # done before a failure of this
                if is_conflict:
                    self._spool.set_aside(file.plain or file.name, _CONFLICT)
                else:
                    self._kept.take(file)
        for day in {file.name.day for done in due for file in done.part.files}:
            if day < today:
                with contextlib.suppress(OSError):  # not empty yet
                    (self._spool.base / day).rmdir()
        scarce = self.is_scarce or not is_saved
        if any(is_conflict for _, is_conflict in files):
            self.look_aside()
        least = 0 if scarce and is_saved else 1
        self._kept.trim(self.released_ts, scarce=scarce, least=least)

    def _save(self, last_ts: int) -> bool:
        """Keep where receipt time goes on; without room for it, the name of a kept part tells."""
        kept = self._state.load(_UPLOADED)
        if kept is None or not kept.isdigit() or int(kept) < last_ts:
            try:
                self._state.save(_UPLOADED, b"%d" % last_ts)
            except StorageFailed:
                return False
        return True

    # ── how it stands ────────────────────────────────────────────────────────────

    @property
    def bytes(self) -> int:
        """Size of what is closed and still in the spool."""
        return self._closed_bytes + sum(
            sum(job.sizes.values()) for job in self._making.pending if isinstance(job, Closed)
        )

    def backlog(self) -> str:
        """Say how much waits for its upload."""
        waiting = self._uploading.pending if self._uploading else []
        closing = self._making.pending
        size = sum(part.bytes for part in waiting)
        return (
            f"{len(waiting) + len(closing)} parts ({size / 1e6:.1f} MB compressed) wait in "
            f"{self._spool.base}"
        )

    def fault(self) -> str:
        """Say why nothing gets to the store, once that has lasted a minute."""
        trouble = self._trouble()
        if trouble is None or time.monotonic() - trouble.since < _PATIENCE_SECONDS:
            return ""
        seconds = time.monotonic() - trouble.since
        return f"{trouble.reason}; for {seconds:.0f} s now; {self.backlog()}"

    def degraded(self) -> Iterator[str]:
        """Say what operators should know although frames are taken: at once, not in a minute."""
        trouble = self._trouble()
        if trouble is not None:
            yield f"{trouble.reason}; {self.backlog()}"
        for why, count in self._aside.items():
            if count:
                yield f"{count} files are set aside in {self._spool.base / why}; see the log"

    def look_aside(self) -> None:
        """Count what was set aside. Runs in a thread."""
        self._aside = {why: self._spool.count_aside(why) for why in (_CONFLICT, DAMAGED)}

    def readable(self, name: OpenName) -> int | None:
        """Return how far a file that is being closed holds whole appends, where that is known."""
        for job in self._making.pending:
            if isinstance(job, Closed) and (job.day, job.number) == (name.day, name.number):
                return job.sizes.get(name.kind)
        return None

    # ── ending ───────────────────────────────────────────────────────────────────

    async def made(self) -> None:
        """Return when every closed part is ready for its upload, or cannot be made so now."""
        await settled(self._making)

    async def uploaded(self) -> None:
        """Return when everything is in the store, or the store does not take it now."""
        if self._uploading is not None:
            await settled(self._uploading)

    def stop(self, on_end: Callable[[], None]) -> None:
        """Begin nothing more; call ``on_end`` once nothing in the spool is written any more."""
        if self._uploading is not None:
            self._uploading.stop()
        self._making.stop(on_end)

    def join(self) -> None:
        """Wait until nothing in the spool is written any more. Uploads are not waited for."""
        self._making.join()


def _is_ledger(entry: tuple[PartFile, bool]) -> bool:
    return entry[0].name.kind is Kind.COVERAGE


def _last_ts(store: Store, feed: str) -> int:
    """Return the last receipt time in the store, as the names of a feed's newest days tell it."""
    for day in days_of(store.folders())[:_LOOKED_DAYS]:
        names: list[str] = []
        for folder in (object_folder(day, feed), rest_folder(day, feed)):
            with contextlib.suppress(FileNotFoundError):
                names += store.names(folder)
        if last_ts := last_ts_of(names):
            return last_ts
    return 0
