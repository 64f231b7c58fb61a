"""Decides what one line of the coverage ledger says."""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import msgspec

from ssmd_core.clock import NS

__all__ = ["DAY_NS", "Event", "day_start", "read_event", "read_time"]

DAY_NS = 86_400 * NS
_TIME = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)\.(\d{9})\+00:00")


@dataclass(frozen=True, slots=True)
class Event:
    """One line. Fields of another version, or of another type than asked for, are absent."""

    ts: int
    word: str
    session: str | None
    conn: int | None
    fields: Mapping[str, Any]

    def text(self, name: str) -> str:
        """Return a text, empty where there is none."""
        value = self.fields.get(name)
        return value if isinstance(value, str) else ""

    def number(self, name: str) -> int | None:
        """Return a whole number."""
        value = self.fields.get(name)
        return value if type(value) is int else None

    def time(self, name: str) -> int | None:
        """Return a receipt time in nanoseconds."""
        return read_time(self.text(name))

    def table(self, name: str) -> Mapping[str, Any]:
        """Return an object, empty where there is none."""
        value = self.fields.get(name)
        return value if isinstance(value, dict) else {}


def read_event(ts: int, line: bytes) -> Event | None:
    """Read a line whose ``ts`` is known; None for one that is no event."""
    try:
        fields = msgspec.json.decode(line)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return None
    if not isinstance(fields, dict) or not isinstance(fields.get("event"), str):
        return None
    session, conn = fields.get("session"), fields.get("conn")
    return Event(
        ts,
        fields["event"],
        session if isinstance(session, str) else None,
        conn if type(conn) is int else None,
        fields,
    )


def read_time(text: str) -> int | None:
    """Return nanoseconds of a time as the archive writes it, None for anything else."""
    match = _TIME.fullmatch(text)
    if match is None:
        return None
    second = _second(match[1])
    return None if second is None else second * NS + int(match[2])


def day_start(day: str) -> int:
    """Return the first nanosecond of a day, ``YYYY-MM-DD``."""
    return int(datetime.fromisoformat(day).replace(tzinfo=UTC).timestamp()) * NS


@functools.lru_cache(maxsize=16)
def _second(text: str) -> int | None:
    try:
        return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp())
    except ValueError:
        return None
