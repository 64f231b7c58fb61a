"""Moves plain parts into compressed files, a slice at a time, so that no crash shows.

In this order, each step durable before the next: the part is renamed to a name that says
how large the compressed file is, its frames are appended there, the part is removed. Up to
the last step the part counts and what stands beyond that size does not; from then on the
other way round.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

from ssmd_sink_file.disk.files import Identity, identity_of, open_file, sync_directory, write_all
from ssmd_sink_file.frames.compress import Compression, codec_of, frame_end, pack_frame
from ssmd_sink_file.lines.layout import Kind, Layout
from ssmd_sink_file.local.mending import Settled, Told, settle
from ssmd_sink_file.local.pieces import look

__all__ = ["Packing", "Place"]

_SLICE_SECONDS = 0.04
"""So long a sync may be late, and so small a share of a core is taken."""

Place = tuple[str, Kind]
"""A day and a stream."""


class Packing:
    """One part on its way into the compressed file of its stream and day. Runs in threads."""

    def __init__(
        self,
        root: Path,
        layout: Layout,
        place: Place,
        wanted: Compression,
        told: Told,
        *,
        is_over: bool,
    ) -> None:
        """``wanted`` is for a day that has no compressed file yet.

        ``is_over`` says that nobody appends to the plain file any more: it is taken by ``work``.
        """
        self.place = place
        self.file = layout.file(*place)
        self.plain = root / self.file
        self.end: int | None = None
        """How far the part counts; None for all of it."""
        self._root = root
        self._layout = layout
        self._wanted = wanted
        self._told = told
        self._is_over = is_over
        self._settled: Settled | None = None
        self._identity: Identity | None = None
        self._part_bytes = 0
        self._position = self._size = 0

    @property
    def closing(self) -> str:
        """Name of the part, relative to the root; empty where there is none."""
        return self._settled.closing if self._settled else ""

    @property
    def needs(self) -> str:
        """Name of the file that nobody may append to any more; empty where none is taken."""
        return self.closing or (self.file if self._is_over else "")

    @property
    def identity(self) -> Identity | None:
        """Which file the part was when it got its name."""
        return self._identity

    @property
    def bytes(self) -> int:
        """How large the part was then."""
        return self._part_bytes

    @property
    def packed_file(self) -> str:
        """Name of the compressed file, once something of the part stands in it."""
        return self._layout.packed(*self.place, self._form) if self._position else ""

    @property
    def packed_bytes(self) -> int:
        """How large the compressed file is, as far as it was written."""
        return self._size

    def begin(self, known: int | None = None) -> None:
        """Give the plain file the name of a part. Appends to its descriptor may go on.

        Does nothing where a part is on its way already, or there is no plain file.

        Args:
            known: size of the compressed file when it was last seen to be whole.

        Raises:
            OSError: the file has its old name, or the new one.
        """
        settled = self._as_known(known) or self._settle()
        if not settled.closing and self.plain.is_file():
            name = self._layout.closing(*self.place, settled.bytes)
            self.plain.rename(self._root / name)
            settled = settled._replace(closing=name)
            status = (self._root / name).stat()
            self._identity, self._part_bytes = identity_of(status), status.st_size
            sync_directory(self.plain.parent)
        self._go_on(settled)

    def work(
        self, known: int | None = None, clock: Callable[[], float] = time.perf_counter
    ) -> bool:
        """Move on by a slice; True once the part is gone. ``known`` is as for ``begin``.

        Raises:
            OSError: the part counts as before; the next call begins anew.
        """
        try:
            if self._settled is None and self._is_over:
                self.begin(known)
            elif self._settled is None:
                self._go_on(self._settle())
            return not self.closing or self._work(self._root / self.closing, clock)
        except OSError:
            self._settled = None
            raise

    def _settle(self) -> Settled:
        return settle(self._root, self._layout, *self.place, self._told)

    def _as_known(self, known: int | None) -> Settled | None:
        """Spare a look at all frames where nothing touched the file since the part before."""
        lying = look(self._root, self._layout, *self.place)
        if known is None or lying.closings or lying.packed is Compression.NONE:
            return None
        path = self._root / self._layout.packed(*self.place, lying.packed)
        is_known = path.stat().st_size == known
        return Settled(lying.packed, known, 0, "", 0) if is_known else None

    def _go_on(self, settled: Settled) -> None:
        self._settled = settled
        self._position, self._size = 0, settled.bytes

    def _work(self, part: Path, clock: Callable[[], float]) -> bool:
        source = os.open(part, os.O_RDONLY)
        try:
            size = os.fstat(source).st_size
            end = size if self.end is None else min(size, self.end)
            if self._position < end and not self._append(source, end, clock):
                return False
        finally:
            os.close(source)
        self._finish(part)
        return True

    @property
    def _form(self) -> Compression:
        there = self._settled.compression if self._settled else Compression.NONE
        return self._wanted if there is Compression.NONE else there

    @property
    def _packed(self) -> Path:
        return self._root / self._layout.packed(*self.place, self._form)

    def _append(self, source: int, end: int, clock: Callable[[], float]) -> bool:
        """Append frames until the slice is over; True when all are there."""
        stop = clock() + _SLICE_SECONDS
        path = self._packed
        codec = codec_of(self._form)
        out, _ = open_file(path, os.O_WRONLY | os.O_APPEND)
        try:
            if os.fstat(out).st_size != self._size:
                raise OSError(f"{path} was changed by somebody else")
            while self._position < end:
                following = frame_end(source, self._position, end)
                frame = pack_frame(source, self._position, following, codec)
                write_all(out, frame)
                self._size += len(frame)
                self._position = following
                if clock() >= stop:
                    break
        finally:
            os.close(out)
        return self._position >= end

    def _finish(self, part: Path) -> None:
        if self._position:
            fd = os.open(self._packed, os.O_RDONLY)
            try:
                os.fsync(fd)
            finally:
                os.close(fd)
            sync_directory(part.parent)
        part.unlink()
        # Before the next part gets a name: this one must not come back beside it.
        sync_directory(part.parent)
