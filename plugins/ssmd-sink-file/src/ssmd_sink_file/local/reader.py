"""Reads the archive back in order, for catch-up and replay, while it is being written."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing
from pathlib import Path

from anyio import to_thread

from ssmd_core.clock import day_of
from ssmd_core.errors import StorageFailed
from ssmd_core.records import Batch
from ssmd_sink_file.disk.files import Identity, describe
from ssmd_sink_file.lines.blocks import Parser, Range, TimedT, regroup
from ssmd_sink_file.lines.layout import Kind, Layout
from ssmd_sink_file.lines.ledger import LedgerParser, Note
from ssmd_sink_file.lines.merge import merge
from ssmd_sink_file.lines.parser import LineParser
from ssmd_sink_file.local.day import DayReader, Indexes, Series
from ssmd_sink_file.local.recovery import days

__all__ = ["Reader"]


class Reader:
    """Needs no lock.

    ``readable`` says how far a file may be read, for one that is being appended to: what
    a write left that failed is not part of the archive. None is all of it.
    """

    def __init__(
        self,
        root: Path,
        layout: Layout,
        *,
        readable: Callable[[Identity], int | None],
        warn: Callable[[str], None],
    ) -> None:
        self.skipped_lines = 0
        self._root = root
        self._layout = layout
        self._warn = warn
        indexes = Indexes()
        self._series = {
            kind: Series(root, layout, kind, readable=readable, indexes=indexes) for kind in Kind
        }
        self._frames = LineParser(layout.feed)
        self._ledger = LedgerParser()

    async def read(self, after: int, upto: int) -> AsyncIterator[Batch]:
        """Yield the frames of both streams with ``after < ts <= upto``, in order of ``ts``.

        Lines that are not ours or are damaged are passed over, counted and told.

        Raises:
            StorageFailed: a file is there and cannot be read.
        """
        wanted = Range.of(after, upto)
        async for day in self._days(wanted, Kind.LIVE, Kind.REST):
            live = self._day(Kind.LIVE, day, wanted, self._frames)
            rest = self._day(Kind.REST, day, wanted, self._frames)
            async with aclosing(live), aclosing(rest):
                async for stream, lines in merge(live, rest):
                    for batch in regroup(lines, stream):
                        yield batch

    async def notes(self, after: int, upto: int) -> AsyncIterator[Note]:
        """Yield the lines of the coverage ledger with ``after < ts <= upto``, in order.

        Damaged lines are passed over, counted and told.

        Raises:
            StorageFailed: a file is there and cannot be read.
        """
        wanted = Range.of(after, upto)
        async for day in self._days(wanted, Kind.COVERAGE):
            blocks = self._day(Kind.COVERAGE, day, wanted, self._ledger)
            async with aclosing(blocks):
                async for lines in blocks:
                    for line in lines:
                        yield line

    async def _days(self, wanted: Range, *kinds: Kind) -> AsyncIterator[str]:
        if wanted.upto <= wanted.after:
            return
        first, last = day_of(wanted.after + 1), day_of(wanted.upto)
        try:
            found = await to_thread.run_sync(days, self._root, self._layout, *kinds)
        except OSError as error:
            raise self._unreadable(error) from error
        for day in found:
            if first <= day <= last:
                yield day

    async def _day(
        self, kind: Kind, day: str, wanted: Range, parser: Parser[TimedT]
    ) -> AsyncGenerator[list[TimedT], None]:
        """Yield the lines of a stream and day in blocks, none of them empty."""
        series, skipped = self._series[kind], 0
        try:
            ended = False
            while not ended:
                # A part that closes meanwhile moves on: what it went to is read from there.
                reader = await to_thread.run_sync(DayReader, series, day, wanted, parser)
                try:
                    ended = True
                    while (block := await to_thread.run_sync(reader.read)) is not None:
                        skipped += block.skipped
                        if block.lines:
                            wanted = Range(block.lines[-1].ts, wanted.upto)
                            yield block.lines
                        if block.is_past:
                            break
                    else:
                        ended = await to_thread.run_sync(reader.is_all)
                finally:
                    reader.close()
        except OSError as error:
            raise self._unreadable(error) from error
        if skipped:
            self.skipped_lines += skipped
            path = self._root / self._layout.file(day, kind)
            self._warn(f"{path}: passed over {skipped} lines that are not ours or are damaged")

    def _unreadable(self, error: OSError) -> StorageFailed:
        return StorageFailed(f"cannot read the archive {self._root}: {describe(error)}")
