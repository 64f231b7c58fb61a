"""What a pipeline is made of."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ssmd_core.clock import Clock, ReceiptClock
from ssmd_core.feed import Feed, Parsed, WebSocketFeed
from ssmd_core.metrics import Metrics
from ssmd_core.pipeline.encoding import Encoding
from ssmd_core.pipeline.ledger import Observe
from ssmd_core.records import Batch
from ssmd_core.sink import Storage, Transport

__all__ = ["PipelineParts", "Tap"]

Tap = Callable[[Batch, Sequence[Parsed]], None]
"""Sees each batch after the sinks took it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PipelineParts:
    """What a pipeline is made of; either sink may be absent."""

    feed: WebSocketFeed | Feed
    clock: Clock
    receipt: ReceiptClock
    metrics: Metrics
    storage: Storage | None
    transport: Transport | None
    encoding: Encoding | None
    tap: Tap | None = None
    observe: Observe | None = None
    """Is told of each ledger event."""
    about: Mapping[str, Any] = field(default_factory=dict)
    """What sessions say of who captures, as they open and at midnight: a day explains itself."""
    pause_on_archive_failure: bool = False
    """Stop reading, rather than drop frames, when the archive refuses for long."""
