"""Decides what differs between the messages of an archive and those that a bus holds.

Both come in the order of their receipt times, so equals are never far apart: what has
no counterpart within a window is a difference. So memory is bounded, however long both are.
What is stored further behind its place is out of order, and its payload is not compared.
"""

from __future__ import annotations

import enum
from collections import Counter, OrderedDict
from typing import NamedTuple

from ssmd_core.sink import Message
from ssmd_core.sink.bus import StoredMessage

__all__ = ["Difference", "Matcher", "What"]

_WINDOW = 100_000
_MAX_SUBJECTS = 200_000
_MAX_SHOWN = 20
_MAX_MISSED = 1_000_000
"""Ids remembered of what was missing: some 75 MB."""


class What(enum.Enum):
    """How two sides differ; the value is the word for people."""

    MISSING = "missing"
    """Archived, and not on the bus."""
    EXTRA = "extra"
    """On the bus, and not archived."""
    SUBJECT = "subject"
    """On the bus under another subject."""
    SCHEMA = "schema"
    """Written in another schema: payloads cannot be compared."""
    PAYLOAD = "payload"
    """The same id with other bytes."""
    ORDER = "order"
    """Stored before what is older on its subject."""
    TWICE = "twice"
    """Stored more than once."""


class Difference(NamedTuple):
    """One difference."""

    what: What
    msg_id: str
    ts: int
    subject: str
    detail: str = ""


class _Archived(NamedTuple):
    """A message of the archive that waits for its counterpart."""

    number: int
    kind: str
    subject: str
    message: Message


class Matcher:
    """Takes both sides as they come: for each stored message all archived ones up to it first."""

    def __init__(self, *, window: int = _WINDOW) -> None:
        self._window = window
        self._archived: OrderedDict[str, _Archived] = OrderedDict()
        self._stored: OrderedDict[str, StoredMessage] = OrderedDict()
        self._matched: OrderedDict[str, None] = OrderedDict()
        self._latest: OrderedDict[str, int] = OrderedDict()
        """Of each subject the number of the message stored last."""
        self._missed: set[int] = set()
        """Hashes: numbers take a third of the memory of the ids themselves."""
        self._number = 0
        self.counts: dict[str, Counter[str]] = {}
        """For each kind: ``archived``, ``stored``, ``same``, and the words of ``What``."""
        self.differences = 0
        self.shown: list[Difference] = []
        """The first differences."""

    def take_archived(self, message: Message, subject: str) -> None:
        """Take the next message of the archive. One that it has twice counts once."""
        if message.msg_id in self._matched or message.msg_id in self._archived:
            return
        self._number += 1
        self._count(message.kind, "archived")
        archived = _Archived(self._number, message.kind, subject, message)
        stored = self._stored.pop(message.msg_id, None)
        if stored is not None:
            # Stored under the earlier time of another connector: its place says nothing.
            self._match(archived, stored, ordered=False)
            return
        self._archived[message.msg_id] = archived
        if len(self._archived) > self._window:
            self._miss(self._archived.popitem(last=False)[1])

    def take_stored(self, message: StoredMessage) -> None:
        """Take the next message of the bus."""
        kind = _kind_of(message)
        self._count(kind, "stored")
        archived = self._archived.pop(message.msg_id, None)
        if archived is not None:
            self._match(archived, message, ordered=True)
        elif message.msg_id in self._matched or message.msg_id in self._stored:
            self._differ(kind, Difference(What.TWICE, message.msg_id, message.ts, message.subject))
        else:
            self._stored[message.msg_id] = message
            if len(self._stored) > self._window:
                self._add_extra(self._stored.popitem(last=False)[1])

    def close(self) -> None:
        """Take what is left over for missing and extra."""
        while self._archived:
            self._miss(self._archived.popitem(last=False)[1])
        while self._stored:
            self._add_extra(self._stored.popitem(last=False)[1])

    # ── between ──────────────────────────────────────────────────────────────────

    def _match(self, archived: _Archived, stored: StoredMessage, *, ordered: bool) -> None:
        self._matched[stored.msg_id] = None
        if len(self._matched) > self._window:
            self._matched.popitem(last=False)
        found = list(_compare(archived, stored))
        if ordered and not self._in_order(archived):
            found.append((What.ORDER, "stored after a message that is younger"))
        for what, detail in found:
            place = Difference(what, stored.msg_id, archived.message.ts, stored.subject, detail)
            self._differ(archived.kind, place)
        if not found:
            self._count(archived.kind, "same")

    def _in_order(self, archived: _Archived) -> bool:
        latest = self._latest.pop(archived.subject, 0)
        self._latest[archived.subject] = max(latest, archived.number)
        if len(self._latest) > _MAX_SUBJECTS:
            self._latest.popitem(last=False)
        return archived.number > latest

    def _miss(self, archived: _Archived) -> None:
        message = archived.message
        if len(self._missed) < _MAX_MISSED:
            self._missed.add(hash(message.msg_id))
        self._differ(
            archived.kind, Difference(What.MISSING, message.msg_id, message.ts, archived.subject)
        )

    def _add_extra(self, stored: StoredMessage) -> None:
        kind = _kind_of(stored)
        if hash(stored.msg_id) not in self._missed:
            place = Difference(What.EXTRA, stored.msg_id, stored.ts, stored.subject)
            self._differ(kind, place)
            return
        self._missed.discard(hash(stored.msg_id))
        self._take_back(kind, stored.msg_id)
        detail = "stored far behind what is younger; its payload was not compared"
        self._differ(kind, Difference(What.ORDER, stored.msg_id, stored.ts, stored.subject, detail))

    def _take_back(self, kind: str, msg_id: str) -> None:
        """Miss a message no longer."""
        self.differences -= 1
        self._count(kind, What.MISSING.value, -1)
        missing = What.MISSING, msg_id
        self.shown = [found for found in self.shown if found[:2] != missing]

    def _differ(self, kind: str, difference: Difference) -> None:
        self.differences += 1
        self._count(kind, difference.what.value)
        if len(self.shown) < _MAX_SHOWN:
            self.shown.append(difference)

    def _count(self, kind: str, what: str, by: int = 1) -> None:
        self.counts.setdefault(kind, Counter())[what] += by


def _kind_of(message: StoredMessage) -> str:
    # Neither an environment nor a feed has a dot in its name.
    tokens = message.subject.split(".", 3)
    return tokens[2] if len(tokens) > 2 else message.subject  # noqa: PLR2004  env, feed, kind


def _compare(archived: _Archived, stored: StoredMessage) -> list[tuple[What, str]]:
    message = archived.message
    found: list[tuple[What, str]] = []
    if stored.subject != archived.subject:
        found.append((What.SUBJECT, f"archived for {archived.subject}"))
    if stored.schema != message.schema:
        found.append((What.SCHEMA, f"{stored.schema or 'none'} stored, {message.schema} asked for"))
    elif stored.payload != message.payload:
        found.append((What.PAYLOAD, _first_byte(stored.payload, message.payload)))
    return found


def _first_byte(stored: bytes, archived: bytes) -> str:
    if len(stored) != len(archived):
        return f"{len(stored)} bytes stored, {len(archived)} archived"
    place = next(i for i, (a, b) in enumerate(zip(stored, archived, strict=True)) if a != b)
    return f"differs from byte {place} on"
