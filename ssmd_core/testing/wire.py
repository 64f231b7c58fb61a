"""Decides the bytes of the WebSocket frames that a server sends, many at a time (RFC 6455, 5.2)."""

from __future__ import annotations

import struct
from collections.abc import Iterable

__all__ = ["BINARY", "TEXT", "pack"]

TEXT = 0x81
"""First byte of an unfragmented text message."""
BINARY = 0x82
"""First byte of an unfragmented binary message."""

_SHORT_LIMIT = 126
_MEDIUM_LIMIT = 1 << 16
_medium = struct.Struct("!BBH").pack
_long = struct.Struct("!BBQ").pack


def pack(messages: Iterable[bytes], first_byte: int = TEXT) -> bytes:
    """Return the messages as consecutive unmasked frames, ready for one write."""
    parts: list[bytes] = []
    append = parts.append
    for message in messages:
        size = len(message)
        if size < _SHORT_LIMIT:
            append(bytes((first_byte, size)))
        elif size < _MEDIUM_LIMIT:
            append(_medium(first_byte, 126, size))
        else:
            append(_long(first_byte, 127, size))
        append(message)
    return b"".join(parts)
