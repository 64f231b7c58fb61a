"""Decides what a day of a feed holds at one instant, while a connector compresses it."""

from __future__ import annotations

import contextlib
import io
import os
import re
from collections.abc import Iterable, Iterator
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from ssmd_sink_file.disk.files import Identity, identity_of
from ssmd_sink_file.lines.layout import DAY, Kind
from ssmd_sink_file.reading.archived import RawBytes

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

__all__ = ["FileBytes", "Piece", "Snapshot", "day_names", "is_day", "pieces_of"]

_TRIES = 10
_EVER = 1 << 62
_NAME = re.compile(
    r"([a-z0-9][a-z0-9_-]*)((?:\.rest|\.coverage)?\.jsonl)(?:(\.zst|\.gz)|\.(\d{1,15})\.closing)?"
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


class Piece(NamedTuple):
    """A file of a day, as its name tells."""

    kind: Kind
    is_packed: bool
    closing_bytes: int | None
    """Of a part that moves into the compressed file: how large that was before."""
    name: str


def pieces_of(root: Path, day: str) -> dict[str, dict[Piece, Identity]]:
    """Return the files of a day, by feed, and which they are. Foreign names are passed over."""
    found: dict[str, dict[Piece, Identity]] = {}
    # What is removed while we look is not there.
    with contextlib.suppress(FileNotFoundError), os.scandir(root / day) as entries:
        for entry in entries:
            name = _NAME.fullmatch(entry.name)
            with contextlib.suppress(FileNotFoundError):
                if name is not None and entry.is_file():
                    closing = None if name[4] is None else int(name[4])
                    piece = Piece(Kind(name[2]), name[3] is not None, closing, f"{day}/{name[0]}")
                    found.setdefault(name[1], {})[piece] = identity_of(entry.stat())
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

    def again(self, end: int | None) -> FileBytes:
        """Open the same file anew, whatever its name is now."""
        return FileBytes(os.dup(self._fd), end)

    def size(self) -> int:
        """Return how large the file is now."""
        return os.fstat(self._fd).st_size

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
    """The files of a day, held open.

    Frames move from the plain file to the closing part and on into the compressed file.
    Held together, each frame stands in one of them: the parts stay readable when their
    names are gone, and the compressed file is read as far as it went before them.
    """

    def __init__(self, root: Path, feed: str, day: str) -> None:
        """Raises OSError."""
        self.pieces: list[Piece] = []
        self._open: dict[str, FileBytes] = {}
        self._ends: dict[str, int] = {}
        before = pieces_of(root, day).get(feed, {})
        for _ in range(_TRIES):
            self._hold(root, before)
            after = pieces_of(root, day).get(feed, {})
            if before == after:
                break
            # A part began or ceased to move while we looked.
            before = after

    def read(self, name: str, *, whole: bool) -> FileBytes | None:
        """Return the bytes of a file, None for one that is not held open.

        Args:
            name: relative to the root.
            whole: as it lies, copies of what stands in other files included.
        """
        held = self._open.get(name)
        return None if held is None else held.again(None if whole else self._ends.get(name))

    def close(self) -> None:
        """Let go of the files."""
        for file in self._open.values():
            file.close()
        self._open.clear()

    def _hold(self, root: Path, pieces: dict[Piece, Identity]) -> None:
        self.close()
        self.pieces = sorted(pieces, key=_order)
        # Against the direction in which frames move: one that has moved meanwhile is met
        # twice, which the second look tells, and none is missed. A file that cannot be opened
        # is listed all the same: reading it says why.
        for piece in reversed(self.pieces):
            with contextlib.suppress(OSError):
                self._open[piece.name] = FileBytes.open(root / piece.name)
        self._ends = {
            piece.name: min(self._open[piece.name].size(), _end_of(piece.kind, pieces))
            for piece in self.pieces
            if piece.is_packed and piece.name in self._open
        }


def _end_of(kind: Kind, pieces: Iterable[Piece]) -> int:
    """Return how far the compressed file goes before the part that moves into it now."""
    sizes = (piece.closing_bytes for piece in pieces if piece.kind is kind)
    return max((size for size in sizes if size is not None), default=_EVER)


def _order(piece: Piece) -> tuple[str, bool, bool, int, str]:
    closing = piece.closing_bytes
    return (piece.kind.name, not piece.is_packed, closing is None, closing or 0, piece.name)
