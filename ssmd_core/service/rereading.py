"""Turns frames of an archive into the messages that the connector made of them."""

from __future__ import annotations

import msgspec

from ssmd_core.feed import Feed, FrameKind, WebSocketFeed
from ssmd_core.metrics import Metrics
from ssmd_core.pipeline.encoding import Encoding
from ssmd_core.pipeline.log import LogReader
from ssmd_core.records import Stream
from ssmd_core.service.playback import Passage
from ssmd_core.sink import Encoder, Message
from ssmd_core.sink.origin import Origin

__all__ = ["Rereading"]


class Rereading:
    """One feed and one wire schema, for frames in order of ``ts``."""

    def __init__(
        self, feed: WebSocketFeed | Feed, name: str, encoder: Encoder, metrics: Metrics
    ) -> None:
        self._name = name
        self._encoder = encoder
        self._metrics = metrics
        self._reader = LogReader(feed, lambda: self._ts)
        self._ts = 0
        self._connector = ""
        self._encoding: Encoding | None = None
        self.frames = 0
        self.unread = 0
        """Frames that the feed could not read; they were archived as they came."""
        self.repeated = 0
        """Fetched records that had come live already: left again, as they were then."""

    def messages(self, passage: Passage) -> list[Message]:
        """Return what was, or would have been, published of these frames, in order."""
        batch, connector = passage
        if self._encoding is None or connector != self._connector:
            self._connector = connector
            self._encoding = Encoding(self._encoder, self._name, connector, self._metrics)
        self._ts = batch.first_ts
        parsed = self._reader.read(batch)
        self.frames += len(batch.frames)
        self.unread += sum(said.kind is FrameKind.MALFORMED or bool(said.fault) for said in parsed)
        if batch.stream is Stream.LIVE:
            return self._encoding.messages(batch, parsed, Origin.REPLAY)
        # As it was backfilled, so that what had come live already is left again.
        before = self._metrics.duplicates
        fetched = self._encoding.messages(batch, parsed, Origin.BACKFILL)
        self.repeated += self._metrics.duplicates - before
        return [msgspec.structs.replace(message, origin=Origin.REPLAY) for message in fetched]
