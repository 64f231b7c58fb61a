"""Decides what one frame of Kalshi's is: known, unknown, or not readable.

A frame whose envelope can be read is never lost to the sequence check: what is wrong
with its body stands in ``Parsed.fault``.
"""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from functools import reduce
from operator import or_
from typing import Any, Final

import msgspec

from ssmd_core.errors import ParseError
from ssmd_core.feed import FrameKind, Parsed
from ssmd_kalshi.envelope import Frame
from ssmd_kalshi.lifecycle import (
    EventFeeUpdateFrame,
    EventLifecycleFrame,
    MarketLifecycleFrame,
    MultivariateLifecycleFrame,
)
from ssmd_kalshi.market_data import DeltaFrame, SnapshotFrame, TickerFrame, TradeFrame
from ssmd_kalshi.replies import ErrorFrame, OkFrame, SubscribedFrame, UnsubscribedFrame

__all__ = ["FRAMES", "decode", "parse"]

_LONGEST_LABEL: Final = 64


class _Envelope(msgspec.Struct, gc=False):
    type: str | None = None
    sid: int | None = None
    seq: int | None = None


FRAMES: Final[tuple[type[Frame], ...]] = (
    TickerFrame,
    TradeFrame,
    DeltaFrame,
    SnapshotFrame,
    MarketLifecycleFrame,
    MultivariateLifecycleFrame,
    EventLifecycleFrame,
    EventFeeUpdateFrame,
    SubscribedFrame,
    OkFrame,
    UnsubscribedFrame,
    ErrorFrame,
)
"""Every type that is known."""
_KINDS: Final = {frame.label: frame.kind for frame in FRAMES}
_KNOWN: Final[Any] = reduce(or_, FRAMES)
decode: Final[Callable[[bytes], Frame]] = msgspec.json.Decoder(_KNOWN, float_hook=Decimal).decode
"""Return the frame of a known type; raises where ``parse`` would have more to say."""
_decode_envelope = msgspec.json.Decoder(_Envelope).decode


def parse(data: bytes) -> Parsed:
    """Read one text frame.

    A type that is not known comes back as UNKNOWN, a known one whose body cannot be
    read with a ``fault`` and no record; both keep their place in the sequence.

    Raises:
        ParseError: not JSON, not an object, or an envelope of other types.
    """
    try:
        return decode(data).read()
    except (msgspec.ValidationError, ParseError, TypeError) as error:
        # TypeError: an array or an object where the cache of numbers wants a scalar.
        return _read_envelope(data, error)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ParseError(f"not JSON that can be read: {error}") from error


def _read_envelope(data: bytes, error: Exception) -> Parsed:
    try:
        frame = _decode_envelope(data)
    except (ValueError, RecursionError) as cause:
        raise ParseError(f"not an envelope that can be read: {cause}") from cause
    label = "untyped" if frame.type is None else frame.type[:_LONGEST_LABEL]
    kind, fault = FrameKind.UNKNOWN, ""
    if label in _KINDS:
        kind, fault = _KINDS[label], str(error)
    return Parsed(label, (), kind, frame.sid, frame.seq, frame.seq, None, fault)
