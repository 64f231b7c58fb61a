"""Decides how much of a replay is not in the stream, though the bus acknowledged it."""

from __future__ import annotations

from contextlib import closing

import anyio

from ssmd_core.service.destination import Held
from ssmd_core.service.playback import Playback
from ssmd_core.service.replay import chunks
from ssmd_core.service.rereading import Rereading

__all__ = ["count_absent"]


async def count_absent(playback: Playback, rereading: Rereading, held: Held, upto: int) -> int:
    """Read the archive once more; return how many messages up to a time are not held.

    A stream remembers the ids of what was deleted or purged for as long as its duplicate
    window, and acknowledges them without storing them.

    Raises:
        StorageFailed: the archive cannot be read.
    """
    absent = 0
    with closing(chunks(playback.passages())) as source:
        while chunk := await anyio.to_thread.run_sync(next, source, ()):
            for passage in chunk:
                if passage.batch.first_ts > upto:
                    return absent
                messages = rereading.messages(passage)
                absent += sum(m.ts <= upto and m not in held for m in messages)
            await anyio.lowlevel.checkpoint()
    return absent
