"""Decides which frames of a compressed file are read: found by hopping from head to head."""

from __future__ import annotations

import contextlib
import threading
from array import array
from collections.abc import Callable, Iterator
from functools import partial

from ssmd_sink_file.frames.codec import Corrupt, Cut, FileSource, Source
from ssmd_sink_file.frames.compress import BrokenFrame, Compression, codec_of, read_source

__all__ = ["FrameIndex", "Gap", "Opened", "next_frame", "packed_from_end", "read_on"]

Opened = Callable[[int], Source]
"""Opens one file of frames for reading from an offset on."""

_SEARCH_BYTES = 1024 * 1024
_BEGINNINGS = {Compression.ZSTD: b"\x28\xb5\x2f\xfd", Compression.GZIP: b"\x1f\x8b\x08"}


class Gap(BrokenFrame):
    """A damaged stretch of a file, behind which frames go on."""

    def __init__(self, broken: BrokenFrame, following: int) -> None:
        super().__init__(broken.offset, broken.reason, is_torn=False)
        self.following = following
        """Where the next whole frame begins."""


def next_frame(at: Opened, compression: Compression, start: int) -> int | None:
    """Return where the first undamaged frame at or after ``start`` begins, None without one."""
    offset = _find(at(start), _BEGINNINGS[compression])
    while offset is not None and not _is_whole(at(offset), compression):
        offset = _find(at(offset + 1), _BEGINNINGS[compression])
    return offset


def _find(source: Source, text: bytes) -> int | None:
    held = b""
    while block := source.some(_SEARCH_BYTES):
        held += block
        found = held.find(text)
        if found >= 0:
            return source.offset - len(held) + found
        held = held[-len(text) + 1 :]
    return None


def _is_whole(source: Source, compression: Compression) -> bool:
    try:
        for _ in codec_of(compression).read(source):
            pass
    except (Cut, Corrupt):
        return False
    return True


def read_on(at: Opened, compression: Compression, start: int = 0) -> Iterator[bytes | Gap]:
    """Yield the content of frames, and a gap for each damaged stretch between them.

    Raises:
        BrokenFrame: what stands at the end is torn or damaged.
    """
    while True:
        try:
            yield from read_source(at(start), compression)
        except BrokenFrame as broken:
            following = next_frame(at, compression, broken.offset + 1)
            if following is None:
                raise
            yield Gap(broken, following)
            start = following
        else:
            return


class FrameIndex:
    """Where the frames of one file begin. Grows with the file; reads heads and no content."""

    def __init__(self, compression: Compression) -> None:
        self.compression = compression
        self.starts = array("q")
        self.end = 0
        """So far the file is known."""
        self.raw_bytes = 0
        """Of the plain content up to ``end``."""
        self.gaps: list[Gap] = []
        self._growing = threading.Lock()

    def grow(self, fd: int, end: int) -> None:
        """Look at the frames between what is known and ``end``.

        Raises:
            BrokenFrame: what stands at the end is torn or damaged; what stands before is known.
        """
        with self._growing:
            while self.end < end:
                try:
                    self._hop(fd, end)
                except BrokenFrame as broken:
                    at = partial(FileSource, fd, end=end)
                    following = next_frame(at, self.compression, broken.offset + 1)
                    if following is None:
                        raise
                    self.gaps.append(Gap(broken, following))
                    self.end = following

    def _hop(self, fd: int, end: int) -> None:
        codec = codec_of(self.compression)
        source = FileSource(fd, self.end, end)
        while not source.at_end():
            begin = source.offset
            try:
                raw_bytes = codec.skip(source)
            except (Cut, Corrupt) as error:
                raise BrokenFrame(begin, str(error), is_torn=isinstance(error, Cut)) from None
            self.starts.append(begin)
            self.raw_bytes += raw_bytes
            self.end = source.offset

    def head(self, fd: int, number: int, limit_bytes: int) -> bytes:
        """Return the beginning of a frame's content; empty where it is damaged."""
        source = FileSource(fd, self.starts[number], self.end)
        head = b""
        try:
            for block in codec_of(self.compression).read(source):
                head += block[: limit_bytes - len(head)]
                if len(head) == limit_bytes:
                    break
        except (Cut, Corrupt):
            return b""
        return head


def packed_from_end(
    fd: int, compression: Compression, end: int, limit_bytes: int
) -> Iterator[bytes]:
    """Yield the lines of a compressed file, last first, without newlines, frame by frame.

    Damaged frames are passed over. Stops once frames of ``limit_bytes`` were looked at.
    """
    index = FrameIndex(compression)
    with contextlib.suppress(BrokenFrame):
        index.grow(fd, end)
    for number in range(len(index.starts) - 1, -1, -1):
        start = index.starts[number]
        if end - start > limit_bytes:
            return
        following = index.starts[number + 1] if number + 1 < len(index.starts) else index.end
        with contextlib.suppress(BrokenFrame):
            content = b"".join(read_source(FileSource(fd, start, following), compression))
            yield from reversed(content.splitlines())
