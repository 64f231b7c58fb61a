"""Decides which open part takes a line, and when a part takes no more."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from ssmd_core.clock import NS
from ssmd_sink_file.disk.segments import Segment
from ssmd_sink_file.lines.layout import Kind
from ssmd_sink_file.lines.writer import Part
from ssmd_sink_file.objects.parts import Closed, Span
from ssmd_sink_file.objects.spool import OpenName, Spool

__all__ = ["OpenPart", "OpenParts", "Refused"]

_DAY_NS = 86_400 * NS


class Refused(Exception):
    """Nothing of what was to be appended was kept."""

    def __init__(self, path: Path, error: OSError) -> None:
        self.path = path
        self.error = error
        super().__init__(path, error)


class OpenPart:
    """A part that is appended to: a plain file for each kind of line."""

    __slots__ = (
        "bytes",
        "day",
        "first_live_ts",
        "frames",
        "last_live_ts",
        "number",
        "segments",
        "since",
    )

    def __init__(self, day: str, number: int, since: float) -> None:
        """``since`` is when it was begun, monotonic seconds."""
        self.day = day
        self.number = number
        self.since = since
        self.segments: dict[Kind, Segment] = {}
        self.bytes = 0
        self.frames = 0
        """How many live frames it holds."""
        self.first_live_ts = self.last_live_ts = 0

    @property
    def live(self) -> Span | None:
        """Its live frames, None where there are none."""
        if not self.frames:
            return None
        return Span(self.frames, self.first_live_ts, self.last_live_ts)

    def note(self, kind: Kind, first_ts: int, count: int, size: int) -> None:
        """Take note of frames or lines that were appended."""
        self.bytes += size
        if kind is Kind.LIVE:
            self.frames += count
            self.first_live_ts = self.first_live_ts or first_ts
            self.last_live_ts = first_ts + count - 1

    def forget_live(self) -> None:
        """Take note that the live frames so far are gone."""
        self.frames = self.first_live_ts = self.last_live_ts = 0

    def close(self) -> None:
        """Close the descriptors."""
        for segment in self.segments.values():
            segment.close()

    def closed(self) -> Closed:
        """Return what is known of it once nothing is appended any more."""
        sizes = {kind: item.size for kind, item in self.segments.items()}
        return Closed(self.day, self.number, sizes, self.live)


class OpenParts:
    """The open part of each day; more than one only around midnight and after a full disk."""

    def __init__(
        self,
        spool: Spool,
        part_bytes: int,
        *,
        before_open: Callable[[], None],
        on_torn: Callable[[Path, int], None],
        monotonic: Callable[[], float],
    ) -> None:
        """``before_open`` may raise OSError."""
        self._spool = spool
        self._part_bytes = part_bytes
        self._before_open = before_open
        self._on_torn = on_torn
        self._monotonic = monotonic
        self._by_day: dict[str, OpenPart] = {}
        self.retired: list[OpenPart] = []
        """Parts that take no more, oldest first, until whoever syncs hands them on."""
        self.last_number = 0
        """The number of the last part begun."""

    def append(self, kind: Kind, lines: list[Part], first_ts: int, count: int = 1) -> None:
        """Append the lines of one batch, ``count`` of them, whole or not at all.

        Raises:
            Refused: nothing was kept.
        """
        done: list[tuple[OpenPart, Segment, int]] = []
        starts, end_ts = [first_ts], first_ts + count
        for entry in lines:
            part = self._by_day.get(entry.day) or self._begin(entry.day, starts[-1])
            segment = part.segments.get(kind) or self._add(part, kind)
            try:
                done.append((part, segment, segment.append(entry.data)))
            except OSError as error:
                for _, kept, offset in done:
                    kept.cut_back(offset)
                raise Refused(segment.path, error) from error
            starts.append((starts[-1] // _DAY_NS + 1) * _DAY_NS)  # the other side of midnight
        starts[-1] = end_ts
        for place, (part, *_) in enumerate(done):
            begin, until = starts[place : place + 2]
            part.note(kind, begin, until - begin, len(lines[place].data))
        if part.bytes >= self._part_bytes or len(self._by_day) > 1:
            self._retire(part)

    def live(self, day: str) -> OpenPart | None:
        """Return the part that the next live frame of a day goes to, if there is one."""
        return self._by_day.get(day)

    def close_older(self, seconds: float) -> None:
        """Close what was begun so long ago; 0 closes all."""
        now = self._monotonic()
        for part in list(self._by_day.values()):
            if seconds and not part.bytes:
                part.since = now  # what could not be written yet would only leave empty files
            elif now - part.since >= seconds:
                self._close(part)

    def all(self) -> Iterator[OpenPart]:
        """Yield the parts whose files are open, oldest first."""
        yield from list(self.retired)
        yield from list(self._by_day.values())

    @property
    def bytes(self) -> int:
        """Size of what is open."""
        return sum(part.bytes for part in self.all())

    def readable(self, name: OpenName) -> int | None:
        """Return how far a file holds whole appends; None where nothing is known of it."""
        for part in self.all():
            if (part.day, part.number) == (name.day, name.number):
                segment = part.segments.get(name.kind)
                return 0 if segment is None else segment.size
        return None

    def _begin(self, day: str, first_ts: int) -> OpenPart:
        number = self.last_number = max(first_ts, self.last_number + 1)
        part = self._by_day[day] = OpenPart(day, number, self._monotonic())
        return part

    def _add(self, part: OpenPart, kind: Kind) -> Segment:
        segment = part.segments[kind] = Segment(
            self._spool.base,
            OpenName(part.day, part.number, kind).file,
            self._spool.torn(part.day),
            before_open=self._before_open,
            on_torn=self._on_torn,
        )
        return segment

    def _retire(self, part: OpenPart) -> None:
        """Close what is full, and the days before one that has begun."""
        newest = max(self._by_day)
        for open_part in list(self._by_day.values()):
            is_full = open_part.bytes >= self._part_bytes
            if is_full or (part.day == newest and open_part.day < newest):
                self._close(open_part)

    def _close(self, part: OpenPart) -> None:
        # In this order, so that a reader in a thread finds it in one place or in both.
        self.retired.append(part)
        del self._by_day[part.day]

    def forget(self) -> None:
        """Close all descriptors and hold nothing any more."""
        for part in self.all():
            part.close()
        self.retired.clear()
        self._by_day.clear()
