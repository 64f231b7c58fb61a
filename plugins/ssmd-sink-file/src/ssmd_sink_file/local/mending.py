"""Decides what of a compressed file is whole, and how far a part on its way into it has come."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from ssmd_sink_file.disk.files import open_file, sync_directory, write_all
from ssmd_sink_file.disk.tail import repair_tail
from ssmd_sink_file.frames.codec import FileSource
from ssmd_sink_file.frames.compress import BrokenFrame, Compression, read_source
from ssmd_sink_file.frames.index import FrameIndex
from ssmd_sink_file.lines.layout import Kind, Layout
from ssmd_sink_file.local.copies import is_source
from ssmd_sink_file.local.pieces import Lying, look

__all__ = ["Settled", "Told", "settle"]

_COPY_BYTES = 256 * 1024


class Settled(NamedTuple):
    """A compressed file that ends with a whole frame, and the part that goes in next."""

    compression: Compression
    """NONE where there is no compressed file yet."""
    bytes: int
    raw_bytes: int
    closing: str
    """Name of the part, relative to the root; empty where there is none."""
    closing_bytes: int


class Told(NamedTuple):
    """Whom to tell of what was set aside."""

    torn: Callable[[Path, int], None]
    """A partial line: the file that ended in it, and its size."""
    damaged: Callable[[str], None]
    """Anything else, in one sentence."""


def settle(root: Path, layout: Layout, day: str, kind: Kind, told: Told) -> Settled:
    """Bring a compressed file back to the size that the closing part's name says.

    What a crash left beyond it is a copy of that part; where it is not, the part is set
    aside, for it would cost what is archived. A tail that is torn or damaged all the same
    is set aside. Whatever the instant at which this ends, it can be called again.

    Raises:
        OSError: files are as they were, or nearer to what they should be.
    """
    lying = _without_strangers(root, layout, day, kind, told)
    size = raw_bytes = 0
    if lying.packed is not Compression.NONE:
        path = root / layout.packed(day, kind, lying.packed)
        limit = lying.closings[-1] if lying.closings else None
        size, raw_bytes = _mend_packed(path, lying.packed, told, limit)
    elif lying.closings and lying.closings[-1]:
        told.damaged(f"{root / layout.file(day, kind)}: what was compressed of it is gone")
    for stale in lying.closings[:-1]:
        path = root / layout.closing(day, kind, stale)
        _set_aside(path, f"{path} is older than another part on its way", told)
    if not lying.closings:
        return Settled(lying.packed, size, raw_bytes, "", 0)
    name = layout.closing(day, kind, size)
    if lying.closings[-1] != size:
        (root / layout.closing(day, kind, lying.closings[-1])).rename(root / name)
        sync_directory(root / day)
    closing_bytes = _mend_lines(root / name, root / layout.torn(day), told)
    return Settled(lying.packed, size, raw_bytes, name, closing_bytes)


def _without_strangers(root: Path, layout: Layout, day: str, kind: Kind, told: Told) -> Lying:
    """Return what lies there, once no part claims what was not copied from it."""
    lying = look(root, layout, day, kind)
    while lying.packed is not Compression.NONE and lying.closings:
        packed = root / layout.packed(day, kind, lying.packed)
        part = root / layout.closing(day, kind, lying.closings[-1])
        if is_source(part, packed, lying.packed, lying.closings[-1]):
            break
        _set_aside(part, f"{part} is not what {packed.name} holds from there on", told)
        lying = lying._replace(closings=lying.closings[:-1])
    return lying


def _set_aside(part: Path, why: str, told: Told) -> None:
    part.rename(part.with_name(f"{part.name}.old"))
    told.damaged(f"{why}: set aside as {part.name}.old")


def _mend_lines(path: Path, torn: Path, told: Told) -> int:
    fd = os.open(path, os.O_RDWR)
    try:
        size, torn_bytes = repair_tail(fd, os.fstat(fd).st_size, torn)
    finally:
        os.close(fd)
    if torn_bytes:
        told.torn(path, torn_bytes)
    return size


def _mend_packed(
    path: Path, compression: Compression, told: Told, limit: int | None
) -> tuple[int, int]:
    """Cut a compressed file to whole frames; return its size and that of its content."""
    fd = os.open(path, os.O_RDWR)
    try:
        size = os.fstat(fd).st_size
        if limit is not None and size > limit:
            _cut(fd, limit)
            size = limit
        elif limit is not None and size < limit:
            told.damaged(f"{path} is {limit - size} bytes shorter than it was: cut by somebody")
        index = FrameIndex(compression)
        try:
            index.grow(fd, size)
            _read_last(fd, index, size)
        except BrokenFrame as broken:
            aside = path.with_name(f"{path.name}.torn")
            _copy(fd, broken.offset, size, aside)
            _cut(fd, broken.offset)
            told.damaged(
                f"{path}: {broken}; {size - broken.offset} bytes set aside in {aside.name}"
            )
            size = broken.offset
            index = FrameIndex(compression)
            index.grow(fd, size)
        for gap in index.gaps:
            told.damaged(f"{path}: {gap}; what follows from byte {gap.following} on is whole")
        return size, index.raw_bytes
    finally:
        os.close(fd)


def _read_last(fd: int, index: FrameIndex, size: int) -> None:
    """Check the content of the last frame: a page of it may have missed the disk."""
    if index.starts:
        for _ in read_source(FileSource(fd, index.starts[-1], size), index.compression):
            pass


def _cut(fd: int, size: int) -> None:
    os.ftruncate(fd, size)
    os.fsync(fd)


def _copy(fd: int, start: int, end: int, aside: Path) -> None:
    out, _ = open_file(aside, os.O_WRONLY | os.O_APPEND)
    try:
        while start < end:
            block = os.pread(fd, min(_COPY_BYTES, end - start), start)
            if not block:
                break
            write_all(out, block)
            start += len(block)
        os.fsync(out)
    finally:
        os.close(out)
