"""Turns what was read from frames into messages for the bus, with their ids."""

from __future__ import annotations

from collections.abc import Sequence

from ssmd_core.errors import RecordError
from ssmd_core.feed import Parsed
from ssmd_core.metrics import Metrics
from ssmd_core.pipeline.seen import Seen
from ssmd_core.records import Batch, Record, Stream
from ssmd_core.sink import Encoder, Message
from ssmd_core.sink.origin import Origin

__all__ = ["STATUS", "Encoding"]

STATUS = "status"
"""The kind of ledger lines on the bus."""


class Encoding:
    """One wire schema at work for one feed.

    Message ids derive only from what the archive holds, so that a resend, a restart
    and a replay give the same: the venue's key, or the connector's id and the
    frame's receipt time.
    """

    def __init__(self, encoder: Encoder, feed: str, connector: str, metrics: Metrics) -> None:
        self._encoder = encoder
        self._feed = feed
        self._connector = connector
        self._metrics = metrics
        self._kinds = encoder.kinds
        self._schema = encoder.label
        self._seen = Seen()

    def messages(
        self, batch: Batch, parsed: Sequence[Parsed], origin: Origin = Origin.LIVE
    ) -> list[Message]:
        """Return the messages of a batch in order. What the schema has no struct for is left.

        Of what was fetched (``origin`` backfill) what was seen before is left, too.
        """
        out: list[Message] = []
        put, kinds, encode, schema = out.append, self._kinds, self._encoder.encode, self._schema
        feed, place = self._feed, f"{self._feed}:{self._connector}:"
        note = self._seen.note if origin != Origin.BACKFILL else _forget
        for ts, said in enumerate(parsed, batch.first_ts):
            for further, record in enumerate(said.records):
                kind = record.kind
                if kind not in kinds:
                    continue
                try:
                    payload = encode(record, ts)
                    key = record.key
                    if key is not None:
                        message_id = f"{feed}:{kind}:{key}"
                        note(message_id)
                    else:
                        message_id = f"{place}{ts}:{further}" if further else f"{place}{ts}"
                    put(Message(kind, record.ticker, payload, message_id, ts, schema, origin))
                except RecordError as error:
                    self._metrics.unpublishable.add(str(error))
                except Exception as error:  # noqa: BLE001  a stranger's fault costs one record
                    self._metrics.unpublishable.add(f"encoder failed: {type(error).__name__}")
        return self._fresh(out) if origin == Origin.BACKFILL else out

    def status(self, ts: int, line: bytes, origin: Origin = Origin.LIVE) -> Message:
        """Return a ledger line as a message."""
        return Message(STATUS, "", line, f"{self._feed}:{self._connector}:{ts}", ts, "", origin)

    def recall(self, batch: Batch, parsed: Sequence[Parsed]) -> None:
        """Remember what an earlier run published."""
        for index, said in enumerate(parsed):
            for record in said.records:
                if record.kind in self._kinds and (key := _key(record)) is not None:
                    message_id = f"{self._feed}:{record.kind}:{key}"
                    if batch.stream is Stream.REST:
                        self._seen.note_fetched(message_id, batch.first_ts + index)
                    else:
                        self._seen.note(message_id)

    def carries(self, said: Parsed) -> bool:
        """Say whether anything of a frame goes to the bus."""
        return any(record.kind in self._kinds for record in said.records)

    def _fresh(self, messages: list[Message]) -> list[Message]:
        fresh = self._seen.fresh(messages)
        self._metrics.duplicates += len(messages) - len(fresh)
        return fresh


def _key(record: Record) -> str | None:
    try:
        return record.key
    except Exception:  # noqa: BLE001  a stranger's record that cannot name itself has no name
        return None


def _forget(_message_id: str) -> None:
    """Note nothing: what was fetched is noted when it is found fresh."""
