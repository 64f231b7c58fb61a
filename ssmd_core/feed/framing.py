"""Decides where the frames of a WebSocket end, and which are plain text: nearly all of them.

A plain one is cut out here, in one step a frame. Everything else (pings, closes, fragments,
compressed and binary messages, and whatever breaks the rules) is handed on as it stands,
for a protocol implementation that knows all of RFC 6455.
"""

from __future__ import annotations

from struct import Struct

__all__ = ["Splitter"]

_pair = Struct(">HH").unpack_from
_long = Struct(">Q").unpack_from
_TEXT = 0x81
_SHORT_TEXT = 0x8100
"""A whole text message without a mask; its length, up to 125, is added."""
_TEXT_16, _TEXT_64 = 0x817E, 0x817F
_LONGEST_SHORT = 125
_LENGTH_16, _LENGTH_64 = 126, 127
_FIN = 0x80
_OPCODE = 0x0F
_CONT, _CONTROL = 0x0, 0x8


class Splitter:
    """The bytes of one connection, as a client gets them, cut into frames.

    Args:
        limit_bytes: a longer frame is not waited for.
    """

    __slots__ = ("_data", "_fragmented", "_later", "_limit", "_missing", "_pos", "left")

    def __init__(self, limit_bytes: int) -> None:
        self._limit = limit_bytes
        self._data = b""
        self._pos = 0
        self._later: list[bytes] = []
        self._missing = 0
        """So many bytes the frame that has begun lacks; ``_later`` holds what came of it since."""
        self._fragmented = False
        self.left = 0
        """How many bytes ``texts`` left: the next frame is odd, or not whole yet."""

    def feed(self, data: bytes) -> None:
        """Take what came."""
        if self._missing > len(data):
            self._later.append(data)
            self._missing -= len(data)
            return
        if self._later or self._pos < len(self._data):
            data = b"".join((self._data[self._pos :], *self._later, data))
            self._later.clear()
        self._data, self._pos, self._missing = data, 0, 0

    def texts(self) -> list[bytes]:
        """Return the whole plain text messages up to a frame of another sort; the hot call."""
        texts: list[bytes] = []
        data, pos, put = self._data, self._pos, texts.append
        end, limit = len(data), self._limit
        if self._fragmented or self._missing:
            self.left = end - pos
            return texts
        while end - pos >= 4:  # noqa: PLR2004  a header and two bytes: shorter ones are odd
            head, length = _pair(data, pos)
            if head == _TEXT_16:
                start = pos + 4
            elif 0 <= head - _SHORT_TEXT <= _LONGEST_SHORT:
                start, length = pos + 2, head - _SHORT_TEXT
            elif head == _TEXT_64 and end - pos >= 10:  # noqa: PLR2004  where its payload begins
                start, length = pos + 10, _long(data, pos + 2)[0]
            else:
                break
            stop = start + length
            if stop > end or length > limit:
                break
            put(data[start:stop])
            pos = stop
        self._pos, self.left = pos, end - pos
        return texts

    def odd(self) -> bytes | None:
        """Return the next frame, header and all, once it is whole; what breaks the rules at once.

        Asked for when ``texts`` has no more; a short text at the very end may be one too.
        """
        data, pos = self._data, self._pos
        there = len(data) - pos
        if there < 2 or self._missing:  # noqa: PLR2004  no frame is shorter
            return None
        head, length = data[pos], data[pos + 1]
        start, payload = 2, length
        if length == _LENGTH_16:
            start, payload = 4, int.from_bytes(data[pos + 2 : pos + 4])
        elif length == _LENGTH_64:
            start, payload = 10, int.from_bytes(data[pos + 2 : pos + 10])
        size = start + payload if there >= start else start
        # No server masks, and no peer may make us wait for more than the limit.
        if length > _LENGTH_64 or (there >= start and payload > self._limit):
            return self.rest()
        if size > there:
            self._missing = size - there
            return None
        opcode = head & _OPCODE
        if opcode < _CONTROL:
            self._fragmented = not head & _FIN
        self._pos = pos + size
        return data[pos : pos + size]

    def rest(self) -> bytes:
        """Give up everything that is held, for a reader that goes on with it."""
        rest = b"".join((self._data[self._pos :], *self._later))
        self._data, self._pos, self._missing = b"", 0, 0
        self._later.clear()
        return rest
