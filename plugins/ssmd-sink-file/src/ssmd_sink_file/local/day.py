"""Reads one stream of one day in order of receipt time, across all the files it lies in."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Generic, Protocol

from ssmd_sink_file.disk.files import Identity
from ssmd_sink_file.frames.codec import FileSource
from ssmd_sink_file.frames.compress import BrokenFrame
from ssmd_sink_file.frames.index import FrameIndex, Gap, read_on
from ssmd_sink_file.lines import blocks
from ssmd_sink_file.lines.blocks import Block, Parser, Range, Timed, TimedT, answer, read_block
from ssmd_sink_file.lines.layout import Kind, Layout
from ssmd_sink_file.local.pieces import Piece, close_pieces, open_pieces

__all__ = ["DayReader", "Indexes", "Series"]

_KEPT_INDEXES = 8


class Indexes:
    """Indexes of the compressed files that were read last."""

    def __init__(self) -> None:
        self._kept: dict[Path, tuple[Identity, FrameIndex]] = {}

    def of(self, piece: Piece) -> FrameIndex:
        """Return the index of a file, which may have to grow."""
        kept = self._kept.pop(piece.path, None)
        if kept is None or kept[0] != piece.identity or kept[1].end > (piece.end or 0):
            kept = piece.identity, FrameIndex(piece.compression)
        self._kept[piece.path] = kept
        while len(self._kept) > _KEPT_INDEXES:
            del self._kept[next(iter(self._kept))]
        return kept[1]


class Series:
    """A stream on a day of an archive, and what is known of it beyond its files."""

    def __init__(
        self,
        root: Path,
        layout: Layout,
        kind: Kind,
        *,
        readable: Callable[[Identity], int | None],
        indexes: Indexes,
    ) -> None:
        """``readable`` says how far a file may be read that is appended to; None is all of it."""
        self.root = root
        self.layout = layout
        self.kind = kind
        self.readable = readable
        self.indexes = indexes

    def open(self, day: str) -> list[Piece]:
        """Open the files of a day."""
        return open_pieces(self.root, self.layout, day, self.kind)


class _Source(Protocol[TimedT]):
    def read(self) -> Block[TimedT] | None: ...


class DayReader(Generic[TimedT]):
    """Reads a day block by block, through descriptors that it holds until it is closed.

    Every method may run in a thread.
    """

    def __init__(self, series: Series, day: str, wanted: Range, parser: Parser[TimedT]) -> None:
        self._series = series
        self._day = day
        self._wanted = wanted
        self._parser = parser
        self._pieces = series.open(day)
        self._waiting = self._from_start()
        self._source: _Source[TimedT] | None = None

    def read(self) -> Block[TimedT] | None:
        """Read about a block; None at the end."""
        while self._source is not None or self._waiting:
            if self._source is None:
                self._source = self._open(self._waiting.pop(0))
            block = self._source.read()
            if block is not None:
                return block
            self._source = None
        return None

    def is_all(self) -> bool:
        """Say whether nothing was appended to another file since this day was opened."""
        tail = self._series.root / self._series.layout.file(self._day, self._series.kind)
        for piece in self._pieces:
            if piece.path == tail:
                return piece.stands()
        return not tail.is_file()

    def close(self) -> None:
        """Let go of the files."""
        close_pieces(self._pieces)
        self._pieces = []

    def _from_start(self) -> list[Piece]:
        """Leave out the files that end before what is asked for."""
        for number in range(len(self._pieces) - 1, 0, -1):
            ts = self._first_ts(self._pieces[number])
            if ts is not None and ts <= self._wanted.after:
                return self._pieces[number:]
        return list(self._pieces)

    def _first_ts(self, piece: Piece) -> int | None:
        return self._parser.ts(os.pread(piece.fd, self._parser.HEAD_BYTES, 0))

    def _open(self, piece: Piece) -> _Source[TimedT]:
        if piece.end is None:
            return _Plain(piece, self._series.readable, self._wanted, self._parser)
        index = self._series.indexes.of(piece)
        return _Packed(piece, index, self._wanted, self._parser)


class _Plain(Generic[TimedT]):
    def __init__(
        self,
        piece: Piece,
        readable: Callable[[Identity], int | None],
        wanted: Range,
        parser: Parser[TimedT],
    ) -> None:
        self._piece = piece
        self._readable = readable
        self._wanted = wanted
        self._parser = parser
        self._position = blocks.find_start(piece.fd, self._end(), wanted.after, parser)

    def read(self) -> Block[TimedT] | None:
        block = read_block(self._piece.fd, self._position, self._end(), self._wanted, self._parser)
        if block is not None:
            self._position += block.bytes
        return block

    def _end(self) -> int:
        end = self._readable(self._piece.identity)
        return os.fstat(self._piece.fd).st_size if end is None else end


class _Packed(Generic[TimedT]):
    def __init__(
        self, piece: Piece, index: FrameIndex, wanted: Range, parser: Parser[TimedT]
    ) -> None:
        end = piece.end or 0
        with contextlib.suppress(BrokenFrame):  # met again, and told, by who reads that far
            index.grow(piece.fd, end)
        start = _start(index, piece.fd, wanted.after, parser)
        at = partial(FileSource, piece.fd, end=end)
        self._pieces = read_on(at, piece.compression, start)
        self._wanted = wanted
        self._parser = parser
        self._carry = b""

    def read(self) -> Block[TimedT] | None:
        data, skipped, ended = self._take()
        if ended and not data and not skipped:
            return None
        whole = data.rfind(b"\n") + 1
        self._carry = data[whole:]
        if len(self._carry) > blocks.LINE_BYTES or (ended and self._carry):
            self._carry = b""
            skipped += 1
        block = answer(data[:whole], self._wanted, self._parser)
        return block._replace(skipped=block.skipped + skipped)

    def _take(self) -> tuple[bytes, int, bool]:
        """Return some lines, how many stretches of damage were passed, and whether that is all."""
        taken, size, skipped = [self._carry], 0, 0
        self._carry = b""
        try:
            for piece in self._pieces:
                if isinstance(piece, Gap):
                    skipped += 1
                    continue
                taken.append(piece)
                size += len(piece)
                if size >= blocks.BLOCK_BYTES:
                    return b"".join(taken), skipped, False
        except BrokenFrame:
            skipped += 1
        return b"".join(taken), skipped, True


def _start(index: FrameIndex, fd: int, after: int, parser: Parser[Timed]) -> int:
    """Return the beginning of the last frame whose first line has ``ts <= after``."""
    low, high = 0, len(index.starts)
    while high - low > 1:
        middle = (low + high) // 2
        ts = parser.ts(index.head(fd, middle, parser.HEAD_BYTES))
        if ts is not None and ts <= after:
            low = middle
        else:  # also where it cannot be told: to begin earlier is never wrong
            high = middle
    return index.starts[low] if index.starts else 0
