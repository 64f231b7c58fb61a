"""Decides which frame a line holds, if it is ours and undamaged."""

from __future__ import annotations

import binascii
import functools
import re
from datetime import UTC, datetime
from typing import NamedTuple

from ssmd_core.clock import NS

__all__ = ["TS", "Line", "LineParser", "nanoseconds", "unix_second"]

TS = rb"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)\.(\d{9})\+00:00"
"""A receipt time as it is written: the second, then nine digits."""


class Line(NamedTuple):
    """A line read back."""

    ts: int
    conn: int
    data: bytes
    raw: bool


class LineParser:
    """Reads the lines that a ``LineWriter`` of the same feed wrote."""

    HEAD_BYTES = 256
    """So many bytes of a line hold its ``ts``, however long the frame is."""

    def __init__(self, feed: str) -> None:
        self._head = re.compile(
            rb'\{"ts":"%b","feed":"%b",(?:"conn":([1-9]\d{0,8}),)?(?:"data":|("raw":"))'
            % (TS, re.escape(feed.encode()))
        )

    def ts(self, line: bytes) -> int | None:
        """Return the receipt time at the head of a line, None for one that is not ours."""
        match = self._head.match(line)
        return None if match is None else nanoseconds(match[1], match[2])

    def whole_ts(self, line: bytes) -> int | None:
        """Return the receipt time of an undamaged line, None for any other."""
        read = self.parse(line)
        return None if read is None else read.ts

    def parse(self, line: bytes) -> Line | None:
        """Read a line without its newline, None for one that is not ours or is damaged."""
        match = self._head.match(line)
        if match is None:
            return None
        ts = nanoseconds(match[1], match[2])
        raw = match[4] is not None
        data = _payload(line, match.end(), raw=raw)
        if ts is None or data is None:
            return None
        return Line(ts, int(match[3] or 0), data, raw)


def _payload(line: bytes, start: int, *, raw: bool) -> bytes | None:
    if raw:
        if not line.endswith(b'"}'):
            return None
        try:
            return binascii.a2b_base64(line[start:-2], strict_mode=True)
        except binascii.Error:
            return None
    data = line[start:-1]
    # JSON holds no NUL; a page that a power failure kept from the disk is full of them.
    return data if data and line.endswith(b"}") and b"\0" not in data else None


def nanoseconds(second: bytes, nanos: bytes) -> int | None:
    """Return a receipt time from the two groups of ``TS``, None where there is no such second."""
    whole = unix_second(second)
    return None if whole is None else whole * NS + int(nanos)


@functools.lru_cache(maxsize=16)
def unix_second(text: bytes) -> int | None:
    """Return the Unix time of a UTC time such as ``2026-11-22T06:00:47``, None for none."""
    try:
        return int(datetime.fromisoformat(text.decode()).replace(tzinfo=UTC).timestamp())
    except ValueError:
        return None
