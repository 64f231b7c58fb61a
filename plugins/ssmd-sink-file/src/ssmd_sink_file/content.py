"""Decides what of a file can be read: whole lines, decompressed, and what stands between them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import BinaryIO, NamedTuple

from ssmd_sink_file.compress import BrokenFrame, Compression, read_frames

__all__ = ["Unreadable", "content", "whole_lines"]

_BLOCK_BYTES = 256 * 1024
_LINE_BYTES = 256 * 1024 * 1024
"""A longer run without a newline is damage, not a frame; it is passed over and not held."""
_BEGINNINGS = {Compression.ZSTD: b"\x28\xb5\x2f\xfd", Compression.GZIP: b"\x1f\x8b\x08"}


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
    start: int | None = 0
    broken: BrokenFrame | None = None
    while start is not None:
        try:
            for block in read_frames(file, compression, start):
                if broken is not None:
                    yield _between(broken, start)
                    broken = None
                yield block
        except BrokenFrame as error:
            # What looked like the next frame may have been part of the broken one.
            broken = broken or error
            start = _find(file, error.offset + 1, _BEGINNINGS[compression])
        else:
            start = None
    if broken is not None:
        end = f"from byte {broken.offset} to the end"
        yield Unreadable(f"{end} it cannot be decompressed: {broken.reason}")


def _between(broken: BrokenFrame, end: int) -> Unreadable:
    size = f"{end - broken.offset} bytes from byte {broken.offset}"
    return Unreadable(f"{size} cannot be decompressed: {broken.reason}")


def _find(file: BinaryIO, offset: int, text: bytes) -> int | None:
    """Return where ``text`` stands next in a file, at ``offset`` or after it."""
    file.seek(offset)
    held = b""
    while block := file.read(_BLOCK_BYTES):
        held += block
        found = held.find(text)
        if found >= 0:
            return offset + found
        passed = max(0, len(held) - len(text) + 1)
        offset += passed
        held = held[passed:]
    return None


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
