"""Decides which file takes a line, and when a file takes no more."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

from ssmd_core.errors import StorageFailed
from ssmd_sink_file.disk.files import Identity, describe
from ssmd_sink_file.disk.segments import Segment
from ssmd_sink_file.lines.layout import Kind, Layout
from ssmd_sink_file.lines.writer import Part

__all__ = ["OpenFiles"]


class OpenFiles:
    """The plain files of an archive that are appended to, one a stream.

    Readers ask ``readable`` in a thread; the rest belongs to the task that appends.
    """

    def __init__(
        self,
        root: Path,
        layout: Layout,
        *,
        may_open: Callable[[], None],
        on_torn: Callable[[Path, int], None],
        on_day: Callable[[Kind, str, str], None],
    ) -> None:
        """``may_open`` may raise OSError.

        ``on_day`` is told of every file that became the current one: stream, last day that
        the stream had before, day of the file.
        """
        self.current: dict[Kind, Segment] = {}
        self.latest: dict[Kind, str] = {}
        """The last day of each stream."""
        self.retired: list[Segment] = []
        """Appended to no more, and not yet synced and closed."""
        self._root = root
        self._layout = layout
        self._may_open = may_open
        self._on_torn = on_torn
        self._on_day = on_day
        self._opening: dict[Kind, Segment] = {}
        self._faults: dict[Kind, str] = {}

    @property
    def fault(self) -> str:
        """Why the last append to a stream failed; empty where each succeeded."""
        return next(iter(self._faults.values()), "")

    def append(self, kind: Kind, parts: Iterable[Part]) -> None:
        """Append to the files of some days, whole or not at all.

        Raises:
            StorageFailed: nothing was kept.
        """
        done: list[tuple[Segment, int]] = []
        for part in parts:
            current = self.current.get(kind)
            is_current = current is not None and current.day == part.day
            segment = current if current is not None and is_current else self._next(kind, part.day)
            try:
                done.append((segment, segment.append(part.data)))
            except OSError as error:
                for earlier, offset in done:
                    earlier.cut_back(offset)
                fault = f"cannot append to {segment.path}: {describe(error)}"
                self._faults[kind] = fault
                raise StorageFailed(fault) from error
            if not is_current:
                self._turn(kind, segment)
        self._faults.pop(kind, None)

    def retire(self, kind: Kind) -> None:
        """Append no more to the current file of a stream."""
        # In this order: a reader meets it twice rather than not at all.
        self.retired.append(self.current[kind])
        del self.current[kind]

    def readable(self, identity: Identity) -> int | None:
        """Say how far a file may be read; None for one that is not open here."""
        for segment in self._all():
            if segment.identity == identity:
                return segment.size
        return None

    def is_held(self, file: str) -> bool:
        """Say whether a file is open, or a part that it became."""
        parts = f"{file}."
        return any(s.name == file or s.name.startswith(parts) for s in self._all())

    def close(self) -> None:
        """Close every file. What was not synced may not be durable."""
        for segment in self._all():
            segment.close()
        self.retired.clear()
        self.current.clear()
        self._opening.clear()

    def _next(self, kind: Kind, day: str) -> Segment:
        # Not current before its first append succeeded, but kept until then: it
        # remembers what a failed write may have left.
        opening = self._opening.get(kind)
        if opening is None or opening.day != day:
            if opening is not None:
                opening.close()
            opening = self._opening[kind] = Segment(
                self._root,
                self._layout.file(day, kind),
                self._layout.torn(day),
                before_open=self._may_open,
                on_torn=self._on_torn,
            )
        return opening

    def _turn(self, kind: Kind, segment: Segment) -> None:
        """Make ``segment`` the current one."""
        if kind in self.current:
            self.retire(kind)
        former_day = self.latest.get(kind, segment.day)
        self._on_day(kind, former_day, segment.day)
        self.current[kind] = segment
        self._opening.pop(kind, None)
        self.latest[kind] = max(former_day, segment.day)

    def _all(self) -> list[Segment]:
        # A copy, because readers ask in a thread; in the order in which they move on, so
        # that one that moves meanwhile is met once or twice.
        return [*self._opening.values(), *self.current.values(), *self.retired]
