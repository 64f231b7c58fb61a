"""Decides what parts are called, in the spool and as objects, and what a start finds there."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from ssmd_sink_file.disk.files import make_directory, sync_directory
from ssmd_sink_file.frames.compress import Compression, read_frames
from ssmd_sink_file.lines.layout import DAY, Kind

__all__ = [
    "DRAFT",
    "OpenName",
    "PartName",
    "Spool",
    "days_of",
    "last_ts_of",
    "lines_in",
    "object_folder",
    "rest_folder",
]

DRAFT = ".tmp"
"""Ends the name of what is being written and is worth nothing yet."""

_OPEN = re.compile(r"(\d{19})(\.jsonl|\.rest\.jsonl|\.coverage\.jsonl)")
_PART = re.compile(r"(\d{19})-(\d{19})(\.jsonl|\.rest\.jsonl|\.coverage\.jsonl)(\.zst|\.gz)?")
_FOLDER = re.compile(r"date=(\d{4}-\d\d-\d\d)")
_REST_FOLDER = "rest"
"""Beside live frames: what asks for the files of a partition gets nothing else."""
_KEPT_LEDGER, _KEPT_FRAMES = "kept/ledger", "kept/frames"


class OpenName(NamedTuple):
    """A plain file that was or is being appended to; those of one part share its number."""

    day: str
    number: int
    """Grows from part to part."""
    kind: Kind

    @property
    def file(self) -> str:
        """The name within the spool of the feed."""
        return f"{self.day}/{self.number:019d}{self.kind.value}"


class PartName(NamedTuple):
    """A closed file, in the form in which it is uploaded."""

    day: str
    first_ts: int
    last_ts: int
    kind: Kind
    compression: Compression

    @property
    def file(self) -> str:
        """The name within the spool of the feed."""
        times = f"{self.first_ts:019d}-{self.last_ts:019d}"
        return f"{self.day}/{times}{self.kind.value}{self.compression.suffix}"

    def object_name(self, feed: str) -> str:
        """Return the name relative to the place of all objects."""
        folder = (rest_folder if self.kind is Kind.REST else object_folder)(self.day, feed)
        return f"{folder}/{self.file.partition('/')[2]}"


def object_folder(day: str, feed: str) -> str:
    """Return the partition that holds the objects of a feed and day."""
    return f"date={day}/feed={feed}"


def rest_folder(day: str, feed: str) -> str:
    """Return the folder that holds what came over REST."""
    return f"{object_folder(day, feed)}/{_REST_FOLDER}"


def last_ts_of(names: list[str]) -> int:
    """Return the last receipt time that names of objects tell; 0 where none does."""
    return max((int(found[2]) for found in map(_PART.fullmatch, names) if found), default=0)


def days_of(folders: list[str]) -> list[str]:
    """Return the days that folders of a place are of, newest first."""
    return sorted((found[1] for found in map(_FOLDER.fullmatch, folders) if found), reverse=True)


@dataclass(frozen=True, slots=True)
class Spool:
    """The files of one feed that wait on local disk: ``{spool}/{feed}/{day}/…``."""

    base: Path

    def path(self, name: OpenName | PartName) -> Path:
        """Return where a file lies."""
        return self.base / name.file

    def kept_path(self, name: PartName) -> Path:
        """Return where a file lies that is kept for the next start although it is uploaded."""
        folder = _KEPT_LEDGER if name.kind is Kind.COVERAGE else _KEPT_FRAMES
        return self.base / folder / name.file

    def lying(self, name: OpenName | PartName) -> Path:
        """Return where a file lies now: among what waits, or where it is kept."""
        path = self.path(name)
        if isinstance(name, PartName) and not path.exists():
            return self.kept_path(name)
        return path

    def torn(self, day: str) -> str:
        """Return where partial lines of a day are kept, relative to the base."""
        return f"{day}/torn"

    def set_aside(self, name: OpenName | PartName, why: str) -> Path:
        """Move a file that is not to be uploaded, and return where to."""
        aside = self.base / why / name.file
        make_directory(aside.parent)
        self.path(name).rename(aside)
        sync_directory(aside.parent)
        return aside

    def count_aside(self, why: str) -> int:
        """Return how many files were moved aside for a reason and still lie there."""
        return sum(1 for _ in _listed(self.base / why))

    def keep(self, lies: OpenName | PartName, name: PartName) -> None:
        """Move a file that is uploaded to where no start takes it for one that is not."""
        kept = self.kept_path(name)
        make_directory(kept.parent)
        self.path(lies).rename(kept)

    def kept(self, *, ledger: bool) -> list[PartName]:
        """Return what is kept of the ledger, or of frames, in order."""
        listed = _listed(self.base / (_KEPT_LEDGER if ledger else _KEPT_FRAMES))
        names = filter(None, (_part_name(*entry) for entry in listed))
        return sorted(names, key=lambda name: (name.day, name.first_ts, name.file))

    def files(self) -> tuple[list[OpenName], list[PartName]]:
        """Return the plain files and the closed ones, in order; anything else is not ours.

        A file is renamed while it is closed, and a listing taken meanwhile may miss it, so
        two that agree are taken.
        """
        listed = sorted(_listed(self.base))
        while (again := sorted(_listed(self.base))) != listed:
            listed = again
        opened: list[OpenName] = []
        closed: list[PartName] = []
        for day, file in listed:
            if found := _OPEN.fullmatch(file):
                opened.append(OpenName(day, int(found[1]), Kind(found[2])))
            elif name := _part_name(day, file):
                closed.append(name)
        return opened, closed

    def drafts(self) -> list[Path]:
        """Return what a crash left half written."""
        listed = [self.base / day / file for day, file in _listed(self.base)]
        drafts = [path for path in listed if path.name.endswith(DRAFT)]
        return [path for path in drafts if _PART.fullmatch(path.name.removesuffix(DRAFT))]


def _part_name(day: str, file: str) -> PartName | None:
    found = _PART.fullmatch(file)
    if found is None:
        return None
    return PartName(day, int(found[1]), int(found[2]), Kind(found[3]), Compression.of(file))


def _listed(folder: Path) -> Iterator[tuple[str, str]]:
    try:
        days = [entry for entry in folder.iterdir() if DAY.fullmatch(entry.name)]
    except FileNotFoundError:
        return
    for day in days:
        try:
            for entry in day.iterdir():
                yield day.name, entry.name
        except (FileNotFoundError, NotADirectoryError):
            continue


def lines_in(
    path: Path, compression: Compression, start: int = 0, end: int | None = None
) -> Iterator[list[bytes]]:
    """Yield the whole lines of a file, without newlines, some at a time.

    Args:
        path: the file; it may be renamed or removed meanwhile.
        compression: of the file.
        start: beginning of a line, where it is plain.
        end: how far it is read; None for all of it.

    Raises:
        BrokenFrame: after everything that stands before a damaged frame.
        OSError: it cannot be read.
    """
    carry = [b""]
    with path.open("rb") as file:
        for block in read_frames(file, compression, start, end):
            first, *lines = block.split(b"\n")
            carry.append(first)
            if lines:
                yield [b"".join(carry), *lines[:-1]]
                carry = [lines[-1]]
