"""Decides what a start takes over from the spool, and where receipt time goes on."""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass

from ssmd_sink_file.layout import Kind, LineParser, ledger_ts
from ssmd_sink_file.parts import Closed, Left
from ssmd_sink_file.spool import OpenName, PartName, Spool
from ssmd_sink_file.tail import lines_from_end

__all__ = ["Leftovers", "look"]

_LOOK_BACK_BYTES = 64 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Leftovers:
    """What an earlier run left."""

    jobs: tuple[Closed | Left, ...] = ()
    """What is still to be made ready for its upload, oldest first."""
    last_ts: int = 0
    last_number: int = 0
    """The highest number of an open part."""


def look(spool: Spool, feed: str) -> Leftovers:
    """Find what is there; remove what was being compressed, its source is there as well.

    Raises:
        OSError: the spool cannot be read.
    """
    for draft in spool.drafts():
        draft.unlink(missing_ok=True)
    opened, closed = spool.files()
    parser = LineParser(feed)
    times = [name.last_ts for name in closed]
    times += [_last_ts(spool, name, parser) for name in opened]
    times += [_last_ts(spool, name, parser) for name in closed if name.kind is Kind.COVERAGE]
    numbers = {(name.day, name.number) for name in opened}
    # What was closed first was there first; the ledger is uploaded before its frames.
    closed.sort(key=lambda name: (name.day, name.first_ts, name.kind is not Kind.COVERAGE))
    return Leftovers(
        jobs=(*map(Left, closed), *(Closed(*number) for number in sorted(numbers))),
        last_ts=max(times, default=0),
        last_number=max((number for _, number in numbers), default=0),
    )


def _last_ts(spool: Spool, name: OpenName | PartName, parser: LineParser) -> int:
    read_ts = ledger_ts if name.kind is Kind.COVERAGE else parser.whole_ts
    with contextlib.suppress(FileNotFoundError):
        fd = os.open(spool.path(name), os.O_RDONLY)
        try:
            lines = lines_from_end(fd, os.fstat(fd).st_size, _LOOK_BACK_BYTES)
            return next((ts for ts in map(read_ts, lines) if ts is not None), 0)
        finally:
            os.close(fd)
    return 0
