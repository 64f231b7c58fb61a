"""Decides what the content of a stream on a day is: compressed, then closing, then plain."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

from ssmd_sink_file.disk.files import Identity, identity_of
from ssmd_sink_file.frames.compress import Compression
from ssmd_sink_file.lines.layout import Kind, Layout

__all__ = [
    "PACKED_KINDS",
    "Lying",
    "Piece",
    "close_pieces",
    "files_lying",
    "look",
    "open_pieces",
]

PACKED_KINDS = (Kind.LIVE, Kind.REST)
"""The ledger stays plain."""
_FORMS = (Compression.ZSTD, Compression.GZIP)


class Lying(NamedTuple):
    """Which files of a stream lie in a day directory."""

    packed: Compression = Compression.NONE
    """Form of the compressed file; NONE where there is none."""
    closings: tuple[int, ...] = ()
    """Parts on their way into it, by the size that it had before."""
    tail: bool = False
    """The plain file that is appended to."""

    def __bool__(self) -> bool:
        return self.tail or bool(self.closings) or self.packed is not Compression.NONE


def _lying_in(names: Iterable[str], layout: Layout, kind: Kind) -> Lying:
    """Tell the files of a stream from the names in a day directory."""
    bare = f"{layout.feed}{kind.value}"
    found = set(names)
    if kind not in PACKED_KINDS:
        return Lying(tail=bare in found)
    sizes = (layout.closing_bytes(name, kind) for name in found)
    return Lying(
        packed=next((form for form in _FORMS if bare + form.suffix in found), Compression.NONE),
        closings=tuple(sorted(size for size in sizes if size is not None)),
        tail=bare in found,
    )


def look(root: Path, layout: Layout, day: str, kind: Kind) -> Lying:
    """Return which files of a stream lie in a day directory; nothing where that is missing."""
    try:
        with os.scandir(root / day) as entries:
            names = [entry.name for entry in entries if entry.is_file()]
    except (FileNotFoundError, NotADirectoryError):
        return Lying()
    return _lying_in(names, layout, kind)


def files_lying(root: Path, layout: Layout, day: str, kind: Kind) -> list[str]:
    """Return the files of a stream and day in the order of what they hold."""
    lying = look(root, layout, day, kind)
    closings = [layout.closing(day, kind, size) for size in lying.closings]
    has_packed = lying.packed is not Compression.NONE
    packed = [layout.packed(day, kind, lying.packed)] if has_packed else []
    return [*packed, *closings, *([layout.file(day, kind)] if lying.tail else [])]


@dataclass(frozen=True, slots=True)
class Piece:
    """A file that is part of a day's content, open for reading."""

    path: Path
    fd: int
    identity: Identity
    compression: Compression
    end: int | None
    """How far it is read; None for a plain one, which may grow."""

    def stands(self) -> bool:
        """Say whether the name still leads to this file."""
        try:
            return identity_of(self.path.stat()) == self.identity
        except OSError:
            return False


def open_pieces(root: Path, layout: Layout, day: str, kind: Kind) -> list[Piece]:
    """Open the files of a day's content in order, as they lay at one instant.

    A part may be closing meanwhile: looks again until nothing moved between the first look
    and the last. Whoever reads through these descriptors then meets each line once,
    whatever becomes of the names.

    Raises:
        OSError: a file is there and cannot be opened.
    """
    while True:
        lying = look(root, layout, day, kind)
        pieces: list[Piece] = []
        try:
            pieces.extend(_open_each(root, layout, day, kind, lying))
            if _unmoved(pieces, lying) and look(root, layout, day, kind) == lying:
                return pieces
        except FileNotFoundError:
            pass
        except BaseException:
            close_pieces(pieces)
            raise
        close_pieces(pieces)


def close_pieces(pieces: Iterable[Piece]) -> None:
    """Close what ``open_pieces`` opened."""
    for piece in pieces:
        os.close(piece.fd)


def _open_each(root: Path, layout: Layout, day: str, kind: Kind, lying: Lying) -> Iterable[Piece]:
    if lying.packed is not Compression.NONE:
        piece = _open(root / layout.packed(day, kind, lying.packed), lying.packed)
        if lying.closings and piece.end is not None:
            # What stands beyond is a copy, in the making, of the part that is closing.
            piece = replace(piece, end=min(piece.end, lying.closings[-1]))
        yield piece
    for size in lying.closings:
        yield _open(root / layout.closing(day, kind, size))
    if lying.tail:
        yield _open(root / layout.file(day, kind))


def _open(path: Path, compression: Compression = Compression.NONE) -> Piece:
    fd = os.open(path, os.O_RDONLY)
    status = os.fstat(fd)
    end = None if compression is Compression.NONE else status.st_size
    return Piece(path, fd, identity_of(status), compression, end)


def _unmoved(pieces: list[Piece], lying: Lying) -> bool:
    # A compressed file grows while a part is closing: one may have come and gone since.
    return all(
        piece.stands()
        and (piece.end is None or lying.closings or os.fstat(piece.fd).st_size == piece.end)
        for piece in pieces
    )
