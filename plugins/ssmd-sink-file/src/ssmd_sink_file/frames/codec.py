"""What a frame format is to those who use it, and the bytes that frames are read from."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from typing import BinaryIO

__all__ = ["Codec", "Corrupt", "Cut", "FileSource", "PlainCodec", "Source"]

_BLOCK_BYTES = 256 * 1024


class Cut(Exception):
    """The bytes end within a frame."""


class Corrupt(Exception):
    """The bytes are no frame, or a damaged one."""


class Source:
    """The compressed bytes, read in order, with those given back read again."""

    def __init__(self, file: BinaryIO, start: int = 0, end: int | None = None) -> None:
        self.offset = start
        """How many bytes were taken, counted from the beginning of the file."""
        self._file = file
        self._end = end
        self._ahead = b""
        if start:
            file.seek(start)

    def at_end(self) -> bool:
        """Say whether nothing is left."""
        if not self._ahead:
            self._ahead = self._read(1)
        return not self._ahead

    def some(self, limit_bytes: int) -> bytes:
        """Return at least a byte, at most ``limit_bytes``; empty at the end."""
        data, self._ahead = self._ahead[:limit_bytes], self._ahead[limit_bytes:]
        self.offset += len(data)
        if len(data) < limit_bytes:
            more = self._read(limit_bytes - len(data))
            self.offset += len(more)
            data += more
        return data

    def exactly(self, count: int) -> bytes:
        """Return ``count`` bytes.

        Raises:
            Cut: fewer are left.
        """
        data = self.some(count)
        while len(data) < count:
            more = self.some(count - len(data))
            if not more:
                raise Cut("the file ends within it")
            data += more
        return data

    def give_back(self, data: bytes) -> None:
        """Put back what was taken last and belongs to the next frame."""
        self._ahead = data + self._ahead
        self.offset -= len(data)

    def skip(self, count: int) -> None:
        """Pass over ``count`` bytes of a seekable file.

        Raises:
            Cut: fewer are left.
        """
        ahead = min(count, len(self._ahead))
        self._ahead = self._ahead[ahead:]
        self.offset += count
        rest = count - ahead
        if rest > 1:
            # The last of them is read: seeking beyond the end of a file is no error.
            self._file.seek(rest - 1, os.SEEK_CUR)
        if rest and not self._file.read(1):
            raise Cut("the file ends within it")
        if self._end is not None and self.offset > self._end:
            raise Cut("the file ends within it")

    def _read(self, limit_bytes: int) -> bytes:
        if self._end is not None:
            limit_bytes = min(limit_bytes, self._end - self.offset - len(self._ahead))
        return self._file.read(limit_bytes) if limit_bytes > 0 else b""


class FileSource(Source):
    """The bytes of a descriptor that others read too. Passing over bytes costs nothing."""

    def __init__(self, fd: int, start: int, end: int) -> None:
        """``end`` lies in the file."""
        self.offset = start
        self._fd = fd
        self._stop = end

    def at_end(self) -> bool:
        """Say whether nothing is left."""
        return self.offset >= self._stop

    def some(self, limit_bytes: int) -> bytes:
        """Return at least a byte, at most ``limit_bytes``; empty at the end."""
        data = os.pread(self._fd, max(0, min(limit_bytes, self._stop - self.offset)), self.offset)
        self.offset += len(data)
        return data

    def give_back(self, data: bytes) -> None:
        """Put back what was taken last."""
        self.offset -= len(data)

    def skip(self, count: int) -> None:
        """Pass over ``count`` bytes.

        Raises:
            Cut: fewer are left.
        """
        self.offset += count
        if self.offset > self._stop:
            raise Cut("the file ends within it")


class Codec(ABC):
    """A frame format. Frames follow each other in a file without anything between."""

    @abstractmethod
    def pack(self, pieces: Iterable[bytes], raw_bytes: int) -> bytes:
        """Return ``raw_bytes`` of pieces as one frame, the same for the same bytes."""

    @abstractmethod
    def read(self, source: Source) -> Iterator[bytes]:
        """Yield the content of the frame that begins here, in blocks of 256 KiB at most.

        Raises:
            Cut: the bytes end within it.
            Corrupt: it is none, or damaged; told at its end at the latest.
        """

    def skip(self, source: Source) -> int:
        """Pass over the frame that begins here, and return the size of its content.

        Faster than reading where the format allows, and then without a look at the content.

        Raises:
            Cut: the bytes end within it.
            Corrupt: it is none.
        """
        return sum(map(len, self.read(source)))


class PlainCodec(Codec):
    """No compression: a frame is a run of bytes."""

    def pack(self, pieces: Iterable[bytes], raw_bytes: int) -> bytes:  # noqa: ARG002  the contract
        """Return the bytes as they are."""
        return b"".join(pieces)

    def read(self, source: Source) -> Iterator[bytes]:
        """Yield a block."""
        yield source.some(_BLOCK_BYTES)
