"""Reads what frames of the log say, live ones and fetched ones, as when they came."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from typing import Any

from ssmd_core.feed import ConnectionPlan, Feed, Parsed, WebSocketFeed
from ssmd_core.feed.reading import read_fetched, read_frames
from ssmd_core.records import Batch, Stream

__all__ = ["LogReader"]


class LogReader:
    """The session that a feed sees while its frames are read back."""

    def __init__(self, feed: WebSocketFeed | Feed, now_ns: Callable[[], int]) -> None:
        self._feed = feed
        self.plan = ConnectionPlan()
        self.channels: Mapping[Hashable, str] = {}
        self.state: Any = feed.new_state(self.plan)
        self.now_ns = now_ns
        self._requests = 0

    def next_id(self) -> int:
        """Return a request id not used before."""
        self._requests += 1
        return self._requests

    def read(self, batch: Batch) -> list[Parsed]:
        """Return one ``Parsed`` a frame. Total: whatever stands in the log has an answer."""
        if batch.stream is Stream.REST:
            return read_fetched(self._feed, batch.frames)[0]
        return read_frames(self._feed, batch.frames, batch.raw, self)[0]
