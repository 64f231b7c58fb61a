"""Decides what a start takes over from the spool, and where receipt time goes on."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from ssmd_sink_file.lines.layout import Kind
from ssmd_sink_file.lines.ledger import files_named
from ssmd_sink_file.lines.parser import LineParser
from ssmd_sink_file.objects.bounds import Bounds, bounds_in, last_ts_in, reads_ts
from ssmd_sink_file.objects.parts import Closed, Left
from ssmd_sink_file.objects.spool import OpenName, PartName, Spool

__all__ = ["Leftovers", "look"]


@dataclass(frozen=True, slots=True)
class Leftovers:
    """What an earlier run left."""

    jobs: tuple[Closed | Left, ...] = ()
    """What is still to be made ready for its upload, oldest first."""
    last_ts: int = 0
    last_number: int = 0
    """The highest number of an open part."""
    reported: frozenset[str] = frozenset()
    """The objects that ``rotated`` lines in the spool speak of."""


def look(spool: Spool, feed: str) -> Leftovers:
    """Find what is there; remove what was made of files that are there as well.

    Raises:
        OSError: the spool cannot be read.
    """
    for draft in spool.drafts():
        draft.unlink(missing_ok=True)
    opened, closed = spool.files()
    parser = LineParser(feed)
    bounds = {name: _bounds(spool, name, parser) for name in opened}
    # A part that was being closed is closed again, under the same names.
    unfinished = {(name.day, *found) for name, found in bounds.items() if found}
    left: list[PartName] = []
    for name in closed:
        if (name.day, name.first_ts, name.last_ts) not in unfinished:
            left.append(name)
        elif name.kind is not Kind.COVERAGE:
            spool.path(name).unlink(missing_ok=True)
    kept = spool.kept(ledger=True)
    times = [found.last_ts for found in bounds.values() if found]
    times += [_last_ts(spool, name, parser) for name in (*closed, *kept[-1:])]
    times += [name.last_ts for name in (*kept, *spool.kept(ledger=False))]
    numbers = sorted({(name.day, name.number) for name in opened})
    left.sort(key=lambda name: (name.day, name.first_ts, name.kind is not Kind.COVERAGE))
    return Leftovers(
        jobs=(*map(Left, left), *(Closed(*number) for number in numbers)),
        last_ts=max(times, default=0),
        last_number=max((number for _, number in numbers), default=0),
        reported=frozenset(_reported(spool, (*opened, *closed, *kept))),
    )


def _reported(spool: Spool, names: Iterable[OpenName | PartName]) -> Iterator[str]:
    for name in names:
        if name.kind is Kind.COVERAGE:
            with spool.lying(name).open("rb") as ledger:
                yield from files_named(ledger)


def _bounds(spool: Spool, name: OpenName, parser: LineParser) -> Bounds | None:
    path = spool.path(name)
    return bounds_in(path, path.stat().st_size, reads_ts(name.kind, parser))


def _last_ts(spool: Spool, name: PartName, parser: LineParser) -> int:
    """Return the last receipt time of a closed file; a ledger may be named after frames."""
    if name.kind is not Kind.COVERAGE:
        return name.last_ts
    path = spool.lying(name)
    return max(name.last_ts, last_ts_in(path, path.stat().st_size, reads_ts(name.kind, parser)))
