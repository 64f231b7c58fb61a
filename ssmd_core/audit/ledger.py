"""Decides what the ledger of a day says, and whether it is in order itself."""

from __future__ import annotations

from ssmd_core.audit.events import Event, read_event
from ssmd_core.audit.findings import Finding, Findings, Kind
from ssmd_core.clock import day_of, iso
from ssmd_core.sink.archive import Archive, ArchiveFile, Content, Damaged

__all__ = ["LedgerReader", "damaged"]


class LedgerReader:
    """Reads the ledger of one feed day by day, in their order.

    Holds the lines of one day: some hundred bytes for each reconnect, gap or repair.
    """

    def __init__(self, archive: Archive, feed: str, upto: int) -> None:
        self._archive = archive
        self._feed = feed
        self._upto = upto
        self._last_ts = 0

    def read(self, day: str, findings: Findings) -> list[Event]:
        """Return the lines of a day; what is wrong with them goes to ``findings``."""
        events: list[Event] = []
        for file in self._archive.files(self._feed, day):
            if file.content is Content.LEDGER:
                self._read_file(file, events, findings)
        return events

    def _read_file(self, file: ArchiveFile, events: list[Event], findings: Findings) -> None:
        for number, note in enumerate(self._archive.notes(file), 1):
            if isinstance(note, Damaged):
                findings.add(damaged(note, file))
                continue
            ts, line = note
            if ts > self._upto:
                return
            event = read_event(ts, line)
            if event is None:
                bad = Damaged(file.name, number, 1, "it is no event")
                findings.add(damaged(bad, file))
                continue
            if ts <= self._last_ts:
                text = f"{file.name}: a line of {iso(ts)} stands behind one of {iso(self._last_ts)}"
                findings.add(_of_line(file, Kind.OUT_OF_ORDER, ts, text))
            if day_of(ts) != file.day:
                text = f"{file.name}: a line of {iso(ts)} stands in another day's file"
                findings.add(_of_line(file, Kind.WRONG_DAY, ts, text))
            self._last_ts = max(self._last_ts, ts)
            events.append(event)


def damaged(found: Damaged, file: ArchiveFile) -> Finding:
    """Return the finding of lines that are not ours, torn or unreadable."""
    lines = f"line {found.line}" if found.lines == 1 else f"{found.lines} lines from {found.line}"
    return Finding(
        kind=Kind.DAMAGED,
        explained=False,
        day=file.day,
        feed=file.feed,
        text=f"{found.file}: {lines}: {found.what}",
    )


def _of_line(file: ArchiveFile, kind: Kind, ts: int, text: str) -> Finding:
    return Finding(
        kind=kind, explained=False, day=file.day, feed=file.feed, text=text, from_ts=ts, to_ts=ts
    )
