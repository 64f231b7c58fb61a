"""Decides how lines become Zstandard frames: checksum and content size in each (RFC 8878)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

import zstandard

from ssmd_sink_file.frames.codec import Codec, Corrupt, Source

__all__ = ["ZstdCodec"]

_LEVEL = 1
"""Lines are alike: higher levels take a multiple of the time and save next to nothing."""
_MAGIC = 0xFD2FB528
_SKIPPABLE_MAGIC = range(0x184D2A50, 0x184D2A60)
_DICTIONARY_BYTES = (0, 1, 2, 4)
_SIZE_BYTES = (0, 2, 4, 8)
_RLE, _RESERVED = 1, 3
_CHECKSUM_BYTES = 4
_BLOCK_BYTES = 128 * 1024
"""No block holds more, compressed or not."""


class ZstdCodec(Codec):
    """Walks the blocks of a frame itself, so that output stays bounded and skipping is cheap."""

    def __init__(self) -> None:
        self._compressor = zstandard.ZstdCompressor(
            level=_LEVEL, write_checksum=True, write_content_size=True
        )
        self._decompressor = zstandard.ZstdDecompressor()

    def pack(self, pieces: Iterable[bytes], raw_bytes: int) -> bytes:
        """Return one frame."""
        work = self._compressor.compressobj(size=raw_bytes)
        return b"".join([*map(work.compress, pieces), work.flush()])

    def read(self, source: Source) -> Iterator[bytes]:
        """Yield the content block by block."""
        head = _head(source)
        if head.skippable_bytes is not None:
            _drop(source, head.skippable_bytes)
            return
        work = self._decompressor.decompressobj()
        try:
            yield work.decompress(head.data)
            for block in _blocks(source):
                yield work.decompress(block.header + source.exactly(block.bytes))
            if head.has_checksum:
                yield work.decompress(source.exactly(_CHECKSUM_BYTES))
        except zstandard.ZstdError as error:
            raise Corrupt(str(error)) from None
        if not work.eof:
            raise Corrupt("it does not end where its blocks do")

    def skip(self, source: Source) -> int:
        """Pass over the frame by the sizes that stand in it."""
        head = _head(source)
        if head.skippable_bytes is not None:
            source.skip(head.skippable_bytes)
            return 0
        if head.content_bytes is None:
            source.give_back(head.data)
            return super().skip(source)
        for block in _blocks(source):
            source.skip(block.bytes)
        if head.has_checksum:
            source.skip(_CHECKSUM_BYTES)
        return head.content_bytes


class _Head(NamedTuple):
    data: bytes
    content_bytes: int | None = None
    has_checksum: bool = False
    skippable_bytes: int | None = None


def _head(source: Source) -> _Head:
    magic = source.exactly(4)
    number = int.from_bytes(magic, "little")
    if number in _SKIPPABLE_MAGIC:
        size = source.exactly(4)
        return _Head(magic + size, skippable_bytes=int.from_bytes(size, "little"))
    if number != _MAGIC:
        raise Corrupt("no Zstandard frame begins here")
    descriptor = source.exactly(1)
    flags = descriptor[0]
    is_single, size_flag = bool(flags & 0x20), flags >> 6
    size_bytes = _SIZE_BYTES[size_flag] or int(is_single)
    before = (not is_single) + _DICTIONARY_BYTES[flags & 3]
    rest = source.exactly(before + size_bytes)
    content_bytes = None
    if size_bytes:
        # Two bytes count from 256 on, where one would have done (RFC 8878, 3.1.1.1.4).
        content_bytes = int.from_bytes(rest[before:], "little") + 256 * (size_flag == 1)
    return _Head(magic + descriptor + rest, content_bytes, bool(flags & 4))


class _Block(NamedTuple):
    header: bytes
    bytes: int


def _blocks(source: Source) -> Iterator[_Block]:
    """Yield the header of each block of a frame; the caller takes its bytes."""
    is_last = False
    while not is_last:
        header = source.exactly(3)
        number = int.from_bytes(header, "little")
        is_last, form, size = bool(number & 1), number >> 1 & 3, number >> 3
        if form == _RESERVED or size > _BLOCK_BYTES:
            raise Corrupt("a block of it cannot be one")
        yield _Block(header, 1 if form == _RLE else size)


def _drop(source: Source, count: int) -> None:
    while count:
        count -= len(source.exactly(min(count, _BLOCK_BYTES)))
