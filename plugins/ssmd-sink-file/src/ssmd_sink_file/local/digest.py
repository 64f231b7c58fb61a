"""Says what a finished file holds: lines, bytes, SHA-256; read in slices, in a thread.

Bytes and digest are those of the file as it lies, lines those of its plain content.
"""

from __future__ import annotations

import hashlib
import os
from collections import deque
from collections.abc import Callable
from pathlib import Path

from anyio import to_thread

from ssmd_sink_file.disk.files import describe
from ssmd_sink_file.frames.codec import Corrupt, Cut, FileSource, Source
from ssmd_sink_file.frames.compress import Compression, codec_of

__all__ = ["Digests"]

_BLOCK_BYTES = 1024 * 1024
_SLICE_BYTES = 16 * 1024 * 1024
"""A slice takes some 20 ms, which a sync can be late by."""


class Digests:
    """The files whose digest is still to be reported, oldest first."""

    def __init__(
        self, root: Path, report: Callable[..., None], warn: Callable[[str], None]
    ) -> None:
        self._root = root
        self._report = report
        self._warn = warn
        self._waiting: deque[_Digest | _PackedDigest] = deque()

    def __len__(self) -> int:
        return len(self._waiting)

    def add(self, file: str) -> None:
        """Ask for the digest of a file, relative to the root, that nothing is added to."""
        compression = Compression.of(file)
        if all(file != digest.file for digest in self._waiting):
            self._waiting.append(
                _Digest(self._root, file)
                if compression is Compression.NONE
                else _PackedDigest(self._root, file, compression)
            )

    def waits(self, day: str) -> bool:
        """Say whether a file of that day is still to be reported."""
        return any(digest.file.startswith(f"{day}/") for digest in self._waiting)

    async def read_slice(self) -> None:
        """Read on by a slice; report ``rotated`` once a file was read to its end."""
        if not self._waiting:
            return
        digest = self._waiting[0]
        try:
            finished = await to_thread.run_sync(digest.read, _SLICE_BYTES)
        except OSError as error:
            self._waiting.popleft()
            self._warn(f"cannot say what {digest.path} holds: {describe(error)}")
            return
        if finished:
            self._waiting.popleft()
            self._report(
                "rotated",
                file=digest.file,
                lines=digest.lines,
                bytes=digest.bytes,
                sha256=digest.sha256.hexdigest(),
            )


class _Digest:
    """One digest in the making. Holds no descriptor between slices."""

    def __init__(self, root: Path, file: str) -> None:
        self.path = root / file
        self.file = file
        self.sha256 = hashlib.sha256()
        self.lines = 0
        self.bytes = 0

    def read(self, limit_bytes: int) -> bool:
        """Read on by about ``limit_bytes``; True when the end of the file was reached."""
        fd = os.open(self.path, os.O_RDONLY)
        try:
            stop = self.bytes + limit_bytes
            while self.bytes < stop:
                block = os.pread(fd, _BLOCK_BYTES, self.bytes)
                if not block:
                    return True
                self.sha256.update(block)
                self.lines += block.count(b"\n")
                self.bytes += len(block)
        finally:
            os.close(fd)
        return False


class _PackedDigest:
    """The same for a compressed file, frame by frame."""

    def __init__(self, root: Path, file: str, compression: Compression) -> None:
        self.path = root / file
        self.file = file
        self.sha256 = hashlib.sha256()
        self.lines = 0
        self.bytes = 0
        self._codec = codec_of(compression)
        self._is_readable = True

    def read(self, limit_bytes: int) -> bool:
        """Read on by frames of about ``limit_bytes``; True at the end of the file."""
        fd = os.open(self.path, os.O_RDONLY)
        try:
            source = FileSource(fd, self.bytes, os.fstat(fd).st_size)
            raw_bytes = 0
            while raw_bytes < limit_bytes:
                if source.at_end():
                    return True
                raw_bytes += self._read_frame(source)
                self._hash(fd, source.offset)
        finally:
            os.close(fd)
        return False

    def _read_frame(self, source: Source) -> int:
        if not self._is_readable:
            return len(source.some(_BLOCK_BYTES))
        raw_bytes = 0
        try:
            for block in self._codec.read(source):
                self.lines += block.count(b"\n")
                raw_bytes += len(block)
        except (Cut, Corrupt):
            self._is_readable = False  # the lines are those before, the digest is of all
        return raw_bytes

    def _hash(self, fd: int, end: int) -> None:
        while self.bytes < end:
            block = os.pread(fd, min(_BLOCK_BYTES, end - self.bytes), self.bytes)
            if not block:
                break
            self.sha256.update(block)
            self.bytes += len(block)
