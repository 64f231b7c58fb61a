"""What an archive holds: whole lines of data, and when each became visible."""

from __future__ import annotations

import array
import bisect
import time
from pathlib import Path

__all__ = ["await_lines", "find_file", "line_ends", "visible_ns"]

_POLL_SECONDS = 0.002
_REST_SECONDS = 0.2
_PIECE_BYTES = 1 << 24
_HEAD_BYTES = 1 << 14
_REPLY = b'"type":"subscribed"'
_SPACED_REPLY = b'"type": "subscribed"'


def find_file(archive: Path, seconds: float = 20.0) -> Path:
    """Wait for the file of frames and return it.

    Raises:
        TimeoutError: there is none in time.
    """
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if found := sorted(archive.glob("*/kalshi.jsonl")):
            return found[-1]
        time.sleep(_POLL_SECONDS)
    raise TimeoutError(f"{archive}: no kalshi.jsonl after {seconds:g} s")


def await_lines(archive: Path, lines: int, quiet_seconds: float) -> tuple[int, int]:
    """Wait until the archive has so many data lines, or stops growing.

    Returns how many it has, and when it last grew in Unix nanoseconds. Lines are counted only
    while the file rests, so that counting takes nothing from the contender.
    """
    count, size = _LineCount(archive), 0
    grown_ns, rest_seconds = time.time_ns(), _REST_SECONDS
    while True:
        now_ns, found = time.time_ns(), _size(archive)
        if found != size:
            size, grown_ns, rest_seconds = found, now_ns, _REST_SECONDS
        elif now_ns - grown_ns >= rest_seconds * 1e9:
            counted = count.go_on()
            if counted >= lines or now_ns - grown_ns >= quiet_seconds * 1e9:
                return counted, grown_ns
            rest_seconds += _REST_SECONDS
        time.sleep(_POLL_SECONDS)


class _LineCount:
    """Counts data lines, going on where it left off. The venue's replies stand at the start."""

    def __init__(self, archive: Path) -> None:
        self._archive = archive
        self._offsets: dict[Path, int] = {}
        self._lines = 0

    def go_on(self) -> int:
        """Count what is new, and return how many data lines there are in all."""
        replies = 0
        for path in sorted(self._archive.glob("*/kalshi.jsonl")):
            with path.open("rb") as file:
                replies += sum(map(_is_reply, file.read(_HEAD_BYTES).splitlines()))
                file.seek(self._offsets.get(path, 0))
                while piece := file.read(_PIECE_BYTES):
                    self._lines += piece.count(b"\n")
                self._offsets[path] = file.tell()
        return self._lines - replies


def line_ends(archive: Path) -> list[int]:
    """Return where each data line ends in the file, the venue's replies left out."""
    ends, position = [], 0
    for path in sorted(archive.glob("*/kalshi.jsonl")):
        with path.open("rb") as file:
            for line in file:
                position += len(line)
                if line.endswith(b"\n") and not _is_reply(line):
                    ends.append(position)
    return ends


def visible_ns(
    ends: list[int], grown_bytes: array.array[int], grown_ns: array.array[int]
) -> list[int]:
    """Return for each line when the file was first seen long enough to hold it."""
    times = []
    for end in ends:
        place = bisect.bisect_left(grown_bytes, end)
        if place == len(grown_bytes):
            break
        times.append(grown_ns[place])
    return times


def _size(archive: Path) -> int:
    return sum(path.stat().st_size for path in archive.glob("*/kalshi.jsonl"))


def _is_reply(line: bytes) -> bool:
    return _REPLY in line[:200] or _SPACED_REPLY in line[:200]
