"""Decides what a day of a feed holds at one instant, while a connector compresses it."""

from __future__ import annotations

import contextlib
import io
import os
import re
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING

from ssmd_sink_file.frames.compress import Compression
from ssmd_sink_file.lines.layout import DAY, Kind, Layout
from ssmd_sink_file.local.pieces import (
    Piece,
    close_pieces,
    files_lying,
    open_pieces,
)
from ssmd_sink_file.reading.archived import RawBytes

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

__all__ = ["FileBytes", "Snapshot", "day_names", "feeds_in", "is_day"]

_ORDER = (Kind.COVERAGE, Kind.LIVE, Kind.REST)
_NAME = re.compile(
    r"([a-z0-9][a-z0-9_-]*)(?:\.rest|\.coverage)?\.jsonl(?:\.zst|\.gz|\.\d{1,15}\.closing)?"
)


def is_day(name: str) -> bool:
    """Say whether a name is a day, ``YYYY-MM-DD``."""
    try:
        return DAY.fullmatch(name) is not None and date.fromisoformat(name).isoformat() == name
    except ValueError:
        return False


def day_names(root: Path) -> Iterator[str]:
    """Yield the days that have a directory, in any order."""
    with os.scandir(root) as entries:
        yield from (entry.name for entry in entries if is_day(entry.name) and entry.is_dir())


def feeds_in(root: Path, day: str) -> set[str]:
    """Return the feeds that have files on a day. Foreign names are passed over."""
    found: set[str] = set()
    # What is removed while we look is not there.
    with contextlib.suppress(FileNotFoundError), os.scandir(root / day) as entries:
        for entry in entries:
            name = _NAME.fullmatch(entry.name)
            if name is not None and entry.is_file():
                found.add(name[1])
    return found


class FileBytes(RawBytes):
    """A descriptor of our own, read at a position of its own, up to an end."""

    def __init__(self, fd: int, end: int | None = None) -> None:
        self._fd = fd
        self._end = end
        self._position = 0

    @classmethod
    def open(cls, path: Path) -> FileBytes:
        """Open a file. Raises OSError."""
        return cls(os.open(path, os.O_RDONLY))

    def readinto(self, buffer: WriteableBuffer, /) -> int:
        """Read on."""
        view = memoryview(buffer).cast("B")
        limit = len(view) if self._end is None else min(len(view), self._end - self._position)
        data = os.pread(self._fd, max(0, limit), self._position)
        view[: len(data)] = data
        self._position += len(data)
        return len(data)

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        """Go elsewhere, from the beginning or from here."""
        self._position = offset if whence == io.SEEK_SET else self._position + offset
        return self._position

    def close(self) -> None:
        """Close the descriptor, once."""
        if not self.closed:
            os.close(self._fd)
        super().close()


class Snapshot:
    """The files of a day, held open: what becomes of their names takes nothing away."""

    def __init__(self, root: Path, feed: str, day: str) -> None:
        """Raises OSError."""
        self.files: list[tuple[Kind, str]] = []
        """Names relative to the root: of each stream, in order of what they hold."""
        self._held: dict[str, Piece] = {}
        layout = Layout(feed)
        for kind in _ORDER:
            names = self._hold(root, layout, day, kind)
            stray = _stray(root, layout, day, kind, names)
            self.files += [(kind, name) for name in (*stray, *names)]

    def read(self, name: str, *, whole: bool) -> FileBytes | None:
        """Return the bytes of a file, None for one that is not held open.

        Args:
            name: relative to the root.
            whole: as it lies, copies of what stands in other files included.
        """
        held = self._held.get(name)
        return None if held is None else FileBytes(os.dup(held.fd), None if whole else held.end)

    def close(self) -> None:
        """Let go of the files."""
        close_pieces(self._held.values())
        self._held.clear()

    def _hold(self, root: Path, layout: Layout, day: str, kind: Kind) -> list[str]:
        try:
            pieces = open_pieces(root, layout, day, kind)
        except OSError:  # it is listed all the same: reading it says why
            return files_lying(root, layout, day, kind)
        held = {f"{day}/{piece.path.name}": piece for piece in pieces}
        self._held |= held
        return list(held)


def _stray(root: Path, layout: Layout, day: str, kind: Kind, names: list[str]) -> list[str]:
    """Return what is compressed in another form: never by us, who keep to one a day."""
    if names[:1] != [layout.packed(day, kind, Compression.ZSTD)]:
        return []
    other = layout.packed(day, kind, Compression.GZIP)
    return [other] if (root / other).is_file() else []
