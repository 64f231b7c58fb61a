"""Decides what of a file can be read: whole lines, decompressed, and what stands between them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import partial
from typing import BinaryIO, NamedTuple

from ssmd_sink_file.frames.codec import Source
from ssmd_sink_file.frames.compress import BrokenFrame, Compression
from ssmd_sink_file.frames.index import Gap, read_on

__all__ = ["Unreadable", "content", "whole_lines"]

_BLOCK_BYTES = 256 * 1024
_LINE_BYTES = 256 * 1024 * 1024
"""A longer run without a newline is damage, not a frame; it is passed over and not held."""


class Unreadable(NamedTuple):
    """A place of a file that holds no line."""

    what: str
    is_partial_line: bool = False
    """The end of the file, without a newline: a connector may be writing there."""


def content(file: BinaryIO, compression: Compression) -> Iterator[bytes | Unreadable]:
    """Yield the plain content of a file in blocks of some 256 KiB.

    After a frame that cannot be decompressed reading goes on where the next one begins.

    Raises:
        OSError: what ``file`` raises.
    """
    if compression is Compression.NONE:
        while block := file.read(_BLOCK_BYTES):
            yield block
        return
    try:
        for found in read_on(partial(Source, file), compression):
            yield _between(found) if isinstance(found, Gap) else found
    except BrokenFrame as broken:
        end = f"from byte {broken.offset} to the end"
        yield Unreadable(f"{end} it cannot be decompressed: {broken.reason}")


def _between(gap: Gap) -> Unreadable:
    size = f"{gap.following - gap.offset} bytes from byte {gap.offset}"
    return Unreadable(f"{size} cannot be decompressed: {gap.reason}")


def whole_lines(pieces: Iterable[bytes | Unreadable]) -> Iterator[bytes | Unreadable]:
    """Yield blocks of whole lines, each with its newline, and what is none in its place."""
    held: list[bytes] = []
    held_bytes = 0
    for piece in pieces:
        if isinstance(piece, Unreadable):
            held, held_bytes = [], 0
            yield piece
            continue
        begin, end = 0, piece.rfind(b"\n") + 1
        if end:
            if held_bytes > _LINE_BYTES:
                yield Unreadable(f"longer than {_LINE_BYTES >> 20} MiB, which no frame is")
                begin = piece.find(b"\n") + 1
            if end > begin:
                yield b"".join([*held, piece[begin:end]])
            held, held_bytes = [], 0
        held_bytes += len(piece) - end
        if held_bytes > _LINE_BYTES:
            held = []
        elif end < len(piece):
            held.append(piece[end:])
    if held_bytes:
        yield Unreadable("a partial line at the end", is_partial_line=True)
