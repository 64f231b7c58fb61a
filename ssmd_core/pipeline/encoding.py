"""Turns what was read from frames into messages for the bus, with their ids."""

from __future__ import annotations

from collections.abc import Sequence

from ssmd_core.errors import RecordError
from ssmd_core.feed import Parsed
from ssmd_core.metrics import Metrics
from ssmd_core.records import Batch, Record
from ssmd_core.sink import Encoder, Message

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

    def messages(self, batch: Batch, parsed: Sequence[Parsed], origin: str = "") -> list[Message]:
        """Return the messages of a batch in order. What the schema has no struct for is left."""
        out: list[Message] = []
        for index, said in enumerate(parsed):
            for further, record in enumerate(said.records):
                if record.kind not in self._kinds:
                    continue
                ts = batch.first_ts + index
                try:
                    payload = self._encoder.encode(record, ts)
                    message_id = self._id(record, ts, further)
                except RecordError as error:
                    self._metrics.unpublishable.add(str(error))
                    continue
                except Exception as error:  # noqa: BLE001  a stranger's fault costs one record
                    self._metrics.unpublishable.add(f"encoder failed: {type(error).__name__}")
                    continue
                out.append(
                    Message(
                        record.kind, record.ticker, payload, message_id, ts, self._schema, origin
                    )
                )
        return out

    def status(self, ts: int, line: bytes, origin: str = "") -> Message:
        """Return a ledger line as a message."""
        return Message(STATUS, "", line, f"{self._feed}:{self._connector}:{ts}", ts, "", origin)

    def _id(self, record: Record, ts: int, further: int) -> str:
        key = record.key
        if key is not None:
            return f"{self._feed}:{record.kind}:{key}"
        name = f"{self._feed}:{self._connector}:{ts}"
        return f"{name}:{further}" if further else name
