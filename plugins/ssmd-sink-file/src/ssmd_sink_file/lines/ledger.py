"""Decides what a line of the coverage ledger says, as far as the archive itself must know."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import msgspec

from ssmd_sink_file.lines.parser import TS, nanoseconds

__all__ = ["LedgerParser", "Note", "files_named", "ledger_ts"]

_TS_ONLY = re.compile(TS)
_HEAD = re.compile(rb'\{"ts":"%b"' % TS)


class _LedgerLine(msgspec.Struct):
    ts: str


_decode_ledger_line = msgspec.json.Decoder(_LedgerLine).decode


def ledger_ts(line: bytes) -> int | None:
    """Return the ``ts`` of a line of the coverage ledger, None for a damaged one."""
    try:
        text = _decode_ledger_line(line).ts.encode()
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return None
    match = _TS_ONLY.fullmatch(text)
    return None if match is None else nanoseconds(match[1], match[2])


class Note(NamedTuple):
    """A line of the coverage ledger read back."""

    ts: int
    line: bytes


class LedgerParser:
    """Reads the lines of the coverage ledger."""

    HEAD_BYTES = 64
    """A line begins with its ``ts``."""

    def ts(self, line: bytes) -> int | None:
        """Return the receipt time at the head of a line, None for one without."""
        match = _HEAD.match(line)
        return None if match is None else nanoseconds(match[1], match[2])

    def parse(self, line: bytes) -> Note | None:
        """Read a line without its newline, None for one that is damaged."""
        ts = ledger_ts(line)
        return None if ts is None or not _is_text(line) else Note(ts, line)


def _is_text(line: bytes) -> bool:
    # Values that are not asked for are passed over without a look at their bytes.
    try:
        line.decode()
    except UnicodeDecodeError:
        return False
    return True


class _Rotated(msgspec.Struct, tag_field="event", tag="rotated"):
    file: str


_decode_rotated = msgspec.json.Decoder(_Rotated).decode


def files_named(lines: Iterable[bytes]) -> Iterator[str]:
    """Yield the files that ``rotated`` lines among some lines of a ledger name."""
    for line in lines:
        if b'"rotated"' in line:
            try:
                yield _decode_rotated(line).file
            except msgspec.DecodeError:
                continue
