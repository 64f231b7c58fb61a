"""Decides what of a file's end is whole lines; sets aside what a crash tore."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from ssmd_sink_file.disk.files import open_file, write_all

__all__ = ["lines_from_end", "repair_tail"]

_BLOCK_BYTES = 64 * 1024


def repair_tail(fd: int, size: int, torn: Path) -> tuple[int, int]:
    """Move what stands after the last newline to the end of ``torn``, as a line of its own.

    The file is cut only once the partial line is safe, so a crash in between costs
    nothing but a second copy of it.

    Args:
        fd: open for reading and writing.
        size: of the file, bytes.
        torn: where partial lines are collected.

    Returns:
        The new size, and how many bytes were moved.

    Raises:
        OSError: the file is as it was.
    """
    if size == 0 or os.pread(fd, 1, size - 1) == b"\n":
        return size, 0
    whole = _end_of_last_line(fd, size)
    _set_aside(fd, whole, size, torn)
    os.ftruncate(fd, whole)
    os.fsync(fd)
    return whole, size - whole


def lines_from_end(fd: int, size: int, limit_bytes: int) -> Iterator[bytes]:
    """Yield the whole lines of a file, last first, without newlines.

    What stands after the last newline is passed over. Reads ever larger blocks, so that
    a long line costs no more than its length, and stops once ``limit_bytes`` were read.
    """
    end, block_bytes = size, _BLOCK_BYTES
    carry, whole = b"", False
    while end > 0 and size - end < limit_bytes:
        start = max(0, end - block_bytes)
        first, *lines = (os.pread(fd, end - start, start) + carry).split(b"\n")
        if lines and not whole:
            lines.pop()
            whole = True
        yield from reversed(lines)
        carry = first if whole else b""
        end, block_bytes = start, block_bytes * 2
    if end == 0 and whole:
        yield carry


def _end_of_last_line(fd: int, size: int) -> int:
    end = size
    while end > 0:
        start = max(0, end - _BLOCK_BYTES)
        newline = os.pread(fd, end - start, start).rfind(b"\n")
        if newline >= 0:
            return start + newline + 1
        end = start
    return 0


def _set_aside(fd: int, start: int, end: int, torn: Path) -> None:
    out, _ = open_file(torn, os.O_WRONLY | os.O_APPEND)
    try:
        before = os.fstat(out).st_size
        try:
            _copy(fd, start, end, out)
        except OSError:
            os.ftruncate(out, before)  # this will be tried again, a full disk for hours
            raise
        os.fsync(out)
    finally:
        os.close(out)


def _copy(fd: int, start: int, end: int, out: int) -> None:
    while start < end:
        block = os.pread(fd, min(_BLOCK_BYTES, end - start), start)
        if not block:  # cut short meanwhile by somebody else
            break
        write_all(out, block)
        start += len(block)
    write_all(out, b"\n")
