"""Decides which finished files no ledger speaks of yet."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import date, timedelta
from pathlib import Path

from ssmd_sink_file.lines.layout import Kind, Layout
from ssmd_sink_file.lines.ledger import files_named
from ssmd_sink_file.local.packing import Place
from ssmd_sink_file.local.pieces import PACKED_KINDS, files_lying

__all__ = ["unreported"]

_WEEK = timedelta(days=7)


def unreported(
    root: Path, layout: Layout, days: Iterable[str], today: str
) -> tuple[list[Place], set[str]]:
    """Return the streams and days of the last week that are over and not reported.

    A stop soon after midnight leaves such; what is older would be read for nothing at
    every start.

    Returns:
        Those, and the files that ledgers of that week speak of.

    Raises:
        OSError: a ledger is there and cannot be read.
    """
    oldest = (date.fromisoformat(today) - _WEEK).isoformat()
    recent = [day for day in days if oldest <= day]
    over = [(day, kind) for day in recent if day < today for kind in PACKED_KINDS]
    if not over:
        return [], set()
    reported = _reported_files(root, layout, recent)
    return [
        place for place in over if any(f not in reported for f in files_lying(root, layout, *place))
    ], reported


def _reported_files(root: Path, layout: Layout, days: Iterable[str]) -> set[str]:
    """Return the files that ``rotated`` lines in the ledgers of some days name."""
    found: set[str] = set()
    for day in days:
        try:
            with (root / layout.file(day, Kind.COVERAGE)).open("rb") as ledger:
                found.update(files_named(ledger))
        except FileNotFoundError:
            continue
    return found
