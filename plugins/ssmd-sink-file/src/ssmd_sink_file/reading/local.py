"""Decides what of a directory is an archive, and which of its files may still grow."""

from __future__ import annotations

import fcntl
import io
import os
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

from ssmd_core.clock import day_of
from ssmd_core.errors import StorageFailed
from ssmd_core.sink.archive import ArchiveFile, Content
from ssmd_sink_file.disk.files import describe
from ssmd_sink_file.lines.layout import Kind, Layout
from ssmd_sink_file.reading.archived import ArchivedFiles
from ssmd_sink_file.reading.snapshot import FileBytes, Snapshot, day_names, feeds_in, is_day

__all__ = ["LocalArchive", "open_local"]

_BLOCK_BYTES = 256 * 1024
_HELD_DAYS = 8
_CONTENTS = {Kind.LIVE: Content.LIVE, Kind.REST: Content.REST, Kind.COVERAGE: Content.LEDGER}


def open_local(path: str) -> LocalArchive:
    """Open the archive in a directory, or one of its day directories alone.

    Raises:
        StorageFailed: there is none.
    """
    root = Path(path).absolute()
    try:
        alone = not any(day_names(root)) and is_day(root.name)
        archive = LocalArchive(root.parent, root.name) if alone else LocalArchive(root)
        if archive.feeds():
            return archive
        what = "nothing of the kind is in it"
    except OSError as error:
        what = describe(error)
    msg = (
        f"no archive at {path}: {what}; expected a directory with days such as 2026-11-22 that "
        "hold {feed}.jsonl files, one such day, or a URL such as s3://bucket/prefix"
    )
    raise StorageFailed(msg)


class LocalArchive(ArchivedFiles):
    """Day directories on local disk. Makes nothing, so a read-only copy will do."""

    def __init__(
        self, root: Path, day: str | None = None, *, wall_ns: Callable[[], int] = time.time_ns
    ) -> None:
        """``day`` is the only one to be shown; None: all of them."""
        self._root = root
        self._only_day = day
        self._wall_ns = wall_ns
        self._held: dict[tuple[str, str], Snapshot] = {}

    @property
    def place(self) -> str:
        """Path of the root, or of the only day."""
        return str(self._root / (self._only_day or ""))

    def feeds(self) -> Sequence[str]:
        """Return the feeds that have files here, in alphabetical order."""
        with self._telling("the names"):
            return sorted({feed for day in self._days() for feed in feeds_in(self._root, day)})

    def days(self, feed: str) -> Sequence[str]:
        """Return the days (``YYYY-MM-DD``, UTC) of a feed, oldest first."""
        with self._telling("the names"):
            return sorted(day for day in self._days() if feed in feeds_in(self._root, day))

    def files(self, feed: str, day: str) -> Sequence[ArchiveFile]:
        """Return the files of a day: of each content, in order of what stands in them.

        Those of the days asked for last are held open: a connector that compresses them
        meanwhile takes nothing away from what they hold, and tells nothing of it twice.
        """
        with self._telling(day):
            is_growing = self._is_growing(feed, day)
            self._release(feed, day)
            while len(self._held) >= _HELD_DAYS:
                self._release(*next(iter(self._held)))
            held = self._held[feed, day] = Snapshot(self._root, feed, day)
            return [
                ArchiveFile(
                    name=name,
                    feed=feed,
                    day=day,
                    content=_CONTENTS[kind],
                    is_open=is_growing,
                )
                for kind, name in held.files
            ]

    def torn_bytes(self, feed: str, day: str) -> int:
        """Return how many bytes of partial lines were set aside on a day."""
        name = Layout(feed).torn(day)
        with self._telling(name):
            try:
                raw = FileBytes.open(self._root / name)
            except FileNotFoundError:
                return 0
            with io.BufferedReader(raw, _BLOCK_BYTES) as torn:
                # Each is a line of its own there: the newline was added.
                return sum(len(line.removesuffix(b"\n")) for line in torn)

    def load(self, feed: str, name: str) -> bytes | None:
        """Return a value kept beside the archive, such as ``connector``, if there is one."""
        hidden = Layout(feed).beside(name)
        with self._telling(hidden):
            try:
                return (self._root / hidden).read_bytes()
            except FileNotFoundError:
                return None

    def is_live(self, feed: str) -> bool | None:
        """Say whether a living process holds the lock of a feed; None where it is not ours to ask.

        A copy has no lock, or one that nobody holds.
        """
        return _is_held(self._root / Layout(feed).beside("lock"))

    def close(self) -> None:
        """Let go of the files that are held open."""
        for feed, day in list(self._held):
            self._release(feed, day)

    def _open(self, file: ArchiveFile, *, whole: bool = False) -> BinaryIO:
        held = self._held.get((file.feed, file.day))
        raw = None if held is None else held.read(file.name, whole=whole)
        return io.BufferedReader(raw or FileBytes.open(self._root / file.name), _BLOCK_BYTES)

    def _explain(self, error: Exception) -> str | None:
        return describe(error) if isinstance(error, OSError) else None

    def _days(self) -> Iterator[str]:
        return day_names(self._root) if self._only_day is None else iter([self._only_day])

    def _is_growing(self, feed: str, day: str) -> bool:
        """Say whether a connector may append to the files of a day."""
        if day >= day_of(self._wall_ns()):
            return True
        if not _is_held(self._root / Layout(feed).beside("lock")):
            return False
        later = (name for name in day_names(self._root) if name > day)
        return not any(feed in feeds_in(self._root, name) for name in later)

    def _release(self, feed: str, day: str) -> None:
        held = self._held.pop((feed, day), None)
        if held is not None:
            held.close()


def _is_held(lock: Path) -> bool | None:
    """Say whether a living process holds a lock. One that starts now waits a moment for us."""
    try:
        fd = os.open(lock, os.O_RDONLY)
    except FileNotFoundError:
        return False
    except OSError:
        return None
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return None
    finally:
        os.close(fd)
    return False
