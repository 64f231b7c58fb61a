"""Reads the spool back in order of receipt time, while parts are written, closed and deleted."""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator
from contextlib import aclosing
from pathlib import Path

from anyio import to_thread

from ssmd_core.clock import day_of
from ssmd_core.errors import StorageFailed
from ssmd_core.records import Batch
from ssmd_sink_file.disk.files import describe
from ssmd_sink_file.frames.compress import BrokenFrame, Compression
from ssmd_sink_file.lines.blocks import Parser, Range, TimedT, answer_lines, find_start, regroup
from ssmd_sink_file.lines.layout import Kind
from ssmd_sink_file.lines.ledger import LedgerParser, Note
from ssmd_sink_file.lines.merge import merge
from ssmd_sink_file.lines.parser import Line, LineParser
from ssmd_sink_file.objects.spool import OpenName, PartName, Spool, lines_in

__all__ = ["SpoolReader"]


class SpoolReader:
    """Needs no lock.

    ``readable`` says how far a plain file may be read, for one that is being appended to:
    what a write left that failed is not part of the archive. None is all of it.
    """

    def __init__(
        self,
        spool: Spool,
        feed: str,
        *,
        readable: Callable[[OpenName], int | None],
        warn: Callable[[str], None],
    ) -> None:
        self.skipped_lines = 0
        self._spool = spool
        self._readable = readable
        self._warn = warn
        self._frames = LineParser(feed)
        self._ledger = LedgerParser()

    async def read(self, after: int, upto: int) -> AsyncIterator[Batch]:
        """Yield the frames of both streams with ``after < ts <= upto``, in order of ``ts``.

        Raises:
            StorageFailed: a file is there and cannot be read.
        """
        wanted = Range.of(after, upto)
        live = self._stepped(self._blocks(Kind.LIVE, wanted))
        rest = self._stepped(self._blocks(Kind.REST, wanted))
        async with aclosing(live), aclosing(rest):
            async for stream, lines in merge(live, rest):
                for batch in regroup(lines, stream):
                    yield batch

    async def notes(self, after: int, upto: int) -> AsyncIterator[Note]:
        """Yield the lines of the coverage ledger with ``after < ts <= upto``, in order.

        Raises:
            StorageFailed: a file is there and cannot be read.
        """
        wanted = Range.of(after, upto)
        days = self._stepped(self._days(wanted))
        async with aclosing(days):
            async for notes in days:
                for note in notes:
                    yield note

    async def _stepped(self, blocks: Iterator[list[TimedT]]) -> AsyncGenerator[list[TimedT], None]:
        """Take each step of ``blocks`` in a thread."""
        try:
            while (lines := await to_thread.run_sync(next, blocks, None)) is not None:
                yield lines
        except OSError as error:
            msg = f"cannot read the spool {self._spool.base}: {describe(error)}"
            raise StorageFailed(msg) from error

    # ── in a thread ──────────────────────────────────────────────────────────────

    def _blocks(self, kind: Kind, wanted: Range) -> Iterator[list[Line]]:
        """Yield the frames of a stream in blocks.

        The names are looked at anew for each file. A part that was closed, renamed or
        deleted meanwhile is found again, or was read: what tells is the last ``ts`` read.
        """
        done: set[OpenName | PartName] = set()
        newest: OpenName | None = None
        while True:
            names = [n for n in self._files(kind) if n not in done and _may_hold(n, wanted)]
            if not names or names == [newest]:
                return
            name = names[0]
            try:
                for lines in self._lines(name, wanted, self._frames):
                    wanted = Range(lines[-1].ts, wanted.upto)
                    yield lines
            except FileNotFoundError:
                continue
            # What is appended to may have grown until there is a file behind it.
            if isinstance(name, OpenName) and len(names) == 1:
                newest = name
            else:
                done.add(name)

    def _days(self, wanted: Range) -> Iterator[list[Note]]:
        """Yield the ledger lines of each day.

        Parts of a day may overlap in them: a line can wait for a full disk longer than frames,
        and stands in two files while some become one.
        """
        days = {name.day for name in self._files(Kind.COVERAGE)}
        if wanted.upto <= wanted.after:
            return
        first, last = day_of(wanted.after + 1), day_of(wanted.upto)
        for day in sorted(day for day in days if first <= day <= last):
            while True:
                try:
                    notes = [
                        note
                        for name in self._files(Kind.COVERAGE)
                        if name.day == day
                        for block in self._lines(name, wanted, self._ledger)
                        for note in block
                    ]
                except FileNotFoundError:
                    continue
                break
            if notes:
                yield sorted(set(notes))

    def _files(self, kind: Kind) -> list[OpenName | PartName]:
        """Return the files of a stream in order: of a day, what was closed comes first.

        What is kept is listed last: a file is moved there, and so it is met here or there.
        """
        opened, waiting = self._spool.files()
        closed = {*waiting, *self._spool.kept(ledger=kind is Kind.COVERAGE)}
        names: list[OpenName | PartName] = [*sorted(closed, key=_place), *opened]
        return sorted((n for n in names if n.kind is kind), key=lambda n: n.day)

    def _lines(
        self, name: OpenName | PartName, wanted: Range, parser: Parser[TimedT]
    ) -> Iterator[list[TimedT]]:
        path = self._spool.lying(name)
        compression, start, end = Compression.NONE, 0, None
        if isinstance(name, PartName):
            compression = name.compression
        else:
            end = self._readable(name)
            start = _start(path, end, wanted.after, parser)
        skipped = 0
        try:
            for texts in lines_in(path, compression, start, end):
                found = answer_lines(texts, wanted, parser)
                skipped += found.skipped
                if found.lines:
                    yield found.lines
                if found.is_past:
                    break
        except BrokenFrame as error:
            self._warn(f"{path}: {error}; what stands behind it is passed over")
        if skipped:
            self.skipped_lines += skipped
            self._warn(f"{path}: passed over {skipped} lines that are not ours or are damaged")


def _start(path: Path, end: int | None, after: int, parser: Parser[TimedT]) -> int:
    fd = os.open(path, os.O_RDONLY)
    try:
        size = os.fstat(fd).st_size
        return find_start(fd, size if end is None else end, after, parser)
    finally:
        os.close(fd)


def _place(name: PartName) -> tuple[int, int]:
    return name.first_ts, name.last_ts


def _may_hold(name: OpenName | PartName, wanted: Range) -> bool:
    if wanted.upto <= wanted.after or name.day < day_of(wanted.after + 1):
        return False
    if isinstance(name, OpenName):
        return name.day <= day_of(wanted.upto)
    return name.last_ts > wanted.after and name.first_ts <= wanted.upto
