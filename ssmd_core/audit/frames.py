"""Decides, frame by frame, what is in order, whose it is, and what its sequence says."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from ssmd_core.audit.events import DAY_NS, day_start
from ssmd_core.audit.findings import Finding, Findings, Kind, counted
from ssmd_core.audit.ledger import damaged
from ssmd_core.audit.parsers import Parser
from ssmd_core.audit.refetched import Refetched
from ssmd_core.audit.sequences import Confirmed, HoleFound, Recount
from ssmd_core.audit.sessions import Session, SessionBook
from ssmd_core.clock import day_of, iso
from ssmd_core.errors import StorageFailed
from ssmd_core.feed import Parsed
from ssmd_core.feed.reading import read_fetched, read_frames
from ssmd_core.records import Batch, Stream
from ssmd_core.sink.archive import Archive, ArchiveFile, Content, Damaged

__all__ = ["FrameReader", "Watcher"]


_TOGETHER = 256


class Watcher(Protocol):
    """Is told of all that a plugin could read: what would be published."""

    def on_frames(self, batch: Batch, parsed: list[Parsed], session: Session | None) -> None:
        """Take a batch and what its frames say."""
        ...


@dataclass(slots=True)
class _Stray:
    """Frames of one connection, one after the other, that belong to no session."""

    from_ts: int
    to_ts: int
    frames: int


class FrameReader:
    """Reads the frames of one feed day by day, in their order, once."""

    def __init__(
        self,
        archive: Archive,
        feed: str,
        book: SessionBook,
        parser_of: Callable[[str], Parser],
        watcher: Watcher | None,
    ) -> None:
        self._archive = archive
        self._feed = feed
        self._book = book
        self._parser_of = parser_of
        self._watcher = watcher
        self.refetched = Refetched(feed)
        """Knows what was fetched; wants to be told of the ledger."""
        self._last_ts: dict[str, int] = {}
        """By content; an enum as the key would cost as much as all the rest of a step."""
        self._recounts: dict[str, Recount] = {}
        self._stray: dict[int, _Stray] = {}
        self._waiting: list[Batch] = []
        self._waiting_frames = 0
        self._waiting_of: Session | None = None
        self.unread: dict[str, str] = {}
        """Session → why its sequences are not checked."""

    def read(self, day: str, upto: int, findings: Findings) -> Mapping[Content, int]:
        """Read the frames of a day; return how many each content holds."""
        counts = {Content.LIVE: 0, Content.REST: 0}
        for file in self._archive.files(self._feed, day):
            if file.content is Content.LEDGER:
                continue
            count = 0
            try:
                for batch in self._batches(file, upto, findings):
                    count += len(batch.frames)
                    self._take(batch, file, findings)
            except StorageFailed as error:
                self._tell(findings, file, Kind.UNREADABLE, str(error))
            counts[file.content] += count
        self._parse_waiting(findings)
        for conn in list(self._stray):
            self._end_stray(conn, day, findings)
        return counts

    def read_fetched(self, day: str, upto: int) -> None:
        """Read only what was fetched on a day that is not judged."""
        for file in self._archive.files(self._feed, day):
            if file.content is Content.REST:
                with contextlib.suppress(StorageFailed):
                    for batch in self._archive.frames(file):
                        if isinstance(batch, Batch) and batch.first_ts <= upto:
                            self._read_pages(batch)

    def take_holes(self) -> list[HoleFound]:
        """Return the holes that were found since the last call."""
        return [hole for recount in self._recounts.values() for hole in recount.take_holes()]

    def take_confirmed(self) -> list[Confirmed]:
        """Return the confirmations of channels that were met since the last call."""
        return [each for recount in self._recounts.values() for each in recount.take_confirmed()]

    def take_counts(self) -> Mapping[str, int]:
        """Return frames by channel since the last call."""
        counts: dict[str, int] = {}
        for recount in self._recounts.values():
            for channel, count in recount.take_counts().items():
                counts[channel] = counts.get(channel, 0) + count
        return counts

    def forget(self, session: Session) -> None:
        """Take note that no frame of a session follows."""
        self._recounts.pop(session.id, None)
        self.unread.pop(session.id, None)

    # ── between ──────────────────────────────────────────────────────────────────

    def _batches(self, file: ArchiveFile, upto: int, findings: Findings) -> Iterator[Batch]:
        start = day_start(file.day)
        end = start + DAY_NS
        content = file.content.value
        last_ts = self._last_ts.get(content, 0)
        for batch in self._archive.frames(file):
            if isinstance(batch, Damaged):
                findings.add(damaged(batch, file))
                continue
            first_ts = batch.first_ts
            batch_last = first_ts + len(batch.frames) - 1
            if first_ts > upto:
                return
            if first_ts <= last_ts:
                text = f"{file.name}: a frame of {iso(first_ts)} behind one of {iso(last_ts)}"
                self._tell(findings, file, Kind.OUT_OF_ORDER, text, first_ts)
            last_ts = max(last_ts, batch_last)
            if first_ts < start or batch_last >= end:
                text = f"{file.name}: a frame of {iso(first_ts)} stands in another day's file"
                self._tell(findings, file, Kind.WRONG_DAY, text, first_ts)
            self._last_ts[content] = last_ts
            yield batch

    def _take(self, batch: Batch, file: ArchiveFile, findings: Findings) -> None:
        if batch.stream is Stream.REST or file.content is Content.REST:
            self._take_fetched(batch, findings)
            return
        session = self._book.at(batch.conn, batch.first_ts)
        if session is None:
            self._add_stray(batch)
            return
        if batch.conn in self._stray:
            self._end_stray(batch.conn, file.day, findings)
        session.lines += len(batch.frames)
        session.last_ts = batch.last_ts
        if session is not self._waiting_of:
            self._parse_waiting(findings)
            self._waiting_of = session
        self._waiting.append(batch)
        self._waiting_frames += len(batch.frames)
        if self._waiting_frames >= _TOGETHER:
            self._parse_waiting(findings)

    def _parse_waiting(self, findings: Findings) -> None:
        """Parse several batches of a session in one call: most hold one frame or two."""
        session, batches = self._waiting_of, self._waiting
        self._waiting, self._waiting_frames = [], 0
        recount = self._recount(session) if session is not None and batches else None
        if recount is None:
            return
        frames = [data for batch in batches for data in batch.frames]
        binary = _raw(batches)
        parsed, raw = read_frames(recount.feed, frames, binary, recount)
        start = 0
        for batch in batches:
            said = parsed[start : start + len(batch.frames)]
            start += len(said)
            recount.follow(batch, said)
            if self._watcher is not None:
                self._watcher.on_frames(batch, said, session)
        if len(raw) > len(binary):
            times = [ts for batch in batches for ts in range(batch.first_ts, batch.last_ts + 1)]
            self._tell_not_json(findings, [times[place] for place in sorted(raw - binary)])

    def _take_fetched(self, batch: Batch, findings: Findings) -> None:
        session, parsed, raw = self._read_pages(batch)
        if parsed and self._watcher is not None:
            self._watcher.on_frames(batch, parsed, session)
        if not_json := sorted(raw - batch.raw):
            self._tell_not_json(findings, [batch.first_ts + place for place in not_json])

    def _read_pages(self, batch: Batch) -> tuple[Session | None, list[Parsed], frozenset[int]]:
        """Read what was fetched: whose it is, what it says if a plugin can tell, what is raw."""
        session = self._book.before(batch.first_ts)
        feed = self._parser_of(session.plugin if session else "").feed
        parsed, raw = read_fetched(feed, batch.frames) if feed is not None else ([], batch.raw)
        for place in range(len(batch.frames)):
            records = len(parsed[place].records) if parsed else None
            self.refetched.take_page(batch.first_ts + place, records)
        return session, parsed, raw

    def _recount(self, session: Session) -> Recount | None:
        recount = self._recounts.get(session.id)
        if recount is None and session.id not in self.unread:
            parser = self._parser_of(session.plugin)
            if parser.feed is None:
                self.unread[session.id] = parser.why_not
            else:
                recount = self._recounts[session.id] = Recount(parser.feed, session)
        return recount

    def _add_stray(self, batch: Batch) -> None:
        stray = self._stray.setdefault(batch.conn, _Stray(batch.first_ts, 0, 0))
        stray.to_ts = batch.last_ts
        stray.frames += len(batch.frames)

    def _end_stray(self, conn: int, day: str, findings: Findings) -> None:
        stray = self._stray.pop(conn)
        findings.add(
            Finding(
                kind=Kind.OUTSIDE_SESSION,
                explained=False,
                day=day,
                feed=self._feed,
                text=f"{counted(stray.frames, 'frame')} of connection {conn} in no session",
                conn=conn,
                from_ts=stray.from_ts,
                to_ts=stray.to_ts,
            )
        )

    def _tell_not_json(self, findings: Findings, times: Sequence[int]) -> None:
        for ts in times:
            findings.add(
                Finding(
                    kind=Kind.NOT_JSON,
                    explained=False,
                    day=day_of(ts),
                    feed=self._feed,
                    text=f"the frame of {iso(ts)} is not JSON, and does not stand as `raw`",
                    from_ts=ts,
                    to_ts=ts,
                )
            )

    def _tell(
        self, findings: Findings, file: ArchiveFile, kind: Kind, text: str, ts: int | None = None
    ) -> None:
        findings.add(
            Finding(
                kind=kind,
                explained=False,
                day=file.day,
                feed=self._feed,
                text=text,
                from_ts=ts,
                to_ts=ts,
            )
        )


def _raw(batches: Sequence[Batch]) -> frozenset[int]:
    """Return the positions of raw frames among those of all batches."""
    raw: list[int] = []
    start = 0
    for batch in batches:
        if batch.raw:
            raw += [start + position for position in batch.raw]
        start += len(batch.frames)
    return frozenset(raw)
