"""Tells from a plain file which receipt times it holds, and so what it will be called."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from itertools import chain
from pathlib import Path
from typing import NamedTuple

from ssmd_sink_file.disk.tail import lines_from_end
from ssmd_sink_file.frames.compress import Compression
from ssmd_sink_file.lines.layout import Kind
from ssmd_sink_file.lines.ledger import ledger_ts
from ssmd_sink_file.lines.parser import LineParser
from ssmd_sink_file.objects.spool import lines_in

__all__ = ["Bounds", "bounds_in", "last_ts_in", "reads_ts"]

_LOOK_BACK_BYTES = 64 * 1024 * 1024


class Bounds(NamedTuple):
    """Receipt times of the first and the last undamaged line."""

    first_ts: int
    last_ts: int


def reads_ts(kind: Kind, parser: LineParser) -> Callable[[bytes], int | None]:
    """Return what tells the receipt time of an undamaged line of a kind."""
    return ledger_ts if kind is Kind.COVERAGE else parser.whole_ts


def bounds_in(path: Path, size: int, read_ts: Callable[[bytes], int | None]) -> Bounds | None:
    """Return the bounds of the whole lines in the first ``size`` bytes, None for none.

    Raises:
        OSError: the file cannot be read.
    """
    forwards = chain.from_iterable(lines_in(path, Compression.NONE, end=size))
    first_ts = next((ts for ts in map(read_ts, forwards) if ts is not None), None)
    if first_ts is None:
        return None
    return Bounds(first_ts, last_ts_in(path, size, read_ts) or first_ts)


def last_ts_in(path: Path, size: int, read_ts: Callable[[bytes], int | None]) -> int:
    """Return the receipt time of the last undamaged line in the first ``size`` bytes, or 0.

    Raises:
        OSError: the file cannot be read.
    """
    return next((ts for ts in map(read_ts, _backwards(path, size)) if ts is not None), 0)


def _backwards(path: Path, size: int) -> Iterator[bytes]:
    fd = os.open(path, os.O_RDONLY)
    try:
        yield from lines_from_end(fd, size, _LOOK_BACK_BYTES)
    finally:
        os.close(fd)
