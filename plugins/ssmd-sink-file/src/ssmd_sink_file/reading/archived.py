"""Decides how the files of an archive answer, wherever they lie: scanned, hashed, failures told."""

from __future__ import annotations

import hashlib
import io
from abc import abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, BinaryIO, TypeVar

from ssmd_core.errors import StorageFailed
from ssmd_core.records import Batch, Stream
from ssmd_core.sink.archive import Archive, ArchiveFile, Content, Damaged, Digest
from ssmd_sink_file.frames.compress import Compression
from ssmd_sink_file.reading.content import content, whole_lines
from ssmd_sink_file.reading.scan import FrameScanner, NoteScanner, Scanner

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

__all__ = ["ArchivedFiles", "RawBytes"]

_BLOCK_BYTES = 256 * 1024
_STREAMS = {Content.LIVE: Stream.LIVE, Content.REST: Stream.REST}

_FoundT = TypeVar("_FoundT")


class RawBytes(io.RawIOBase):
    """Bytes that are read and sought in, unbuffered. Subclasses say where they come from."""

    def readable(self) -> bool:
        """Say yes."""
        return True

    def seekable(self) -> bool:
        """Say yes."""
        return True


class ArchivedFiles(Archive):
    """What is the same for every place. A subclass lists files and opens them."""

    @abstractmethod
    def _open(self, file: ArchiveFile, *, whole: bool = False) -> BinaryIO:
        """Open a file for reading, buffered; raises what ``_explain`` understands.

        ``whole`` is with what other files hold as well, where frames move between files.
        """

    @abstractmethod
    def _explain(self, error: Exception) -> str | None:
        """Return in a few words what failed there, None for an error that is not of the place."""

    def frames(self, file: ArchiveFile) -> Iterator[Batch | Damaged]:
        """Yield the frames of a LIVE or REST file in the order in which they stand."""
        return self._scan(file, FrameScanner(file.name, file.feed, _STREAMS[file.content]))

    def notes(self, file: ArchiveFile) -> Iterator[tuple[int, bytes] | Damaged]:
        """Yield ``ts`` and line of a LEDGER file in the order in which they stand."""
        return self._scan(file, NoteScanner(file.name))

    def digest(self, file: ArchiveFile) -> Digest:
        """Return what a file holds now: lines of its content, bytes and hash as it lies."""
        with self._telling(file.name), self._open(file, whole=True) as source:
            hashed = _Hashed(source)
            reader = io.BufferedReader(hashed, _BLOCK_BYTES)
            lines = sum(
                block.count(b"\n")
                for block in content(reader, Compression.of(file.name))
                if isinstance(block, bytes)
            )
            return Digest(lines, hashed.bytes, hashed.sha256.hexdigest())

    def _scan(self, file: ArchiveFile, scanner: Scanner[_FoundT]) -> Iterator[_FoundT | Damaged]:
        with self._telling(file.name), self._open(file) as source:
            for block in whole_lines(content(source, Compression.of(file.name))):
                if isinstance(block, bytes):
                    yield from scanner.take(block)
                elif not (file.is_open and block.is_partial_line):
                    yield from scanner.skip(block.what)
        yield from scanner.end()

    @contextmanager
    def _telling(self, name: str) -> Iterator[None]:
        try:
            yield
        except StorageFailed:
            raise
        except Exception as error:
            what = self._explain(error)
            if what is None:
                raise
            raise StorageFailed(f"cannot read {name} of {self.place}: {what}") from error


class _Hashed(RawBytes):
    """Hashes what is read for the first time, so that one reading gives lines and digest."""

    def __init__(self, source: BinaryIO) -> None:
        self.sha256 = hashlib.sha256()
        self.bytes = 0
        self._source = source
        self._position = 0

    def readinto(self, buffer: WriteableBuffer, /) -> int:
        """Read on."""
        view = memoryview(buffer)
        data = self._source.read(len(view))
        view[: len(data)] = data
        self.sha256.update(data[max(0, self.bytes - self._position) :])
        self._position += len(data)
        self.bytes = max(self.bytes, self._position)
        return len(data)

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        """Go elsewhere, as far as was read already."""
        self._position = self._source.seek(offset, whence)
        return self._position
