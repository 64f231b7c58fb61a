"""Decides what the lines of a file say: batches of frames, ledger lines, or damage."""

from __future__ import annotations

import binascii
import re
from abc import ABC, abstractmethod
from typing import Generic, TypeVar

from ssmd_core.clock import NS
from ssmd_core.records import Batch, Stream
from ssmd_core.sink.archive import Damaged
from ssmd_sink_file.lines.ledger import LedgerParser, Note
from ssmd_sink_file.lines.parser import LineParser, unix_second

__all__ = ["FrameScanner", "NoteScanner", "Scanner"]

_BATCH_FRAMES = 1024
_NO_RAW: frozenset[int] = frozenset()
_ANY_FEED = re.compile(rb'\{"ts":"[^"]{35}","feed":"([a-z0-9][a-z0-9_-]{0,63})",')

_FoundT = TypeVar("_FoundT")


class Scanner(ABC, Generic[_FoundT]):
    """Takes the lines of a file in order; says what stands there, neighbours of a kind as one."""

    def __init__(self, file: str) -> None:
        self._file = file
        self._line = 1
        """Number of the next line."""
        self._damaged: Damaged | None = None

    @abstractmethod
    def take(self, block: bytes) -> list[_FoundT | Damaged]:
        """Take whole lines, each with its newline; return what is complete with them."""

    def skip(self, what: str) -> list[_FoundT | Damaged]:
        """Take note of a place that holds no line; it counts as one."""
        out: list[_FoundT | Damaged] = []
        self._damage(out, self._line, what)
        self._line += 1
        return out

    def end(self) -> list[_FoundT | Damaged]:
        """Return what was kept back for its neighbours."""
        out: list[_FoundT | Damaged] = []
        self._complete(out)
        return out

    def _damage(self, out: list[_FoundT | Damaged], line: int, what: str) -> None:
        before = self._damaged
        if before is not None and before.what == what:
            self._damaged = before._replace(lines=before.lines + 1)
            return
        self._complete(out)
        self._damaged = Damaged(self._file, line, 1, what)

    def _complete(self, out: list[_FoundT | Damaged]) -> None:
        if self._damaged is not None:
            out.append(self._damaged)
            self._damaged = None


class FrameScanner(Scanner[Batch]):
    """Puts frames back into batches: those of one connection, 1 ns apart, at most 1024.

    Reads what ``LineParser`` reads, and nothing else: whole blocks by one expression, and
    line by line only those that hold something else.
    """

    def __init__(self, file: str, feed: str, stream: Stream) -> None:
        super().__init__(file)
        self._feed = feed
        self._stream = stream
        self._parser = LineParser(feed)
        self._find_lines = re.compile(
            rb'^\{"ts":"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)\.(\d{9})\+00:00","feed":"%b",'
            rb'(?:"conn":([1-9]\d{0,8}),)?(?:"data":(.+)|"raw":"([^"\n]*)")\}\n'
            % re.escape(feed.encode()),
            re.MULTILINE,
        ).findall
        # The batch in the making, of which there is none while anything damaged is kept back.
        self._first = 0
        self._following: int | None = None
        self._conn = b""
        self._frames: list[bytes] = []
        self._raw: list[int] = []

    def take(self, block: bytes) -> list[Batch | Damaged]:
        """Take whole lines, each with its newline; return what is complete with them."""
        out: list[Batch | Damaged] = []
        count = block.count(b"\n")
        found = self._find_lines(block) if b"\0" not in block else []
        if len(found) == count:
            self._take_found(found, out)
        else:
            self._take_each(block, out)
        self._line += count
        return out

    def _take_found(
        self, found: list[tuple[bytes, bytes, bytes, bytes, bytes]], out: list[Batch | Damaged]
    ) -> None:
        # The hot path of a day of 40 million lines: what changes with every line is local.
        second, second_ns = b"", 0
        following, conn, frames = self._following, self._conn, self._frames
        for line, (text, nanos, its_conn, data, raw) in enumerate(found, self._line):
            if text != second:
                whole = unix_second(text)
                second, second_ns = (b"", 0) if whole is None else (text, whole * NS)
            frame = data or _from_base64(raw)
            if frame is None or not second:
                self._damage(out, line, self._what_is_wrong(b""))
                following = None
                continue
            ts = second_ns + int(nanos)
            if ts != following or its_conn != conn or len(frames) == _BATCH_FRAMES:
                self._complete(out)
                self._first, self._conn = ts, its_conn
                self._frames = frames = []
                conn = its_conn
            if not data:
                self._raw.append(len(frames))
            frames.append(frame)
            following = ts + 1
        self._following = following

    def _take_each(self, block: bytes, out: list[Batch | Damaged]) -> None:
        for number, text in enumerate(block.split(b"\n")[:-1], self._line):
            line = self._parser.parse(text)
            if line is None:
                self._damage(out, number, self._what_is_wrong(text))
                self._following = None
                continue
            conn = b"%d" % line.conn if line.conn else b""
            is_full = len(self._frames) == _BATCH_FRAMES
            if line.ts != self._following or conn != self._conn or is_full:
                self._complete(out)
                self._first, self._conn = line.ts, conn
            if line.raw:
                self._raw.append(len(self._frames))
            self._frames.append(line.data)
            self._following = line.ts + 1

    def _complete(self, out: list[Batch | Damaged]) -> None:
        if self._frames:
            raw = frozenset(self._raw) if self._raw else _NO_RAW
            conn = int(self._conn) if self._conn else 0
            out.append(Batch(self._first, self._frames, conn, raw, self._stream))
            self._frames = []
            if raw:
                self._raw = []
        elif self._damaged is not None:
            out.append(self._damaged)
            self._damaged = None

    def _what_is_wrong(self, line: bytes) -> str:
        if b"\0" in line:
            return "zero bytes, as a power failure leaves them"
        other = _ANY_FEED.match(line)
        if other is not None and other[1] != self._feed.encode():
            return f"a line of the feed {other[1].decode()}"
        return "not a line of the archive"


def _from_base64(text: bytes) -> bytes | None:
    try:
        return binascii.a2b_base64(text, strict_mode=True)
    except binascii.Error:
        return None


class NoteScanner(Scanner[Note]):
    """Reads the lines of a coverage ledger."""

    def __init__(self, file: str) -> None:
        super().__init__(file)
        self._parser = LedgerParser()

    def take(self, block: bytes) -> list[Note | Damaged]:
        """Take whole lines, each with its newline; return what is complete with them."""
        out: list[Note | Damaged] = []
        for number, text in enumerate(block.split(b"\n")[:-1], self._line):
            note = self._parser.parse(text)
            if note is None:
                self._damage(out, number, "not a line of a ledger")
            else:
                self._complete(out)
                out.append(note)
            self._line = number + 1
        return out
