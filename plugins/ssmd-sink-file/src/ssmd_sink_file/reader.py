"""Reads the archive back in order, for catch-up and replay, while it is being written."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

from anyio import to_thread

from ssmd_core.clock import NS, day_of
from ssmd_core.errors import StorageFailed
from ssmd_core.records import Batch
from ssmd_sink_file.blocks import (
    Block,
    Parser,
    Range,
    Timed,
    find_start,
    read_block,
    regroup,
)
from ssmd_sink_file.files import describe
from ssmd_sink_file.layout import Kind, Layout, LedgerParser, LineParser, Note
from ssmd_sink_file.recovery import days

__all__ = ["Reader"]

_LAST_NS = 253_402_300_799 * NS
"""The end of the year 9999, where names of days end."""

_LineT = TypeVar("_LineT", bound=Timed)
_ItemT = TypeVar("_ItemT")


@dataclass(frozen=True, slots=True)
class _Stream(Generic[_LineT, _ItemT]):
    """A stream that is read back: its files, its lines, and what is made of a run of them."""

    kind: Kind
    parser: Parser[_LineT]
    group: Callable[[list[_LineT]], Iterable[_ItemT]]

    def read_block(
        self, path: Path, start: int, end: int | None, wanted: Range
    ) -> tuple[list[_ItemT], Block[_LineT]]:
        """Read about a block. Runs in a thread."""
        block = read_block(path, start, end, wanted, self.parser)
        return list(self.group(block.lines)), block


_LEDGER: _Stream[Note, Note] = _Stream(Kind.COVERAGE, LedgerParser(), list)


class Reader:
    """Needs no lock, and holds no descriptor between blocks.

    ``readable`` says how far a file may be read, for one that is being appended to: what
    a write left that failed is not part of the archive. None is all of it.
    """

    def __init__(
        self,
        root: Path,
        layout: Layout,
        *,
        readable: Callable[[str], int | None],
        warn: Callable[[str], None],
    ) -> None:
        self.skipped_lines = 0
        self._root = root
        self._layout = layout
        self._readable = readable
        self._warn = warn
        self._live = _Stream(Kind.LIVE, LineParser(layout.feed), regroup)

    def read(self, after: int, upto: int) -> AsyncIterator[Batch]:
        """Yield the live frames with ``after < ts <= upto``, in order.

        Lines that are not ours or are damaged are passed over, counted and told.

        Raises:
            StorageFailed: a file is there and cannot be read.
        """
        return self._read(self._live, after, upto)

    def notes(self, after: int, upto: int) -> AsyncIterator[Note]:
        """Yield the lines of the coverage ledger with ``after < ts <= upto``, in order.

        Damaged lines are passed over, counted and told.

        Raises:
            StorageFailed: a file is there and cannot be read.
        """
        return self._read(_LEDGER, after, upto)

    async def _read(
        self, stream: _Stream[_LineT, _ItemT], after: int, upto: int
    ) -> AsyncIterator[_ItemT]:
        wanted = Range(max(after, -1), min(upto, _LAST_NS))
        if wanted.upto <= wanted.after:
            return
        first, last = day_of(wanted.after + 1), day_of(wanted.upto)
        try:
            found = await to_thread.run_sync(days, self._root, self._layout, stream.kind)
            for day in found:
                if first <= day <= last:
                    async for item in self._read_day(stream, day, wanted):
                        yield item
        except OSError as error:
            msg = f"cannot read the archive {self._root}: {describe(error)}"
            raise StorageFailed(msg) from error

    async def _read_day(
        self, stream: _Stream[_LineT, _ItemT], day: str, wanted: Range
    ) -> AsyncIterator[_ItemT]:
        file = self._layout.file(day, stream.kind)
        path = self._root / file
        start = await to_thread.run_sync(
            find_start, path, self._readable(file), wanted.after, stream.parser
        )
        skipped, last = 0, False
        while not last:
            items, block = await to_thread.run_sync(
                stream.read_block, path, start, self._readable(file), wanted
            )
            start, last = block.end, block.last
            skipped += block.skipped
            for item in items:
                yield item
        if skipped:
            self.skipped_lines += skipped
            self._warn(f"{path}: passed over {skipped} lines that are not ours or are damaged")
