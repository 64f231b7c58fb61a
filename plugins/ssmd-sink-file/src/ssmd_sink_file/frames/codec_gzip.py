"""Decides how lines become gzip members (RFC 1952), each with its own size in its header."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterable, Iterator

from ssmd_sink_file.frames.codec import Codec, Corrupt, Cut, Source

__all__ = ["GzipCodec"]

_LEVEL = 4
_RAW, _MEMBER = -15, 31
"""What zlib calls deflate without a wrapper, and a gzip member."""
_BLOCK_BYTES = 256 * 1024
_INPUT_BYTES = 64 * 1024
_HEAD = struct.Struct("<4sIBBH2sHI")
_BEGIN = b"\x1f\x8b\x08\x04"
_UNKNOWN_SYSTEM = 255
_FIELD = b"sd"
"""The extra field of our members: how many bytes the member takes, so that it can be skipped."""
_FIELD_BYTES = 8
_TRAILER = struct.Struct("<II")


class GzipCodec(Codec):
    """Members without time or name, so that the same lines give the same bytes."""

    def pack(self, pieces: Iterable[bytes], raw_bytes: int) -> bytes:
        """Return one member."""
        work = zlib.compressobj(_LEVEL, zlib.DEFLATED, _RAW)
        packed: list[bytes] = []
        checksum = 0
        for piece in pieces:
            checksum = zlib.crc32(piece, checksum)
            packed.append(work.compress(piece))
        packed.append(work.flush())
        size = _HEAD.size + sum(map(len, packed)) + _TRAILER.size
        head = _HEAD.pack(_BEGIN, 0, 0, _UNKNOWN_SYSTEM, _FIELD_BYTES, _FIELD, 4, size)
        return b"".join([head, *packed, _TRAILER.pack(checksum, raw_bytes & 0xFFFFFFFF)])

    def read(self, source: Source) -> Iterator[bytes]:
        """Yield the content in blocks."""
        work = zlib.decompressobj(_MEMBER)
        data = b""
        try:
            while not work.eof:
                data = work.unconsumed_tail or source.some(_INPUT_BYTES)
                if not data:
                    raise Cut("the file ends within it")
                yield work.decompress(data, _BLOCK_BYTES)
        except zlib.error as error:
            raise Corrupt(str(error)) from None
        source.give_back(work.unused_data)

    def skip(self, source: Source) -> int:
        """Pass over a member of ours by the size in its header; read any other."""
        head = source.exactly(_HEAD.size)
        begin, *_, field_bytes, field, _, size = _HEAD.unpack(head)
        if (begin, field_bytes, field) != (_BEGIN, _FIELD_BYTES, _FIELD):
            source.give_back(head)
            return super().skip(source)
        if size < _HEAD.size + _TRAILER.size:
            raise Corrupt("its size cannot be one")
        source.skip(size - _HEAD.size - _TRAILER.size)
        _, raw_bytes = _TRAILER.unpack(source.exactly(_TRAILER.size))
        return int(raw_bytes)
