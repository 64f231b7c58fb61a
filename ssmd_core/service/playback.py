"""Decides which frames of an archive are read again, in which order, and whose they were."""

from __future__ import annotations

import heapq
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import msgspec

from ssmd_core.errors import UsageError
from ssmd_core.records import Batch
from ssmd_core.service.interval import EVER, Interval
from ssmd_core.sink.archive import Archive, ArchiveFile, Content, Damaged

__all__ = ["Passage", "Playback"]

_FRAMES_CONTENT = (Content.LIVE, Content.REST)


class Passage(NamedTuple):
    """Frames to be read again."""

    batch: Batch
    connector: str
    """Who received them: their message ids were made with it."""


class _Opened(msgspec.Struct):
    """What is wanted of a ledger line."""

    connector: str | None = None


class Playback:
    """The frames of one feed and interval, live and fetched ones, in order of ``ts``.

    All of it blocks: call it in a thread.
    """

    def __init__(self, archive: Archive, feed: str, interval: Interval = EVER) -> None:
        """Look which days there are; read nothing.

        Raises:
            UsageError: the archive has nothing of the feed, or nothing in the interval.
            StorageFailed: the archive cannot be read.
        """
        self._archive = archive
        self._feed = feed
        self._interval = interval
        self._days = archive.days(feed)
        self._played = [day for day in self._days if interval.meets(day)]
        self.damaged_lines = 0
        """Lines met so far that could not be read."""
        if not self._days:
            held = ", ".join(archive.feeds()) or "none"
            raise UsageError(
                f"{archive.place} holds no frames of {feed}; feeds that it has: {held}"
            )
        if not self._played:
            span = f"{self._days[0]} to {self._days[-1]}"
            raise UsageError(f"{archive.place} has {feed} from {span}, nothing between the times")

    def passages(self) -> Iterator[Passage]:
        """Yield the frames.

        Raises:
            UsageError: nobody says whose they were.
            StorageFailed: the archive cannot be read.
        """
        connector = ""
        for day in self._played:
            files = self._archive.files(self._feed, day)
            openings = list(self._openings(files))
            for batch in self._batches(files):
                place = bisect_right(openings, batch.first_ts, key=lambda opening: opening[0])
                if place:
                    connector = openings[place - 1][1]
                connector = connector or self._connector_before(day)
                yield Passage(batch, connector)
            if openings:
                connector = openings[-1][1]

    def _batches(self, files: Sequence[ArchiveFile]) -> Iterator[Batch]:
        """Yield the batches of a day. Those of different streams never interleave."""
        streams = [
            self._stream([file for file in files if file.content is content])
            for content in _FRAMES_CONTENT
        ]
        return heapq.merge(*streams, key=lambda batch: batch.first_ts)

    def _stream(self, files: Sequence[ArchiveFile]) -> Iterator[Batch]:
        for file in files:
            for found in self._archive.frames(file):
                if isinstance(found, Damaged):
                    self.damaged_lines += found.lines
                elif (batch := _cut(found, self._interval)) is not None:
                    yield batch

    # ── whose they were ──────────────────────────────────────────────────────────

    def _openings(self, files: Sequence[ArchiveFile]) -> Iterator[tuple[int, str]]:
        """Yield from when on which connector wrote, as the ledger says, where it changes."""
        last = ""
        for file in files:
            if file.content is not Content.LEDGER:
                continue
            for note in self._archive.notes(file):
                if isinstance(note, Damaged):
                    continue
                connector = _connector_of(note[1])
                if connector and connector != last:
                    last = connector
                    yield note[0], connector

    def _connector_before(self, day: str) -> str:
        """Return who wrote when a day began: the last one named, else who is kept beside."""
        for earlier in reversed([other for other in self._days if other < day]):
            openings = list(self._openings(self._archive.files(self._feed, earlier)))
            if openings:
                return openings[-1][1]
        kept = self._archive.load(self._feed, "connector")
        if kept is not None and (name := kept.decode(errors="replace").strip()):
            return name
        raise UsageError(
            f"{self._archive.place} does not say which connector received {self._feed} on {day}: "
            "no line of the ledger names it, and it is not kept beside the archive; without it "
            "the message ids would differ from those of the live run"
        )


def _connector_of(line: bytes) -> str:
    try:
        return msgspec.json.decode(line, type=_Opened).connector or ""
    except msgspec.DecodeError:
        return ""


def _cut(batch: Batch, interval: Interval) -> Batch | None:
    """Return what of a batch lies in an interval."""
    if batch.first_ts in interval and batch.last_ts in interval:
        return batch
    start = max(0, interval.from_ts - batch.first_ts)
    end = min(len(batch.frames), interval.to_ts - batch.first_ts)
    if start >= end:
        return None
    return Batch(
        batch.first_ts + start,
        batch.frames[start:end],
        batch.conn,
        frozenset(index - start for index in batch.raw if start <= index < end),
        batch.stream,
    )
