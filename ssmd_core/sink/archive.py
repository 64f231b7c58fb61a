"""What an archive is to those who read it afterwards: days, files, frames and ledger lines."""

from __future__ import annotations

import enum
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import NamedTuple, Self

from ssmd_core.records import Batch

__all__ = ["Archive", "ArchiveFile", "Content", "Damaged", "Digest"]


class Content(enum.Enum):
    """What stands in a file."""

    LIVE = "live"
    REST = "rest"
    LEDGER = "ledger"


@dataclass(frozen=True, slots=True, kw_only=True)
class ArchiveFile:
    """One file of one feed and day. Files of a day and content are listed in order."""

    name: str
    """Relative to the root, ``/`` between folders: the name that ``rotated`` lines use."""
    feed: str
    day: str
    content: Content
    is_open: bool = False
    """A connector may still append to it."""


class Damaged(NamedTuple):
    """Lines that are not ours, or are torn or unreadable, at one place of a file."""

    file: str
    line: int
    """Number of the first of them, from 1."""
    lines: int
    what: str


class Digest(NamedTuple):
    """What a file holds: the measure of ``rotated`` lines."""

    lines: int
    bytes: int
    """Of the file as it lies."""
    sha256: str
    """Of the file as it lies, hex."""


class Archive(ABC):
    """An archive opened for reading, by anyone, without a lock, while a connector writes.

    All calls block: call them in a thread where a loop turns. Every method raises
    ``StorageFailed`` for what is there and cannot be read.
    """

    @property
    @abstractmethod
    def place(self) -> str:
        """Path or URL, without credentials."""

    @abstractmethod
    def feeds(self) -> Sequence[str]:
        """Return the feeds that have files here, in alphabetical order."""

    @abstractmethod
    def days(self, feed: str) -> Sequence[str]:
        """Return the days (``YYYY-MM-DD``, UTC) of a feed, oldest first."""

    @abstractmethod
    def files(self, feed: str, day: str) -> Sequence[ArchiveFile]:
        """Return the files of a day: of each content, in order of what stands in them."""

    @abstractmethod
    def frames(self, file: ArchiveFile) -> Iterator[Batch | Damaged]:
        """Yield the frames of a LIVE or REST file in the order in which they stand.

        A run of lines 1 ns apart of one connection is one batch. The last line of an open
        file is left out while it has no newline.
        """

    @abstractmethod
    def notes(self, file: ArchiveFile) -> Iterator[tuple[int, bytes] | Damaged]:
        """Yield ``ts`` and line of a LEDGER file in the order in which they stand."""

    @abstractmethod
    def digest(self, file: ArchiveFile) -> Digest:
        """Return what a file holds now."""

    @abstractmethod
    def torn_bytes(self, feed: str, day: str) -> int:
        """Return how many bytes of partial lines were set aside on a day."""

    @abstractmethod
    def load(self, feed: str, name: str) -> bytes | None:
        """Return a value kept beside the archive, such as ``connector``, if there is one."""

    def is_live(self, feed: str) -> bool | None:  # noqa: ARG002  for those who can tell
        """Say whether a connector is at work on a feed now; None where nobody can tell."""
        return None

    def close(self) -> None:
        """Let go of what is held."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
