"""Decides what a frame says of the life of a market or an event."""

from __future__ import annotations

from decimal import Decimal
from typing import Any, ClassVar

import msgspec

from ssmd_core.errors import ParseError
from ssmd_core.feed import Parsed
from ssmd_core.records import Lifecycle
from ssmd_kalshi.envelope import Frame
from ssmd_kalshi.times import venue_ns

__all__ = [
    "EventFeeUpdateFrame",
    "EventLifecycleFrame",
    "MarketLifecycleFrame",
    "MultivariateLifecycleFrame",
]


class _LifecycleBody(msgspec.Struct, gc=False):
    market_ticker: str | None = None
    event_ticker: str | None = None
    event_type: str | None = None
    determination_ts: Any = None
    settled_ts: Any = None
    ts: Any = None
    ts_ms: Any = None


_decode_lifecycle = msgspec.json.Decoder(_LifecycleBody, float_hook=Decimal).decode


class _LifecycleFrame(Frame, kw_only=True):
    msg: msgspec.Raw

    def read(self) -> Parsed:
        """Return one record with the venue's message in full; rare, so decoded twice."""
        body = _decode_lifecycle(self.msg)
        ticker, event = self.name(body)
        if ticker is None or event is None:
            raise ParseError("the ticker or the event is missing")
        when = body.ts
        if when is None:
            # Times that lie ahead (open_ts, close_ts) are not when the event happened.
            when = body.settled_ts if body.determination_ts is None else body.determination_ts
        record = Lifecycle(ticker, venue_ns(when, body.ts_ms), event, bytes(self.msg), self.seq)
        return Parsed(self.label, (record,), self.kind, self.sid, self.seq, self.seq)

    def name(self, body: _LifecycleBody) -> tuple[str | None, str | None]:
        """Return what it happened to, and the venue's word for it."""
        return body.market_ticker, body.event_type


class MarketLifecycleFrame(_LifecycleFrame, tag="market_lifecycle_v2"):
    """A market was created, activated, determined, settled …; new words are kept."""

    label: ClassVar[str] = "market_lifecycle_v2"


class MultivariateLifecycleFrame(_LifecycleFrame, tag="multivariate_market_lifecycle"):
    """The same of a combination of markets."""

    label: ClassVar[str] = "multivariate_market_lifecycle"


class EventLifecycleFrame(_LifecycleFrame, tag="event_lifecycle"):
    """An event was created. It carries no word for that, so the type stands for it."""

    label: ClassVar[str] = "event_lifecycle"

    def name(self, body: _LifecycleBody) -> tuple[str | None, str | None]:
        """Return the event's ticker and the type of the frame."""
        return body.event_ticker, self.label


class EventFeeUpdateFrame(EventLifecycleFrame, tag="event_fee_update"):
    """The fees of an event changed."""

    label: ClassVar[str] = "event_fee_update"
