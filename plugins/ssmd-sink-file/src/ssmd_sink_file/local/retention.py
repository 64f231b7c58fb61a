"""Decides which days are kept no longer: the oldest first, and only what nobody needs."""

from __future__ import annotations

import enum
import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path
from typing import NamedTuple

from ssmd_core.clock import day_of
from ssmd_sink_file.lines.layout import Layout

__all__ = ["Expired", "Reason", "Retention", "files_of", "remove"]


class Reason(enum.Enum):
    """Why a day went. The value is the word in the ledger."""

    KEEP_DAYS = "keep_days"
    MIN_FREE_BYTES = "min_free_bytes"


class Expired(NamedTuple):
    """A day that goes."""

    day: str
    reason: Reason


@dataclass(frozen=True, slots=True)
class Retention:
    """How much is kept."""

    keep_days: int | None = None
    min_free_bytes: int | None = None

    def next(
        self, days: Iterable[str], *, today: str, released: int, free: int | None
    ) -> Expired | None:
        """Return the day that goes next, if one does.

        Args:
            days: those of the archive that may go, as far as their files are concerned.
            today: never goes, nor does what follows.
            released: receipt time up to which the bus has everything; only days that are
                wholly below go.
            free: bytes that the volume has left; None where that is not known.
        """
        limit = min(today, day_of(released)) if released > 0 else ""
        oldest = min((day for day in days if day < limit), default=None)
        if oldest is None:
            return None
        if self.keep_days is not None and oldest < _days_before(today, self.keep_days):
            return Expired(oldest, Reason.KEEP_DAYS)
        if free is not None and self.is_short(free):
            return Expired(oldest, Reason.MIN_FREE_BYTES)
        return None

    def is_short(self, free: int) -> bool:
        """Say whether a volume with so many bytes left has too few."""
        return self.min_free_bytes is not None and free < self.min_free_bytes


def _days_before(today: str, count: int) -> str:
    try:
        return (date.fromisoformat(today) - timedelta(days=count)).isoformat()
    except OverflowError:  # more days than there were
        return ""


def files_of(root: Path, layout: Layout, day: str) -> list[tuple[str, int]]:
    """Return names and sizes of the feed's files on a day, the ledger last.

    What else lies in the directory is another feed's, or a stranger's.
    """
    ours = re.compile(
        rf"{re.escape(layout.feed)}\.(?:torn|(?:rest\.|coverage\.)?jsonl"
        r"(?:\.zst|\.gz)?(?:\.torn|\.\d+\.closing(?:\.old)?)?)"
    )
    try:
        with os.scandir(root / day) as entries:
            found = [
                (entry.name, entry.stat(follow_symlinks=False).st_size)
                for entry in entries
                if ours.fullmatch(entry.name) and not entry.is_dir(follow_symlinks=False)
            ]
    except (FileNotFoundError, NotADirectoryError):
        return []
    return sorted(found, key=lambda file: (".coverage." in file[0], file[0]))


def remove(root: Path, day: str, names: Sequence[str]) -> None:
    """Remove files of a day, and its directory once it is empty.

    Raises:
        OSError: one of them cannot be removed; those before it are gone.
    """
    for name in names:
        (root / day / name).unlink(missing_ok=True)
    with os.scandir(root / day) as entries:
        is_empty = next(entries, None) is None
    if is_empty:
        (root / day).rmdir()
