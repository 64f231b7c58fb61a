"""Decides whether finished files still hold what their ``rotated`` lines say."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from ssmd_core.audit.events import Event
from ssmd_core.audit.findings import Finding, Kind, counted
from ssmd_core.audit.scope import Scope
from ssmd_core.clock import day_of
from ssmd_core.errors import StorageFailed
from ssmd_core.sink.archive import Archive, ArchiveFile, Digest

__all__ = ["Rotations"]

_DAY = re.compile(r"\d{4}-\d\d-\d\d")
_PACKED = (".zst", ".gz")


class _Rotated(NamedTuple):
    ts: int
    said: Digest


class Rotations:
    """The last word of the ledger on each finished file."""

    def __init__(self, archive: Archive, feed: str) -> None:
        self._archive = archive
        self._feed = feed
        self._said: dict[str, _Rotated] = {}
        self._expired: set[str] = set()

    def take(self, event: Event) -> None:
        """Take a line; only ``rotated`` and ``expired`` matter here."""
        if event.word == "expired":
            self._expired.add(event.text("day"))
        lines, size = event.number("lines"), event.number("bytes")
        file, sha256 = event.text("file"), event.text("sha256")
        if event.word == "rotated" and file and lines is not None and size is not None:
            self._said[file] = _Rotated(event.ts, Digest(lines, size, sha256))

    def check(self, scope: Scope) -> Iterator[Finding]:
        """Compare the files of the days that are judged."""
        days, kept = scope.days, self._archive.days(self._feed)
        lying = {file.name: file for day in days for file in self._archive.files(self._feed, day)}
        for name, rotated in self._said.items():
            packed = next((lying[name + end] for end in _PACKED if name + end in lying), None)
            if name in lying:
                yield from self._compare(lying[name], rotated.said)
            elif packed is not None:
                yield from self._compare_packed(packed, rotated.said)
            elif (found := _DAY.search(name)) and _is_asked(found[0], scope, kept):
                yield self._gone(name, found[0], rotated, first=kept[0])

    def _gone(self, name: str, day: str, rotated: _Rotated, *, first: str) -> Finding:
        """Say what it means that a file is not here: days end with the oldest first."""
        text = f"{name} is gone, with {counted(rotated.said.lines, 'line')}"
        if day in self._expired:
            kind, explained = Kind.FILE_EXPIRED, True
            text += "; retention removed its day"
        elif day < first:
            kind, explained = Kind.FILE_EXPIRED, True
            text += "; nothing of its day is here"
        else:
            kind, explained = Kind.FILE_MISSING, False
        return self._finding(kind, day_of(rotated.ts), text, explained=explained)

    def _compare(self, file: ArchiveFile, said: Digest) -> Iterator[Finding]:
        try:
            held = self._archive.digest(file)
        except StorageFailed as error:
            yield self._finding(Kind.UNREADABLE, file.day, str(error), explained=False)
            return
        if held != said:
            yield self._finding(
                Kind.DIGEST_DIFFERS,
                file.day,
                f"{file.name} holds {_shown(held)}; when it was finished it held {_shown(said)}",
                explained=False,
            )

    def _compare_packed(self, file: ArchiveFile, said: Digest) -> Iterator[Finding]:
        """Of a file that was compressed since, only the lines can be compared."""
        try:
            lines = self._archive.digest(file).lines
        except StorageFailed as error:
            yield self._finding(Kind.UNREADABLE, file.day, str(error), explained=False)
            return
        if lines != said.lines:
            text = f"{file.name} holds {counted(lines, 'line')}; "
            text += f"before it was compressed {said.lines:,}"
            yield self._finding(Kind.DIGEST_DIFFERS, file.day, text, explained=False)

    def _finding(self, kind: Kind, day: str, text: str, *, explained: bool) -> Finding:
        return Finding(kind=kind, explained=explained, day=day, feed=self._feed, text=text)


def _is_asked(day: str, scope: Scope, kept: Sequence[str]) -> bool:
    """Say whether a file of a day should lie there, or its whole day does not."""
    return day in scope.days or (scope.before is None and day not in kept)


def _shown(digest: Digest) -> str:
    return f"{counted(digest.lines, 'line')}, {digest.bytes:,} bytes, sha256 {digest.sha256[:12]}…"
