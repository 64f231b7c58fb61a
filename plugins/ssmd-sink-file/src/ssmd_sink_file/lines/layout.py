"""Decides where a frame stands: names of files, relative to the root of an archive."""

from __future__ import annotations

import enum
import re
from dataclasses import dataclass

from ssmd_core.records import Stream
from ssmd_sink_file.frames.compress import Compression

__all__ = ["DAY", "Kind", "Layout", "kind_of"]

DAY = re.compile(r"\d{4}-\d\d-\d\d")
"""What a day directory is called; anything else in the archive is not ours."""

_REST = Stream.REST


class Kind(enum.Enum):
    """A stream of the archive; the value ends its file name."""

    LIVE = ".jsonl"
    REST = ".rest.jsonl"
    COVERAGE = ".coverage.jsonl"

    # Looked up at every append: members are single, and an enum's own hash is a call in Python.
    __hash__ = object.__hash__


def kind_of(stream: Stream) -> Kind:
    """Return where the frames of a stream stand."""
    return Kind.REST if stream is _REST else Kind.LIVE


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
