"""Decides which frames a loopback venue plays, in which order and how fast."""

from __future__ import annotations

import base64
import gzip
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

__all__ = ["Recording", "frame_of"]

_ARCHIVED = re.compile(
    rb'\{"ts":"[^"]+","feed":"[^"]+",(?:"conn":\d+,)?"(?:data":(?P<data>.+)|raw":"(?P<raw>[^"]*)")\}',
    re.DOTALL,
)


class Recording:
    """Frames to play, in order.

    Args:
        frames: text messages of the venue. A generator is read as it is played, so it
            may be endless or stamp the present time.
        rate: frames a second; None is as fast as the slowest client reads.
        loop: begin again at the end; wants frames that can be iterated over again.

    Raises:
        ValueError: the rate is not positive, or a generator is to be looped.
    """

    def __init__(
        self, frames: Iterable[bytes], *, rate: float | None = None, loop: bool = False
    ) -> None:
        if rate is not None and not rate > 0:
            raise ValueError(f"rate is {rate}; it is frames a second, greater than 0, or None")
        if loop and isinstance(frames, Iterator):
            raise ValueError("a generator cannot be looped; pass a list of frames")
        self.frames = frames
        self.rate = rate
        self.loop = loop

    @classmethod
    def load(cls, path: Path | str, *, rate: float | None = None, loop: bool = False) -> Recording:
        """Read a JSONL file, plain or gzip: archive lines of ssmd, or one bare frame a line."""
        path = Path(path)
        content = path.read_bytes()
        if path.suffix == ".gz":
            content = gzip.decompress(content)
        lines = (line.rstrip(b"\r") for line in content.split(b"\n"))
        return cls([frame_of(line) for line in lines if line], rate=rate, loop=loop)

    def items(self, prepare: Callable[[bytes], Any]) -> Iterator[Any]:
        """Yield what ``prepare`` makes of each frame, without those it makes None of.

        Frames in a list are prepared at once, so that playing them costs nothing more.
        """
        if isinstance(self.frames, Sequence):
            prepared = [item for item in map(prepare, self.frames) if item is not None]
            yield from prepared
            while self.loop and prepared:
                yield from prepared
            return
        empty = False
        while not empty:
            empty = True
            for item in map(prepare, self.frames):
                if item is not None:
                    empty = not self.loop
                    yield item


def frame_of(line: bytes) -> bytes:
    """Return the frame that an archive line holds, or the line itself when it is a bare frame."""
    match = _ARCHIVED.fullmatch(line)
    if match is None:
        return line
    data: bytes | None = match["data"]
    return base64.b64decode(match["raw"]) if data is None else data
