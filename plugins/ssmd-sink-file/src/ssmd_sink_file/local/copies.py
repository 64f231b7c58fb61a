"""Decides whether a part on its way is what a compressed file was being copied from."""

from __future__ import annotations

import os
from pathlib import Path

from ssmd_sink_file.frames.codec import FileSource
from ssmd_sink_file.frames.compress import BrokenFrame, Compression, read_source
from ssmd_sink_file.frames.index import FrameIndex

__all__ = ["is_source"]


def is_source(part: Path, packed: Path, compression: Compression, start: int) -> bool:
    """Say whether what a compressed file holds from ``start`` on may be cut off for a part.

    It may where a frame begins there, and what follows stands in the part, too; the last
    of it may be torn or damaged, as a crash leaves it.

    Raises:
        OSError: one of them cannot be read.
    """
    fd = os.open(packed, os.O_RDONLY)
    try:
        size = os.fstat(fd).st_size
        if start >= size:
            return True
        if not _is_beginning(fd, compression, start, size):
            return False
        with part.open("rb") as file:
            try:
                for block in read_source(FileSource(fd, start, size), compression):
                    if file.read(len(block)) != block:
                        return False
            except BrokenFrame:
                pass
        return True
    finally:
        os.close(fd)


def _is_beginning(fd: int, compression: Compression, start: int, size: int) -> bool:
    index = FrameIndex(compression)
    try:
        index.grow(fd, size)
    except BrokenFrame as broken:
        if broken.offset == start:
            return True
    return start in index.starts
