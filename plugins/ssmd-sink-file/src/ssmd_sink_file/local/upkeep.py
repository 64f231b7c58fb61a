"""Decides what is done behind the appends: parts close, finished files are told, old days go."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from itertools import takewhile
from pathlib import Path

from anyio import to_thread

from ssmd_core.clock import day_of
from ssmd_core.sink import StorageContext
from ssmd_sink_file.config import LocalConfig
from ssmd_sink_file.disk.files import describe
from ssmd_sink_file.disk.volume import free_bytes
from ssmd_sink_file.frames.compress import Compression
from ssmd_sink_file.lines.layout import Kind, Layout
from ssmd_sink_file.local.digest import Digests
from ssmd_sink_file.local.mending import Told
from ssmd_sink_file.local.packing import Packing, Place
from ssmd_sink_file.local.pieces import files_lying
from ssmd_sink_file.local.recovery import Recovered, days
from ssmd_sink_file.local.retention import Expired, Retention, files_of, remove
from ssmd_sink_file.local.rotated import unreported

__all__ = ["Upkeep"]

_RETRY_SECONDS = 10.0
_FREE_SECONDS = 5.0
_EXPIRY_SECONDS = 60.0


class Upkeep:
    """Works a slice at a time, when it is asked to, between two syncs."""

    def __init__(
        self,
        root: Path,
        layout: Layout,
        config: LocalConfig,
        context: StorageContext,
        *,
        told: Told,
        may_touch: Callable[[], None],
        is_held: Callable[[str], bool],
        wall_ns: Callable[[], int],
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """``may_touch`` raises OSError while another connector has the archive.

        ``is_held`` says whether a file, relative to the root, is open for appends, or a part
        that it became.
        """
        self._root = root
        self._layout = layout
        self._compression = config.compression
        self._part_bytes = config.part_bytes
        self._context = context
        self._told = told
        self._may_touch = may_touch
        self._is_held = is_held
        self._wall_ns = wall_ns
        self._monotonic = monotonic
        self._jobs: deque[Packing] = deque()
        self._packed_bytes: dict[Place, int] = {}
        self._retry_at = 0.0
        self._fault = ""
        self._ended: list[Place] = []
        self._reported: set[str] = set()
        self._digests = Digests(root, context.report, context.warn)
        self._retention = Retention(config.keep_days, config.min_free_bytes)
        self._released = 0
        self._free_at = self._expiry_at = 0.0
        self._declared = ""

    @property
    def is_busy(self) -> bool:
        """Whether there is work that can be done now."""
        packing = bool(self._jobs) and not self._fault
        return packing or bool(self._digests) or bool(self._ended and not self._jobs)

    def release(self, upto: int) -> None:
        """Take note that nobody will read up to ``upto`` again."""
        self._released = max(self._released, upto)

    async def resume(self, found: Recovered, today: str) -> None:
        """Take up what the last run left: parts on their way, days not reported."""
        for place in found.closing:
            self._add(place, is_over=False)
        for place, settled in found.settled.items():
            if settled.compression is not Compression.NONE:
                self._packed_bytes[place] = settled.bytes
        try:
            over, self._reported = await to_thread.run_sync(
                unreported, self._root, self._layout, found.days, today
            )
        except OSError as error:
            self._context.warn(f"cannot tell which days are reported: {describe(error)}")
            return
        for place in over:
            self.end_day(place)

    # ── closing ──────────────────────────────────────────────────────────────────

    def is_due(self, place: Place, size: int) -> bool:
        """Say whether the plain file of a stream and day is large enough to be closed."""
        is_large = size >= self._part_bytes
        return is_large and self.may_close(place) and self._monotonic() >= self._retry_at

    def may_close(self, place: Place) -> bool:
        """Say whether plain files are closed at all, and this one's last part is in."""
        is_on_its_way = any(job.place == place for job in self._jobs)
        return self._compression is not Compression.NONE and not is_on_its_way

    async def close_part(self, place: Place) -> Packing | None:
        """Rename the plain file that is appended to; None where that failed."""
        job = self._packing(place, is_over=False)
        try:
            self._may_touch()
            await to_thread.run_sync(job.begin, self._packed_bytes.get(place))
        except OSError as error:
            self._tell(f"cannot close {job.plain}, trying again: {describe(error)}")
        if not job.closing:
            return None
        self._jobs.appendleft(job)  # before what remains of its day, which may have ended
        return job

    def end_day(self, place: Place) -> None:
        """Close what is plain of a day that is over, and report its files then."""
        if place in self._ended:
            return
        self._ended.append(place)
        self.close_rest(place)

    def close_rest(self, place: Place) -> None:
        """Close what is plain of a day that nobody appends to."""
        if self._compression is not Compression.NONE:
            self._add(place, is_over=True)

    def begin_day(self, place: Place) -> None:
        """Take note that a plain file is appended to: what was reported of it is out of date."""
        self._reported.discard(self._layout.file(*place))

    def _add(self, place: Place, *, is_over: bool) -> None:
        self._jobs.append(self._packing(place, is_over=is_over))

    def _packing(self, place: Place, *, is_over: bool) -> Packing:
        # What an earlier run with compression left halfway goes on to its end without it, too.
        is_off = self._compression is Compression.NONE
        wanted = Compression.ZSTD if is_off else self._compression
        return Packing(self._root, self._layout, place, wanted, self._told, is_over=is_over)

    # ── work ─────────────────────────────────────────────────────────────────────

    async def work(self) -> None:
        """Go on by a slice of each kind of work."""
        now = self._monotonic()
        if self._jobs and now >= self._retry_at:
            await self._pack()
        await self._finish_days()
        await self._digests.read_slice()
        if now >= self._free_at:
            self._free_at = now + _FREE_SECONDS
            await self._measure()
        if now >= self._expiry_at:
            await self._expire(now)

    async def _pack(self) -> None:
        job = self._jobs[0]
        if job.needs and self._is_held(job.needs):
            return
        try:
            self._may_touch()
            is_done = await to_thread.run_sync(job.work, self._packed_bytes.get(job.place))
        except OSError as error:
            self._packed_bytes.pop(job.place, None)
            self._tell(f"cannot compress {job.plain}, trying again: {describe(error)}")
            return
        self._fault = ""
        if is_done:
            self._jobs.popleft()
            if job.packed_file:
                self._packed_bytes[job.place] = job.packed_bytes
                self._reported.discard(job.packed_file)

    def hurry(self) -> None:
        """Try again at once what failed."""
        self._retry_at, self._fault = 0.0, ""

    def _tell(self, fault: str) -> None:
        self._retry_at = self._monotonic() + _RETRY_SECONDS
        if fault != self._fault:
            self._context.warn(fault)
        self._fault = fault

    async def _finish_days(self) -> None:
        for place in tuple(self._ended):
            if any(job.place == place for job in self._jobs):
                continue
            self._ended.remove(place)
            self._packed_bytes.pop(place, None)
            files = await to_thread.run_sync(files_lying, self._root, self._layout, *place)
            for file in files or [self._layout.file(*place)]:
                if file not in self._reported:
                    self._reported.add(file)
                    self._digests.add(file)

    # ── retention ────────────────────────────────────────────────────────────────

    async def _measure(self) -> None:
        free = await to_thread.run_sync(free_bytes, self._root)
        self._context.metrics.archive_free_bytes = free
        if free is not None and self._retention.is_short(free):
            self._expiry_at = 0.0

    async def _expire(self, now: float) -> None:
        """Remove the oldest day, if it is time; look again at once where there may be more."""
        self._expiry_at = now + _EXPIRY_SECONDS
        if self._retention == Retention() or not self._released:
            return
        try:
            found = await to_thread.run_sync(days, self._root, self._layout, *Kind)
            if not found:
                return
            # A wall clock that runs ahead alone makes no day old: what is archived must agree.
            today = min(day_of(self._wall_ns()), found[-1])
            expired = self._retention.next(
                takewhile(self._is_done, found),
                today=today,
                released=self._released,
                free=self._context.metrics.archive_free_bytes,
            )
            if expired is not None:
                await self._remove(expired)
                self._expiry_at = self._free_at = now
        except OSError as error:
            self._context.warn(f"cannot remove what is kept no longer: {describe(error)}")

    async def _remove(self, expired: Expired) -> None:
        day, reason = expired
        files = await to_thread.run_sync(files_of, self._root, self._layout, day)
        if self._declared != day:
            # Said first: a crash in between must not leave a hole that nobody knows of.
            self._declared = day
            self._context.report(
                "expired",
                day=day,
                files=len(files),
                bytes=sum(size for _, size in files),
                reason=reason.value,
            )
        await to_thread.run_sync(remove, self._root, day, [name for name, _ in files])

    def _is_done(self, day: str) -> bool:
        in_work = any(place[0] == day for place in self._ended)
        return not in_work and not self._digests.waits(day)
