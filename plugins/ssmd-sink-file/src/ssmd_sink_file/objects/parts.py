"""Turns a closed part into the files that are uploaded; each step can be cut off and done again."""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import BinaryIO, NamedTuple, cast

from ssmd_core.sink.archive import Digest
from ssmd_sink_file.disk.files import FULL, open_file, sync_directory
from ssmd_sink_file.disk.memory import HAS_MEMORY_FILES
from ssmd_sink_file.disk.tail import repair_tail
from ssmd_sink_file.frames.compress import BrokenFrame, Compression, pack
from ssmd_sink_file.lines.layout import Kind
from ssmd_sink_file.lines.ledger import ledger_ts
from ssmd_sink_file.lines.parser import LineParser
from ssmd_sink_file.objects.bounds import Bounds, bounds_in, last_ts_in, reads_ts
from ssmd_sink_file.objects.spool import DRAFT, OpenName, PartName, Spool, lines_in

__all__ = ["DAMAGED", "Closed", "Left", "Part", "PartFile", "PartMaker", "Span"]

_BLOCK_BYTES = 1024 * 1024
DAMAGED = "damaged"
"""The folder of what was set aside because it cannot be read."""
_FRAMES = (Kind.REST, Kind.LIVE)
_NAMING = (Kind.LIVE, Kind.REST, Kind.COVERAGE)
"""Whose times name the ledger lines of a part: those of the first of these that it has."""


class Span(NamedTuple):
    """Live frames that were appended one after the other."""

    frames: int
    first_ts: int
    last_ts: int


@dataclass(frozen=True, slots=True)
class Closed:
    """A part that nothing is appended to any more."""

    day: str
    number: int
    sizes: Mapping[Kind, int] = field(default_factory=dict)
    """Ends of the last whole appends, where known; a failed write may have left more."""
    live: Span | None = None
    """Its live frames, where known."""


class Left(NamedTuple):
    """A file that an earlier run closed and may not have uploaded."""

    name: PartName


class PartFile(NamedTuple):
    """A file to be uploaded."""

    name: PartName
    digest: Digest
    """Of the object."""
    plain: OpenName | None = None
    """Where its lines lie, while the disk has no room for them compressed: so they are then
    on their way to the store."""
    plain_bytes: int = 0

    @property
    def plain_name(self) -> PartName:
        """What the lines are called once they are uploaded."""
        return self.name._replace(compression=Compression.NONE)

    @property
    def bytes(self) -> int:
        """Size of what lies in the spool."""
        return self.digest.bytes if self.plain is None else self.plain_bytes


@dataclass(frozen=True, slots=True)
class Part:
    """What became of a closed part, or of a file that was left."""

    files: tuple[PartFile, ...] = ()
    """In the order of their upload: the ledger is there before the frames that it speaks of."""
    last_ts: int = 0
    """Receipt time of the last frame or ledger line in it."""
    damaged: tuple[str, ...] = ()
    """What was set aside because it cannot be read, one sentence each."""
    gone: tuple[str, ...] = ()
    """What somebody removed before it was closed, one sentence each."""
    lost: Span | None = None
    """The frames that were in it."""

    @property
    def bytes(self) -> int:
        """Size of what lies in the spool."""
        return sum(file.bytes for file in self.files)

    @property
    def is_ledger(self) -> bool:
        """Whether no frames are in it."""
        return all(file.name.kind is Kind.COVERAGE for file in self.files)


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
        gone = self._gone(closed)
        damaged: list[str] = []
        bounds: dict[Kind, Bounds] = {}
        for kind in Kind:
            found = self._settle(OpenName(closed.day, closed.number, kind), closed, damaged)
            if found is not None:
                bounds[kind] = found
        lost = closed.live if gone else None
        if not bounds:
            return Part(damaged=tuple(damaged), gone=gone, lost=lost)
        frames = self._pack(closed, bounds)
        ledger = self._name_ledger(closed, bounds)
        # The ledger may have got its name before a crash, and not be among the bounds.
        noted_ts = last_ts_in(self._spool.path(ledger.name), ledger.digest.bytes, ledger_ts)
        last_ts = max(noted_ts, *(found.last_ts for found in bounds.values()))
        # Live frames last: while they lie there, doing it all again names the ledger as before.
        for kind in _FRAMES:
            if all(file.plain is None for file in frames):
                self._spool.path(OpenName(closed.day, closed.number, kind)).unlink(missing_ok=True)
        return Part((ledger, *frames), last_ts, tuple(damaged), gone, lost)

    def _gone(self, closed: Closed) -> tuple[str, ...]:
        """Say which files are not there any more, live frames first.

        What was moved on in an earlier attempt is not among them: live frames are the last.
        """
        names = [OpenName(closed.day, closed.number, kind) for kind in _NAMING]
        missing = [
            name for name in names if closed.sizes.get(name.kind) and not self._is_there(name)
        ]
        if closed.live is None or names[0] not in missing:
            return ()
        frames = f", {closed.live.frames} frames"
        return tuple(
            f"{self._spool.path(name)} is gone before it was uploaded: "
            f"{closed.sizes[name.kind]} bytes{frames if name.kind is Kind.LIVE else ''}"
            for name in missing
        )

    def _is_there(self, name: OpenName) -> bool:
        return self._spool.path(name).exists()

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

    def _pack(self, closed: Closed, bounds: Mapping[Kind, Bounds]) -> list[PartFile]:
        """Compress the frames of a part. Where the disk is full, they stay as they are.

        Only what is uploaded makes room there, so that must not need any.
        """
        kinds = [kind for kind in _FRAMES if kind in bounds]
        try:
            return [self._compress(closed, kind, bounds[kind]) for kind in kinds]
        except OSError as error:
            if error.errno not in FULL or not HAS_MEMORY_FILES:
                raise
        for kind in kinds:
            name = PartName(closed.day, *bounds[kind], kind, self._compression)
            self._spool.path(name).unlink(missing_ok=True)
        return [self._leave(closed, kind, bounds[kind]) for kind in kinds]

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

    def _leave(self, closed: Closed, kind: Kind, bounds: Bounds) -> PartFile:
        """Tell what the frames will be once they are compressed, and leave them as they are."""
        plain = OpenName(closed.day, closed.number, kind)
        source = self._spool.path(plain)
        told = _Told()
        pack(source, cast("BinaryIO", told), self._compression)
        digest = Digest(_count_lines(source), told.bytes, told.sha256.hexdigest())
        name = PartName(closed.day, *bounds, kind, self._compression)
        return PartFile(name, digest, plain, source.stat().st_size)

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
        aside = self._spool.set_aside(name, DAMAGED)
        return f"{self._spool.path(name)} is damaged ({why}): moved to {aside}"


class _Told:
    """Takes what is written, and remembers nothing of it but size and hash."""

    def __init__(self) -> None:
        self.sha256 = hashlib.sha256()
        self.bytes = 0

    def write(self, data: memoryview) -> int:
        self.sha256.update(data)
        self.bytes += len(data)
        return len(data)


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
