"""Reads the archive back in order, for catch-up and replay, while it is being written."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from pathlib import Path

from anyio import to_thread

from ssmd_core.clock import NS, day_of
from ssmd_core.errors import StorageFailed
from ssmd_core.records import Batch
from ssmd_sink_file.blocks import Range, find_start, read_block
from ssmd_sink_file.files import describe
from ssmd_sink_file.layout import Kind, Layout, LineParser
from ssmd_sink_file.recovery import days

__all__ = ["Reader"]

_LAST_NS = 253_402_300_799 * NS
"""The end of the year 9999, where names of days end."""


class Reader:
    """Needs no lock, and holds no descriptor between batches.

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
        self._parser = LineParser(layout.feed)

    async def read(self, after: int, upto: int) -> AsyncIterator[Batch]:
        """Yield the live frames with ``after < ts <= upto``, in order.

        Lines that are not ours or are damaged are passed over, counted and told.

        Raises:
            StorageFailed: a file is there and cannot be read.
        """
        wanted = Range(max(after, -1), min(upto, _LAST_NS))
        if wanted.upto <= wanted.after:
            return
        first, last = day_of(wanted.after + 1), day_of(wanted.upto)
        try:
            found = await to_thread.run_sync(days, self._root, self._layout, Kind.LIVE)
            for day in found:
                if first <= day <= last:
                    async for batch in self._read_day(day, wanted):
                        yield batch
        except OSError as error:
            msg = f"cannot read the archive {self._root}: {describe(error)}"
            raise StorageFailed(msg) from error

    async def _read_day(self, day: str, wanted: Range) -> AsyncIterator[Batch]:
        file = self._layout.file(day, Kind.LIVE)
        path, parser = self._root / file, self._parser
        start = await to_thread.run_sync(
            find_start, path, self._readable(file), wanted.after, parser
        )
        skipped, last = 0, False
        while not last:
            block = await to_thread.run_sync(
                read_block, path, start, self._readable(file), wanted, parser
            )
            start, last = block.end, block.last
            skipped += block.skipped
            for batch in block.batches:
                yield batch
        if skipped:
            self.skipped_lines += skipped
            self._warn(f"{path}: passed over {skipped} lines that are not ours or are damaged")
