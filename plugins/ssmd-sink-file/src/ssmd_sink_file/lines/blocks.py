"""Decides which bytes of a file answer a question, and how lines become batches again."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from typing import Generic, NamedTuple, Protocol, TypeVar

from ssmd_core.clock import NS
from ssmd_core.records import Batch, Stream
from ssmd_sink_file.lines.parser import Line

__all__ = [
    "BLOCK_BYTES",
    "LINE_BYTES",
    "Block",
    "Parser",
    "Range",
    "Timed",
    "answer",
    "answer_lines",
    "find_start",
    "read_block",
    "regroup",
]

BLOCK_BYTES = 256 * 1024
LINE_BYTES = 256 * 1024 * 1024
"""A longer run without a newline is damage, not a frame; it is passed over unread."""
_BATCH_FRAMES = 1024
_LAST_NS = 253_402_300_799 * NS
"""The end of the year 9999, where names of days end."""


class Timed(Protocol):
    """A line read back, whatever stream it is of."""

    @property
    def ts(self) -> int:
        """Its receipt time."""
        ...


TimedT = TypeVar("TimedT", bound=Timed)
_Read_co = TypeVar("_Read_co", bound=Timed, covariant=True)


class Parser(Protocol[_Read_co]):
    """Reads the lines of one stream."""

    HEAD_BYTES: int
    """So many bytes of a line are enough for ``ts``."""

    def ts(self, line: bytes) -> int | None:
        """Return the receipt time at the head of a line, None for one that is not ours."""
        ...

    def parse(self, line: bytes) -> _Read_co | None:
        """Read a line without its newline, None for one that is not ours or is damaged."""
        ...


class Range(NamedTuple):
    """Receipt times asked for: ``after < ts <= upto``."""

    after: int
    upto: int

    @classmethod
    def of(cls, after: int, upto: int) -> Range:
        """Return the part of it that names of days can be given for."""
        return cls(max(after, -1), min(upto, _LAST_NS))


class Block(NamedTuple, Generic[TimedT]):
    """A slice of a file read back."""

    lines: list[TimedT]
    bytes: int
    """How many bytes of whole lines were looked at."""
    skipped: int
    """Lines passed over: not ours, or damaged."""
    is_past: bool
    """A line behind the times asked for was met: nothing further answers the question."""


def regroup(lines: Iterable[Line], stream: Stream = Stream.LIVE) -> Iterator[Batch]:
    """Put frames back into batches: those of one connection, 1 ns apart, at most 1024."""
    run: list[Line] = []
    for line in lines:
        if run and (
            line.ts != run[-1].ts + 1 or line.conn != run[0].conn or len(run) == _BATCH_FRAMES
        ):
            yield _batch(run, stream)
            run = []
        run.append(line)
    if run:
        yield _batch(run, stream)


def _batch(run: list[Line], stream: Stream) -> Batch:
    return Batch(
        first_ts=run[0].ts,
        frames=[line.data for line in run],
        conn=run[0].conn,
        raw=frozenset(position for position, line in enumerate(run) if line.raw),
        stream=stream,
    )


def find_start(fd: int, end: int, after: int, parser: Parser[Timed]) -> int:
    """Return the beginning of a line at or before the first one with ``ts > after``.

    At most a block of lines stands between the two. Halves the file by receipt time,
    reading no more than the heads of some lines.

    Args:
        fd: a plain file, in order of receipt time.
        end: how far it may be read.
        after: receipt time.
        parser: reads the heads.
    """
    low, high = 0, end
    while high - low > BLOCK_BYTES:
        middle = (low + high) // 2
        start, ts = _line_after(fd, middle, high, parser)
        if ts is None or ts > after:
            high = middle
        else:
            low = start
    return low


def read_block(
    fd: int, start: int, end: int, wanted: Range, parser: Parser[TimedT]
) -> Block[TimedT] | None:
    """Read the whole lines of about a block from ``start``, which begins a line.

    None where no whole line is left.
    """
    data = os.pread(fd, max(0, min(BLOCK_BYTES, end - start)), start)
    whole = data.rfind(b"\n") + 1
    if not whole:
        newline = _newline(fd, start + len(data), end)
        if newline is None:
            return None
        whole = newline + 1 - start
        if whole > LINE_BYTES:
            return Block([], whole, 1, is_past=False)
        data = os.pread(fd, whole, start)
    return answer(data[:whole], wanted, parser)


def answer(data: bytes, wanted: Range, parser: Parser[TimedT]) -> Block[TimedT]:
    """Read whole lines, each with its newline, as far as they answer the question."""
    return answer_lines(data.split(b"\n")[:-1], wanted, parser)._replace(bytes=len(data))


def answer_lines(texts: Iterable[bytes], wanted: Range, parser: Parser[TimedT]) -> Block[TimedT]:
    """Read lines, without newlines, as far as they answer the question; count no bytes."""
    lines: list[TimedT] = []
    skipped, is_past = 0, False
    for text in texts:
        # Of what stands before the answer, which may be most, the heads are enough.
        if not lines and (ts := parser.ts(text)) is not None and ts <= wanted.after:
            continue
        line = parser.parse(text)
        if line is None:
            skipped += 1
        elif line.ts > wanted.upto:
            is_past = True
            break
        elif line.ts > wanted.after:
            lines.append(line)
    return Block(lines, 0, skipped, is_past)


def _line_after(fd: int, offset: int, end: int, parser: Parser[Timed]) -> tuple[int, int | None]:
    """Return where the first line of ours after ``offset`` begins, and its receipt time."""
    while (newline := _newline(fd, offset, end)) is not None:
        offset = newline + 1
        ts = parser.ts(os.pread(fd, parser.HEAD_BYTES, offset))
        if ts is not None and offset < end:
            return offset, ts
    return end, None


def _newline(fd: int, offset: int, end: int) -> int | None:
    while offset < end:
        block = os.pread(fd, min(BLOCK_BYTES, end - offset), offset)
        found = block.find(b"\n")
        if found >= 0:
            return offset + found
        if not block:
            return None
        offset += len(block)
    return None
