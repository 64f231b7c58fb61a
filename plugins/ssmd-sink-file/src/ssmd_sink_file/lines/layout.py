"""Decides where a frame stands: names of files, form of a line, and the way back from one."""

from __future__ import annotations

import binascii
import enum
import functools
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import NamedTuple

import msgspec

from ssmd_core.clock import NS, day_of, iso
from ssmd_core.records import Batch
from ssmd_sink_file.frames.compress import Compression

__all__ = [
    "DAY",
    "Kind",
    "Layout",
    "LedgerParser",
    "Line",
    "LineParser",
    "LineWriter",
    "Note",
    "Part",
    "ledger_ts",
    "one_line",
    "unix_second",
]

DAY = re.compile(r"\d{4}-\d\d-\d\d")
"""What a day directory is called; anything else in the archive is not ours."""

_DAY_NS = 86_400 * NS
_END = b"}\n"
_THREE_DIGITS = [b"%03d" % number for number in range(1000)]
_TS = rb"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)\.(\d{9})\+00:00"
_TS_ONLY = re.compile(_TS)
_LEDGER_HEAD = re.compile(rb'\{"ts":"%b"' % _TS)


class Kind(enum.Enum):
    """A stream of the archive; the value ends its file name."""

    LIVE = ".jsonl"
    REST = ".rest.jsonl"
    COVERAGE = ".coverage.jsonl"


@dataclass(frozen=True, slots=True)
class Layout:
    """Names relative to the root of the archive. Feed names hold no dot and no slash."""

    feed: str

    def file(self, day: str, kind: Kind) -> str:
        """Return the file of a stream on a day."""
        return f"{day}/{self.feed}{kind.value}"

    def packed(self, day: str, kind: Kind, compression: Compression) -> str:
        """Return the compressed file of a stream on a day."""
        return self.file(day, kind) + compression.suffix

    def closing(self, day: str, kind: Kind, packed_bytes: int) -> str:
        """Return what a part is called while it moves into the compressed file.

        The name says how large that was before: what stands beyond is a copy of this part.
        """
        return f"{self.file(day, kind)}.{packed_bytes}.closing"

    def closing_bytes(self, name: str, kind: Kind) -> int | None:
        """Return the size that the bare name of a closing part says, None for any other name."""
        begin, end = f"{self.feed}{kind.value}.", ".closing"
        size = name.removeprefix(begin).removesuffix(end)
        is_ours = name == f"{begin}{size}{end}" and size.isascii() and size.isdigit()
        return int(size) if is_ours else None

    def torn(self, day: str) -> str:
        """Return where partial lines of a day are kept."""
        return f"{day}/{self.feed}.torn"

    def beside(self, name: str) -> str:
        """Return the hidden file of the feed called ``name``, such as ``lock``."""
        return f".{self.feed}.{name}"


# ── writing ──────────────────────────────────────────────────────────────────────


class Part(NamedTuple):
    """The lines of a batch that belong to one day."""

    day: str
    data: bytes


def one_line(frame: bytes) -> bytes:
    """Return a JSON text on one line: CR and LF stand only between tokens, as spaces would."""
    return frame.replace(b"\r", b" ").replace(b"\n", b" ")


class LineWriter:
    """Writes batches as lines. Remembers the text of the current second and day."""

    def __init__(self, feed: str) -> None:
        self._middle = b'+00:00","feed":"%b",' % feed.encode()
        self._second = -1
        self._second_text = b""
        self._day_number = -1
        self._day = ""

    def parts(self, batch: Batch) -> list[Part]:
        """Return the lines of a batch, split where its receipt times cross midnight (UTC)."""
        first, count = batch.first_ts, len(batch.frames)
        left_today = _DAY_NS - first % _DAY_NS
        if count <= left_today:
            return [Part(self._day_of(first), self._lines(first, batch.frames, batch))]
        # Frames are 1 ns apart, so a batch meets one midnight at most.
        today, tomorrow = batch.frames[:left_today], batch.frames[left_today:]
        midnight = first + left_today
        return [
            Part(self._day_of(first), self._lines(first, today, batch)),
            Part(self._day_of(midnight), self._lines(midnight, tomorrow, batch)),
        ]

    def _lines(self, first: int, frames: list[bytes], batch: Batch) -> bytes:
        middle = b'%b"conn":%d,' % (self._middle, batch.conn) if batch.conn else self._middle
        if len(frames) > 1 and not batch.raw:
            return self._verbatim(first, frames, middle + b'"data":')
        return b"".join(
            [
                self._line(ts, middle, frame, raw=ts - batch.first_ts in batch.raw)
                for ts, frame in enumerate(frames, first)
            ]
        )

    def _line(self, ts: int, middle: bytes, frame: bytes, *, raw: bool) -> bytes:
        second, nanos = divmod(ts, NS)
        begin = self._begin(second)
        if raw:
            return b'%b%09d%b"raw":"%b"}\n' % (begin, nanos, middle, _base64(frame))
        return b'%b%09d%b"data":%b}\n' % (begin, nanos, middle, one_line(frame))

    def _verbatim(self, first: int, frames: list[bytes], middle: bytes) -> bytes:
        # The hot path. Frames of one microsecond differ in three digits only, so four
        # slices and one join write a line in some 0.05 µs; formatting takes 0.2.
        text = b"".join(frames)
        if b"\n" in text or b"\r" in text:
            frames = [one_line(frame) for frame in frames]
        pieces: list[bytes] = []
        written, count = 0, len(frames)
        while written < count:
            micros, nanos = divmod(first + written, 1000)
            run = frames[written : written + 1000 - nanos]
            second, rest = divmod(micros, 1_000_000)
            head = b"%b%06d" % (self._begin(second), rest)
            lines = [_END + head, b"", middle, b""] * len(run)
            lines[1::4] = _THREE_DIGITS[nanos : nanos + len(run)]
            lines[3::4] = run
            if not pieces:
                lines[0] = head
            pieces += lines
            written += len(run)
        pieces.append(_END)
        return b"".join(pieces)

    def _begin(self, second: int) -> bytes:
        if second != self._second:
            self._second = second
            self._second_text = b'{"ts":"%b.' % iso(second * NS)[:19].encode()
        return self._second_text

    def _day_of(self, ts: int) -> str:
        number = ts // _DAY_NS
        if number != self._day_number:
            self._day_number, self._day = number, day_of(ts)
        return self._day


def _base64(frame: bytes) -> bytes:
    return binascii.b2a_base64(frame, newline=False)


# ── reading ──────────────────────────────────────────────────────────────────────


class Line(NamedTuple):
    """A line read back."""

    ts: int
    conn: int
    data: bytes
    raw: bool


class LineParser:
    """Reads the lines that a ``LineWriter`` of the same feed wrote."""

    HEAD_BYTES = 256
    """So many bytes of a line hold its ``ts``, however long the frame is."""

    def __init__(self, feed: str) -> None:
        self._head = re.compile(
            rb'\{"ts":"%b","feed":"%b",(?:"conn":([1-9]\d{0,8}),)?(?:"data":|("raw":"))'
            % (_TS, re.escape(feed.encode()))
        )

    def ts(self, line: bytes) -> int | None:
        """Return the receipt time at the head of a line, None for one that is not ours."""
        match = self._head.match(line)
        return None if match is None else _nanoseconds(match[1], match[2])

    def whole_ts(self, line: bytes) -> int | None:
        """Return the receipt time of an undamaged line, None for any other."""
        read = self.parse(line)
        return None if read is None else read.ts

    def parse(self, line: bytes) -> Line | None:
        """Read a line without its newline, None for one that is not ours or is damaged."""
        match = self._head.match(line)
        if match is None:
            return None
        ts = _nanoseconds(match[1], match[2])
        raw = match[4] is not None
        data = _payload(line, match.end(), raw=raw)
        if ts is None or data is None:
            return None
        return Line(ts, int(match[3] or 0), data, raw)


def _payload(line: bytes, start: int, *, raw: bool) -> bytes | None:
    if raw:
        if not line.endswith(b'"}'):
            return None
        try:
            return binascii.a2b_base64(line[start:-2], strict_mode=True)
        except binascii.Error:
            return None
    data = line[start:-1]
    # JSON holds no NUL; a page that a power failure kept from the disk is full of them.
    return data if data and line.endswith(b"}") and b"\0" not in data else None


def _nanoseconds(second: bytes, nanos: bytes) -> int | None:
    whole = unix_second(second)
    return None if whole is None else whole * NS + int(nanos)


@functools.lru_cache(maxsize=16)
def unix_second(text: bytes) -> int | None:
    """Return the Unix time of a UTC time such as ``2026-11-22T06:00:47``, None for none."""
    try:
        return int(datetime.fromisoformat(text.decode()).replace(tzinfo=UTC).timestamp())
    except ValueError:
        return None


class _LedgerLine(msgspec.Struct):
    ts: str


_decode_ledger_line = msgspec.json.Decoder(_LedgerLine).decode


def ledger_ts(line: bytes) -> int | None:
    """Return the ``ts`` of a line of the coverage ledger, None for a damaged one."""
    try:
        text = _decode_ledger_line(line).ts.encode()
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return None
    match = _TS_ONLY.fullmatch(text)
    return None if match is None else _nanoseconds(match[1], match[2])


class Note(NamedTuple):
    """A line of the coverage ledger read back."""

    ts: int
    line: bytes


class LedgerParser:
    """Reads the lines of the coverage ledger."""

    HEAD_BYTES = 64
    """A line begins with its ``ts``."""

    def ts(self, line: bytes) -> int | None:
        """Return the receipt time at the head of a line, None for one without."""
        match = _LEDGER_HEAD.match(line)
        return None if match is None else _nanoseconds(match[1], match[2])

    def parse(self, line: bytes) -> Note | None:
        """Read a line without its newline, None for one that is damaged."""
        ts = ledger_ts(line)
        return None if ts is None or not _is_text(line) else Note(ts, line)


def _is_text(line: bytes) -> bool:
    # Values that are not asked for are passed over without a look at their bytes.
    try:
        line.decode()
    except UnicodeDecodeError:
        return False
    return True
