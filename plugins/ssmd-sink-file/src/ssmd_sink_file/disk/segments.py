"""Touches the files that are appended to: whole lines or nothing, however a write ends."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from ssmd_sink_file.disk.files import (
    Identity,
    identity_of,
    make_directory,
    open_file,
    sync_directory,
    write_all,
)
from ssmd_sink_file.disk.tail import repair_tail

__all__ = ["AtRisk", "Segment", "Ticket", "at_risk", "flush", "which_may_be_lost"]

_CLOSED = -1
_COUNTED_BYTES = 1024 * 1024


class Ticket(NamedTuple):
    """What a thread needs to make a segment durable while appends to it go on."""

    fd: int
    path: Path
    identity: Identity
    size: int
    writes: int
    dirty: bool
    is_new: bool


class AtRisk(NamedTuple):
    """Lines that went with a file which its path no longer leads to."""

    lines: int
    first: bytes
    last: bytes
    is_gone: bool
    """Nobody has the file under any name: what stood in it is lost."""


def at_risk(ticket: Ticket, seen_bytes: int) -> AtRisk | None:
    """Find the lines that went with a file, as the descriptor still tells. Runs in a thread.

    Those up to ``seen_bytes`` were there when it was last looked at: whoever removed the file
    had them. None where it cannot be told, or the file is there.
    """
    try:
        if identity_of(ticket.path.stat()) == ticket.identity:
            return None
    except OSError:
        pass
    lines, position = 0, seen_bytes
    first, last = b"", b""
    try:
        is_gone = not os.fstat(ticket.fd).st_nlink
        while position < ticket.size:
            block = os.pread(ticket.fd, min(_COUNTED_BYTES, ticket.size - position), position)
            if not block:
                return None
            lines += block.count(b"\n")
            position += len(block)
            first = first or block.partition(b"\n")[0]
            last = (last + block)[-_COUNTED_BYTES:]
    except OSError:
        return None
    return AtRisk(lines, first, last.removesuffix(b"\n").rpartition(b"\n")[2], is_gone)


def which_may_be_lost(risk: AtRisk) -> str:
    """Say how many lines went with a file."""
    return f"lines appended since it was last seen there, which may be lost: {risk.lines}"


def flush(ticket: Ticket) -> None:
    """Make what a segment held when the ticket was taken durable. Runs in a thread.

    Raises:
        OSError: it may not be; or the path no longer leads to the file.
    """
    if ticket.dirty:
        os.fdatasync(ticket.fd)
    if ticket.is_new:
        sync_directory(ticket.path.parent)
        sync_directory(ticket.path.parent.parent)
    status = ticket.path.stat()
    if identity_of(status) != ticket.identity or status.st_size < ticket.size:
        raise OSError(errno.ESTALE, "removed, replaced or cut short by somebody else")


class Segment:
    """One file of one stream and day, open for appending.

    Its ``size`` is the end of the last whole append. What a failed write left beyond
    it is cut off at once, or, where that fails too, before anything else is written.
    Descriptors are closed by whoever syncs, never by an append.
    """

    __slots__ = (
        "_before_open",
        "_durable",
        "_fd",
        "_identity",
        "_is_new",
        "_on_torn",
        "_suspect",
        "_torn",
        "_writes",
        "day",
        "name",
        "path",
        "seen_bytes",
        "size",
    )

    def __init__(
        self,
        root: Path,
        name: str,
        torn: str,
        *,
        before_open: Callable[[], None],
        on_torn: Callable[[Path, int], None],
    ) -> None:
        """``name`` and ``torn`` are relative to ``root``; ``before_open`` may raise OSError."""
        self.name = name
        self.day = name.partition("/")[0]
        self.path = root / name
        self.size = 0
        self.seen_bytes = 0
        """How much of the file was there when it was last looked at."""
        self._torn = root / torn
        self._before_open = before_open
        self._on_torn = on_torn
        self._fd = _CLOSED
        self._identity: Identity | None = None
        self._is_new = False
        self._suspect = False
        self._writes = self._durable = 0

    @property
    def identity(self) -> Identity | None:
        """Which file this is; None before it was opened."""
        return self._identity

    @property
    def dirty(self) -> bool:
        """Whether anything appended is not known to be durable."""
        return self._writes != self._durable

    def append(self, data: bytes) -> int:
        """Append ``data``, whole or not at all, and return the offset where it stands.

        Raises:
            OSError: nothing was kept.
        """
        if self._fd == _CLOSED:
            self._open()
        if self._suspect:
            self._cut()
        offset = self.size
        try:
            write_all(self._fd, data)
        except OSError:
            self.cut_back(offset)
            raise
        self.size = offset + len(data)
        self._writes += 1
        return offset

    def cut_back(self, size: int) -> None:
        """Forget everything from ``size`` on, now or before the next append."""
        self.size = size
        self._suspect = True
        self._writes += 1
        with contextlib.suppress(OSError):
            self._cut()

    def ticket(self) -> Ticket:
        """Return what ``flush`` needs.

        Raises:
            OSError: the file cannot be opened, or not be cut to whole lines.
        """
        identity = self._identity
        if self._fd == _CLOSED or identity is None:
            identity = self._open()
        if self._suspect:
            self._cut()
        return Ticket(
            self._fd,
            self.path,
            identity,
            self.size,
            self._writes,
            self.dirty,
            self._is_new,
        )

    def flushed(self, ticket: Ticket) -> None:
        """Take note that ``flush`` succeeded."""
        self._durable = ticket.writes
        self.seen_bytes = ticket.size
        if ticket.is_new:
            self._is_new = False

    def reopen(self) -> None:
        """Go on with a fresh descriptor after a failed ``flush``.

        The kernel reports a lost page once and then forgets it, so a second sync on the
        same descriptor would succeed without the data.
        """
        self.close()
        with contextlib.suppress(OSError):  # the next append or ticket tries again and says why
            self._open()

    def renamed(self, root: Path, name: str) -> None:
        """Take note that the file is called ``name`` now."""
        self.name, self.path = name, root / name

    def close(self) -> None:
        """Close the descriptor, if there is one."""
        fd, self._fd = self._fd, _CLOSED
        if fd != _CLOSED:
            with contextlib.suppress(OSError):  # everything that matters was synced before
                os.close(fd)

    def _open(self) -> Identity:
        make_directory(self.path.parent)
        self._before_open()
        fd, is_new = open_file(self.path, os.O_RDWR | os.O_APPEND)
        self._is_new = self._is_new or is_new
        try:
            status = os.fstat(fd)
            identity = identity_of(status)
            if identity != self._identity or status.st_size < self.size:
                size, torn = repair_tail(fd, status.st_size, self._torn)
                if torn:
                    self._on_torn(self.path, torn)
                self.size = size
                self.seen_bytes = size
        except BaseException:
            os.close(fd)
            raise
        self._fd, self._identity = fd, identity
        return identity

    def _cut(self) -> None:
        if os.fstat(self._fd).st_size > self.size:
            os.ftruncate(self._fd, self.size)
        self._suspect = False
