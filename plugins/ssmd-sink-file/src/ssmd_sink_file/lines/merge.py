"""Decides the order of live frames and of what came over REST, where both are read."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import AsyncIterator

from ssmd_core.records import Stream
from ssmd_sink_file.lines.parser import Line

__all__ = ["merge"]


async def merge(
    live: AsyncIterator[list[Line]], rest: AsyncIterator[list[Line]]
) -> AsyncIterator[tuple[Stream, list[Line]]]:
    """Yield runs of lines of one stream, in order of receipt time over both."""
    sources = {Stream.LIVE: live, Stream.REST: rest}
    heads = {stream: await anext(lines, []) for stream, lines in sources.items()}
    while any(heads.values()):
        stream = min((s for s in heads if heads[s]), key=lambda s: heads[s][0].ts)
        others = [lines[0].ts for other, lines in heads.items() if other is not stream and lines]
        lines = heads[stream]
        cut = bisect_left(lines, others[0], key=lambda line: line.ts) if others else len(lines)
        cut = max(cut, 1)  # two lines of one time, which we never write, still end
        yield stream, lines[:cut]
        heads[stream] = lines[cut:] or await anext(sources[stream], [])
