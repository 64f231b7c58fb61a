"""Decides where a start goes on: what a crash left is mended, the last receipt time found."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from ssmd_core.errors import StorageUnusable
from ssmd_sink_file.disk.files import describe
from ssmd_sink_file.disk.tail import lines_from_end, repair_tail
from ssmd_sink_file.frames.compress import Compression
from ssmd_sink_file.frames.index import packed_from_end
from ssmd_sink_file.lines.layout import DAY, Kind, Layout
from ssmd_sink_file.lines.ledger import ledger_ts
from ssmd_sink_file.lines.parser import LineParser
from ssmd_sink_file.local.mending import Settled, Told, settle
from ssmd_sink_file.local.packing import Place
from ssmd_sink_file.local.pieces import PACKED_KINDS, Piece, close_pieces, look, open_pieces

__all__ = ["Recovered", "days", "recover"]

_MENDED_DAYS = 2
"""A crash tears what was open: files of the last day, and around midnight of the one before."""
_SETTLED_DAYS = 8
"""A part that could not be closed for a week is closed by hand."""
_LOOK_BACK_BYTES = 64 * 1024 * 1024
"""So far from the end of a file its last undamaged line is looked for."""
_REFUSED = frozenset({errno.EACCES, errno.EPERM, errno.EROFS})


@dataclass(frozen=True, slots=True)
class Recovered:
    """What a start found."""

    last_ts: int = 0
    latest: dict[Kind, str] = field(default_factory=dict)
    """The last day of each stream."""
    settled: dict[Place, Settled] = field(default_factory=dict)
    """The compressed files of the last days."""
    closing: list[Place] = field(default_factory=list)
    """Where a part is on its way, as far as it came."""
    days: list[str] = field(default_factory=list)
    """All days, in order."""


def days(root: Path, layout: Layout, *kinds: Kind) -> list[str]:
    """Return the days, in order, that have a file of one of the streams."""
    return sorted(
        entry.name
        for entry in root.iterdir()
        if DAY.fullmatch(entry.name) and any(look(root, layout, entry.name, kind) for kind in kinds)
    )


def recover(
    root: Path,
    layout: Layout,
    *,
    on_torn: Callable[[Path, int], None],
    warn: Callable[[str], None],
    on_damaged: Callable[[str], None] | None = None,
) -> Recovered:
    """Mend the tails of the last days and find the last receipt time of the archive.

    Args:
        root: of the archive.
        layout: of the feed.
        on_torn: is told of each partial line set aside.
        warn: is told of what cannot be mended now.
        on_damaged: is told of what else was set aside; by default ``warn`` is.

    Raises:
        StorageUnusable: a file that has to be mended may not be written to.
    """
    found = days(root, layout, *Kind)
    latest: dict[Kind, str] = {}
    for day in reversed(found):
        for kind in Kind:
            if kind not in latest and look(root, layout, day, kind):
                latest[kind] = day
    settled, closing = _settle(root, layout, found, Told(on_torn, on_damaged or warn))
    for day in found[-_MENDED_DAYS:]:
        for kind in Kind:
            _mend(root / layout.file(day, kind), root / layout.torn(day), on_torn, warn)
    parser = LineParser(layout.feed)
    for day in reversed(found):
        last_ts = max(_last_ts(root, layout, day, kind, parser) for kind in Kind)
        if last_ts:
            return Recovered(last_ts, latest, settled, closing, found)
    return Recovered(0, latest, settled, closing, found)


def _settle(
    root: Path, layout: Layout, found: list[str], told: Told
) -> tuple[dict[Place, Settled], list[Place]]:
    """Mend the compressed files that a crash may have left in the middle of something."""
    settled: dict[Place, Settled] = {}
    closing: list[Place] = []
    for day in found[-_SETTLED_DAYS:]:
        for kind in PACKED_KINDS:
            lying = look(root, layout, day, kind)
            is_recent = lying.packed is not Compression.NONE and day in found[-_MENDED_DAYS:]
            if not (lying.closings or is_recent):
                continue
            if lying.closings:
                closing.append((day, kind))
            try:
                settled[day, kind] = settle(root, layout, day, kind, told)
            except OSError as error:
                path = root / layout.packed(day, kind, lying.packed)
                if error.errno in _REFUSED:
                    raise _unwritable(path, error) from error
                told.damaged(f"cannot mend {path} now: {describe(error)}")
    return settled, closing


def _mend(
    path: Path, torn: Path, on_torn: Callable[[Path, int], None], warn: Callable[[str], None]
) -> None:
    try:
        fd = os.open(path, os.O_RDWR)
    except FileNotFoundError:
        return
    except OSError as error:
        raise _unwritable(path, error) from error
    try:
        _, torn_bytes = repair_tail(fd, os.fstat(fd).st_size, torn)
    except OSError as error:
        if error.errno in _REFUSED:
            raise _unwritable(path, error) from error
        # Opening the file for its first append mends it again, so nothing is glued to it.
        warn(f"cannot mend the end of {path} now: {describe(error)}")
        return
    finally:
        os.close(fd)
    if torn_bytes:
        on_torn(path, torn_bytes)


def _unwritable(path: Path, error: OSError) -> StorageUnusable:
    msg = (
        f"cannot go on with {path}: {describe(error)}; "
        f"let uid {os.geteuid()} write to it, or move it away"
    )
    return StorageUnusable(msg)


def _last_ts(root: Path, layout: Layout, day: str, kind: Kind, parser: LineParser) -> int:
    read_ts = ledger_ts if kind is Kind.COVERAGE else parser.whole_ts
    try:
        pieces = open_pieces(root, layout, day, kind)
    except OSError:
        return 0
    try:
        for piece in reversed(pieces):
            for line in _lines_from_end(piece):
                ts = read_ts(line)
                if ts is not None:
                    return ts
    except OSError:
        return 0
    finally:
        close_pieces(pieces)
    return 0


def _lines_from_end(piece: Piece) -> Iterator[bytes]:
    if piece.end is None:
        return lines_from_end(piece.fd, os.fstat(piece.fd).st_size, _LOOK_BACK_BYTES)
    return packed_from_end(piece.fd, piece.compression, piece.end, _LOOK_BACK_BYTES)
