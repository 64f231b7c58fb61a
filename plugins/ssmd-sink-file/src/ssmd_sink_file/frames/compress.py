"""Decides how lines are compressed: in independent frames, each whole lines, each read alone.

A file of frames is what ``zstd``, ``gzip`` and every reader of theirs take. A crash leaves at
most its last frame torn, and what is appended later never depends on what stands before.
"""

from __future__ import annotations

import enum
import os
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple

from ssmd_core.errors import StorageFailed
from ssmd_sink_file.frames.codec import Codec, Corrupt, Cut, Source

__all__ = [
    "BrokenFrame",
    "Compression",
    "Packed",
    "codec_of",
    "frame_end",
    "pack",
    "pack_frame",
    "read_frames",
    "read_source",
]

_FRAME_BYTES = 1024 * 1024
_BLOCK_BYTES = 256 * 1024
_CHECKED_BYTES = 8 * 1024 * 1024
"""A frame of ours is smaller by far; a larger one is handed on before its checksum is known."""


class Compression(enum.Enum):
    """How a file is compressed. The value is the word in the settings."""

    NONE = "none"
    ZSTD = "zstd"
    GZIP = "gzip"

    @property
    def suffix(self) -> str:
        """What names of such files end in: ``.zst``, ``.gz`` or nothing."""
        return _SUFFIXES[self]

    @classmethod
    def of(cls, name: str) -> Compression:
        """Return how the file of that name is compressed."""
        _, dot, end = name.rpartition(".")
        return _BY_SUFFIX.get(dot + end, cls.NONE)


_SUFFIXES = {Compression.NONE: "", Compression.ZSTD: ".zst", Compression.GZIP: ".gz"}
_BY_SUFFIX = {suffix: compression for compression, suffix in _SUFFIXES.items() if suffix}


class BrokenFrame(StorageFailed):
    """A frame that cannot be read. All frames before it were."""

    def __init__(self, offset: int, reason: str, *, is_torn: bool) -> None:
        self.offset = offset
        """Where it begins: the end of the last whole frame, bytes of the file as it lies."""
        self.is_torn = is_torn
        """The file ends within it, as a crash leaves it; False: it is damaged."""
        self.reason = reason
        state = "torn" if is_torn else "damaged"
        super().__init__(f"{state} compressed frame at byte {offset}: {reason}")


class Packed(NamedTuple):
    """What was compressed."""

    raw_bytes: int
    bytes: int
    """Of the frames."""


def codec_of(compression: Compression) -> Codec:
    """Return what packs and reads single frames. Imports the library on first use."""
    match compression:
        case Compression.NONE:
            from ssmd_sink_file.frames.codec import PlainCodec  # noqa: PLC0415  with its siblings

            return PlainCodec()
        case Compression.ZSTD:
            from ssmd_sink_file.frames.codec_zstd import ZstdCodec  # noqa: PLC0415  a native library

            return ZstdCodec()
        case Compression.GZIP:
            from ssmd_sink_file.frames.codec_gzip import GzipCodec  # noqa: PLC0415  with its sibling

            return GzipCodec()


# ── packing ──────────────────────────────────────────────────────────────────────


def pack(
    source: Path, out: BinaryIO, compression: Compression, start: int = 0, end: int | None = None
) -> Packed:
    """Write the lines of a plain file, or of a range of it, as frames.

    The same bytes give the same frames.

    Args:
        source: a file of lines.
        out: takes each frame in one ``write``; a raw file is written to until all is taken.
        compression: of the frames.
        start: beginning of a line.
        end: end of a line; None for the end of the file as it is now.

    Raises:
        OSError: what ``source`` or ``out`` raises.
    """
    codec = codec_of(compression)
    fd = os.open(source, os.O_RDONLY)
    try:
        stop = os.fstat(fd).st_size if end is None else end
        position, written = start, 0
        while position < stop:
            following = frame_end(fd, position, stop)
            frame = pack_frame(fd, position, following, codec)
            _write(out, frame)
            written += len(frame)
            position = following
        return Packed(position - start, written)
    finally:
        os.close(fd)


def _write(out: BinaryIO, frame: bytes) -> None:
    view = memoryview(frame)
    while view:
        view = view[out.write(view) :]


def frame_end(fd: int, start: int, end: int) -> int:
    """Return where the frame ends that begins at ``start``: whole lines, about 1 MiB.

    A longer line is a frame of its own. Lines that end at ``end`` without a newline count
    as whole.
    """
    if end - start <= _FRAME_BYTES:
        return end
    newline = os.pread(fd, _FRAME_BYTES, start).rfind(b"\n")
    if newline >= 0:
        return start + newline + 1
    offset = start + _FRAME_BYTES
    while offset < end:
        block = os.pread(fd, min(_BLOCK_BYTES, end - offset), offset)
        newline = block.find(b"\n")
        if newline >= 0:
            return offset + newline + 1
        if not block:
            break
        offset += len(block)
    return end


def pack_frame(fd: int, start: int, end: int, codec: Codec) -> bytes:
    """Return the bytes of a file from ``start`` to ``end`` as one frame.

    Raises:
        OSError: the file cannot be read, or ends before ``end``.
    """
    return codec.pack(_pieces(fd, start, end), end - start)


def _pieces(fd: int, start: int, end: int) -> Iterator[bytes]:
    while start < end:
        block = os.pread(fd, min(_FRAME_BYTES, end - start), start)
        if not block:
            raise OSError(f"cut short by somebody else: {end - start} bytes are missing")
        yield block
        start += len(block)


# ── reading ──────────────────────────────────────────────────────────────────────


def read_frames(
    file: BinaryIO, compression: Compression, start: int = 0, end: int | None = None
) -> Iterator[bytes]:
    """Yield the plain content of a file of frames, in blocks of some 256 KiB at most.

    A frame is checked before any of it is yielded, unless it is larger than 8 MiB.

    Args:
        file: readable and, where ``start`` is not 0, seekable.
        compression: of the frames.
        start: beginning of a frame, bytes of the file as it lies.
        end: how far the file is read; None for all of it.

    Raises:
        BrokenFrame: after everything that stands before a torn or damaged frame.
        OSError: what ``file`` raises.
    """
    yield from read_source(Source(file, start, end), compression)


def read_source(source: Source, compression: Compression) -> Iterator[bytes]:
    """Yield what is left of a source, as ``read_frames`` does."""
    codec = codec_of(compression)
    while not source.at_end():
        begin = source.offset
        try:
            yield from _checked(codec.read(source))
        except Cut as cut:
            raise BrokenFrame(begin, str(cut), is_torn=True) from None
        except Corrupt as corrupt:
            raise BrokenFrame(begin, str(corrupt), is_torn=False) from None


def _checked(blocks: Iterator[bytes]) -> Iterator[bytes]:
    held: list[bytes] = []
    held_bytes = 0
    for block in blocks:
        held.append(block)
        held_bytes += len(block)
        if held_bytes > _CHECKED_BYTES:
            yield from held
            held.clear()
            yield from blocks
    yield from held
