"""Turns a closed part into the files that are uploaded; each step can be cut off and done again."""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import NamedTuple

from ssmd_core.sink.archive import Digest
from ssmd_sink_file.bounds import Bounds, bounds_in, last_ts_in, reads_ts
from ssmd_sink_file.compress import BrokenFrame, Compression, pack
from ssmd_sink_file.files import open_file, sync_directory
from ssmd_sink_file.layout import Kind, LineParser, ledger_ts
from ssmd_sink_file.spool import DRAFT, OpenName, PartName, Spool, lines_in
from ssmd_sink_file.tail import repair_tail

__all__ = ["Closed", "Left", "Part", "PartFile", "PartMaker"]

_BLOCK_BYTES = 1024 * 1024
_DAMAGED = "damaged"
_FRAMES = (Kind.REST, Kind.LIVE)
_NAMING = (Kind.LIVE, Kind.REST, Kind.COVERAGE)
"""Whose times name the ledger lines of a part: those of the first of these that it has."""


@dataclass(frozen=True, slots=True)
class Closed:
    """A part that nothing is appended to any more."""

    day: str
    number: int
    sizes: Mapping[Kind, int] = field(default_factory=dict)
    """Ends of the last whole appends, where known; a failed write may have left more."""


class Left(NamedTuple):
    """A file that an earlier run closed and may not have uploaded."""

    name: PartName


class PartFile(NamedTuple):
    """A file to be uploaded."""

    name: PartName
    digest: Digest


@dataclass(frozen=True, slots=True)
class Part:
    """What became of a closed part, or of a file that was left."""

    files: tuple[PartFile, ...] = ()
    """In the order of their upload: the ledger is there before the frames that it speaks of."""
    last_ts: int = 0
    """Receipt time of the last frame or ledger line in it."""
    damaged: tuple[str, ...] = ()
    """What was set aside because it cannot be read, one sentence each."""

    @property
    def bytes(self) -> int:
        """Size of the files."""
        return sum(file.digest.bytes for file in self.files)


class PartMaker:
    """Works in a thread, on files that nobody else writes to."""

    def __init__(
        self,
        spool: Spool,
        feed: str,
        compression: Compression,
        on_torn: Callable[[Path, int], None],
    ) -> None:
        self._spool = spool
        self._compression = compression
        self._on_torn = on_torn
        self._parser = LineParser(feed)

    def make(self, job: Closed | Left) -> Part:
        """Make a part ready for its upload, or see that what was left is whole.

        Raises:
            OSError: it is not done; nothing is lost, and it can be tried again.
        """
        return self._close(job) if isinstance(job, Closed) else self._check(job.name)

    # ── closing ──────────────────────────────────────────────────────────────────

    def _close(self, closed: Closed) -> Part:
        damaged: list[str] = []
        bounds: dict[Kind, Bounds] = {}
        for kind in Kind:
            found = self._settle(OpenName(closed.day, closed.number, kind), closed, damaged)
            if found is not None:
                bounds[kind] = found
        if not bounds:
            return Part(damaged=tuple(damaged))
        frames = [self._compress(closed, kind, bounds[kind]) for kind in _FRAMES if kind in bounds]
        ledger = self._name_ledger(closed, bounds)
        # Live frames last: while they lie there, doing it all again names the ledger as before.
        for kind in _FRAMES:
            self._spool.path(OpenName(closed.day, closed.number, kind)).unlink(missing_ok=True)
        # The ledger may have got its name before a crash, and not be among the bounds.
        noted_ts = last_ts_in(self._spool.path(ledger.name), ledger.digest.bytes, ledger_ts)
        last_ts = max(noted_ts, *(found.last_ts for found in bounds.values()))
        return Part((ledger, *frames), last_ts, tuple(damaged))

    def _settle(self, name: OpenName, closed: Closed, damaged: list[str]) -> Bounds | None:
        """Cut a file to whole lines, and tell its first and last receipt time."""
        path = self._spool.path(name)
        try:
            fd = os.open(path, os.O_RDWR)
        except FileNotFoundError:
            return None
        try:
            size = os.fstat(fd).st_size
            if (whole := closed.sizes.get(name.kind, size)) < size:
                os.ftruncate(fd, whole)
                size = whole
            size, torn = repair_tail(fd, size, self._spool.base / self._spool.torn(name.day))
            if torn:
                self._on_torn(path, torn)
            bounds = bounds_in(path, size, reads_ts(name.kind, self._parser))
            os.fsync(fd)
        finally:
            os.close(fd)
        if bounds is None:
            if size:
                damaged.append(self._set_aside(name, f"no line of its {size} bytes is ours"))
            path.unlink(missing_ok=True)
        return bounds

    def _compress(self, closed: Closed, kind: Kind, bounds: Bounds) -> PartFile:
        source = self._spool.path(OpenName(closed.day, closed.number, kind))
        name = PartName(closed.day, *bounds, kind, self._compression)
        target = self._spool.path(name)
        draft = target.with_name(target.name + DRAFT)
        fd, _ = open_file(draft, os.O_WRONLY | os.O_TRUNC)
        try:
            with os.fdopen(fd, "wb", buffering=0) as out:
                pack(source, out, self._compression)
                os.fsync(out.fileno())
        except BaseException:
            with contextlib.suppress(OSError):  # on a full disk its space is wanted
                draft.unlink()
            raise
        draft.rename(target)
        sync_directory(target.parent)
        return PartFile(name, _digest(target, _count_lines(source)))

    def _name_ledger(self, closed: Closed, bounds: Mapping[Kind, Bounds]) -> PartFile:
        """Name the ledger lines after the frames that they go with; none make an empty file."""
        named_after = next(bounds[kind] for kind in _NAMING if kind in bounds)
        name = PartName(closed.day, *named_after, Kind.COVERAGE, Compression.NONE)
        target = self._spool.path(name)
        if Kind.COVERAGE in bounds:
            self._spool.path(OpenName(closed.day, closed.number, Kind.COVERAGE)).rename(target)
        else:
            fd, _ = open_file(target, os.O_WRONLY)
            os.close(fd)
        sync_directory(target.parent)
        return PartFile(name, _digest(target, _count_lines(target)))

    # ── what was left ────────────────────────────────────────────────────────────

    def _check(self, name: PartName) -> Part:
        """See that a file holds what its name says, and set it aside where it does not."""
        path = self._spool.path(name)
        is_ledger = name.kind is Kind.COVERAGE
        read_ts = reads_ts(name.kind, self._parser)
        lines, first_ts, last_ts = 0, 0, 0
        try:
            for line in chain.from_iterable(lines_in(path, name.compression)):
                lines += 1
                ts = read_ts(line)
                if ts is not None:
                    first_ts, last_ts = first_ts or ts, ts
        except FileNotFoundError:
            return Part()
        except BrokenFrame as error:
            return Part(damaged=(self._set_aside(name, str(error)),))
        if not is_ledger and (first_ts, last_ts) != (name.first_ts, name.last_ts):
            return Part(damaged=(self._set_aside(name, "it does not hold what its name says"),))
        return Part((PartFile(name, _digest(path, lines)),), max(last_ts, name.last_ts))

    def _set_aside(self, name: OpenName | PartName, why: str) -> str:
        aside = self._spool.set_aside(name, _DAMAGED)
        return f"{self._spool.path(name)} is damaged ({why}): moved to {aside}"


def _blocks(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while block := file.read(_BLOCK_BYTES):
            yield block


def _count_lines(path: Path) -> int:
    return sum(block.count(b"\n") for block in _blocks(path))


def _digest(path: Path, lines: int) -> Digest:
    sha256, size = hashlib.sha256(), 0
    for block in _blocks(path):
        sha256.update(block)
        size += len(block)
    return Digest(lines, size, sha256.hexdigest())
