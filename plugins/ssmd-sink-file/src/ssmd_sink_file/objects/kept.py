"""Decides what of the uploaded parts stays in the spool, for a start that looks back."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping

from ssmd_core.clock import NS, day_of
from ssmd_sink_file.disk.files import FULL, open_file
from ssmd_sink_file.lines.layout import Kind
from ssmd_sink_file.objects.parts import PartFile
from ssmd_sink_file.objects.spool import DRAFT, PartName, Spool

__all__ = ["Kept", "superseded"]

_DAY_NS = 86_400 * NS
_MOST_LEDGERS = 64
"""More of a day become one."""
_RECENT_NS = 600 * NS
"""A start reads back frames of so long at most, to know again what a page brings twice."""


def superseded(names: Mapping[PartName, int], limit_bytes: int, least: int = 1) -> list[PartName]:
    """Return what a start will not look for any more.

    It looks for the ledger of the last day and the one before, and for the last frames.

    Args:
        names: what is kept, with its size in bytes.
        limit_bytes: so much of frames may stay.
        least: so many parts with live frames stay, however large and old.
    """
    newest_ts = max((name.last_ts for name in names), default=0)
    first_day = day_of(max(0, newest_ts - _DAY_NS))
    gone = [name for name in names if name.kind is Kind.COVERAGE and name.day < first_day]
    frames = [name for name in names if name.kind is not Kind.COVERAGE]
    for name in sorted(frames, key=lambda name: name.last_ts, reverse=True):
        limit_bytes -= names[name]
        if name.kind is Kind.LIVE and least > 0:
            least -= 1
        elif limit_bytes < 0 or name.last_ts < newest_ts - _RECENT_NS:
            gone.append(name)
    return gone


class Kept:
    """The files of a spool that are kept. Works in threads, one call at a time."""

    def __init__(self, spool: Spool, limit_bytes: int) -> None:
        """``limit_bytes`` is how much of frames may stay beside the newest part."""
        self._spool = spool
        self._limit_bytes = limit_bytes

    def take(self, file: PartFile) -> None:
        """Move a file there that is uploaded and released, unless nothing stands in it.

        Raises:
            FileNotFoundError: it is gone already.
            OSError: it lies where it was.
        """
        if not file.digest.lines:
            self._spool.path(file.name).unlink()
            return
        lies = file.plain or file.name
        try:
            self._spool.keep(lies, file.name if file.plain is None else file.plain_name)
        except OSError as error:
            if error.errno not in FULL or file.name.kind is Kind.COVERAGE:
                raise
            self._spool.path(lies).unlink()  # a start can do without it

    def trim(self, released_ts: int, *, scarce: bool = False, least: int = 1) -> None:
        """Remove what is superseded; where space is scarce all but the ledger is.

        A ledger stays until all of it is released.

        Raises:
            OSError: not everything is removed.
        """
        ledgers = self._spool.kept(ledger=True)
        sizes: dict[PartName, int] = {}
        for name in (*ledgers, *self._spool.kept(ledger=False)):
            with contextlib.suppress(FileNotFoundError):  # by somebody else
                sizes[name] = self._spool.kept_path(name).stat().st_size
        limit_bytes = 0 if scarce else self._limit_bytes
        gone = [
            name
            for name in superseded(sizes, limit_bytes, least)
            if name.kind is not Kind.COVERAGE or name.last_ts <= released_ts
        ]
        for name in gone:
            self._remove(name)
        by_day: dict[str, list[PartName]] = {}
        for name in ledgers:
            by_day.setdefault(name.day, []).append(name)
        for names in by_day.values():
            if len(names) > _MOST_LEDGERS and not set(names) & set(gone):
                self._merge(names)

    def _merge(self, names: list[PartName]) -> None:
        """Put the ledgers of a day into one: each costs a block of the disk, and a name.

        Cut off in between, lines stand in two files; readers and the next time take them once.
        """
        first_ts, last_ts = names[0].first_ts, max(name.last_ts for name in names)
        merged = names[0]._replace(first_ts=first_ts, last_ts=last_ts)
        target = self._spool.kept_path(merged)
        draft = target.with_name(target.name + DRAFT)
        paths = [self._spool.kept_path(name) for name in names]
        lines = dict.fromkeys(
            line for path in paths for line in path.read_bytes().splitlines(keepends=True)
        )
        try:
            fd, _ = open_file(draft, os.O_WRONLY | os.O_TRUNC)
            with os.fdopen(fd, "wb") as out:
                out.writelines(lines)
                out.flush()
                os.fsync(out.fileno())
        except OSError as error:
            draft.unlink(missing_ok=True)
            if error.errno not in FULL:
                raise
            return
        draft.rename(target)
        for name in names:
            if name != merged:
                self._remove(name)

    def _remove(self, name: PartName) -> None:
        path = self._spool.kept_path(name)
        path.unlink(missing_ok=True)
        with contextlib.suppress(OSError):  # not empty yet
            path.parent.rmdir()
