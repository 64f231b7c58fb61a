"""Decides what a frame says where nobody wants its records: its place, and any event.

The whole frame is still decoded by a strict decoder, so it is proven to be JSON. Of the
bodies that come all the time it is only proven that they are there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from decimal import Decimal
from functools import lru_cache, reduce
from operator import or_
from typing import Any, Final

import msgspec

from ssmd_core.feed import Parsed
from ssmd_kalshi.envelope import Frame
from ssmd_kalshi.market_data import DeltaFrame, TickerFrame, TradeFrame
from ssmd_kalshi.messages import FRAMES

__all__ = ["skim"]


class _AnyBody(msgspec.Struct, gc=False):
    """An object whose fields are checked to be JSON and passed over."""


class _SkimmedFrame(Frame, kw_only=True):
    msg: _AnyBody

    def read(self) -> Parsed:
        """Return the frame's place."""
        return Parsed(self.label, (), self.kind, self.sid, self.seq, self.seq)


class _SkimmedTicker(_SkimmedFrame, tag=TickerFrame.label):
    label = TickerFrame.label


class _SkimmedTrade(_SkimmedFrame, tag=TradeFrame.label):
    label = TradeFrame.label


class _SkimmedDelta(_SkimmedFrame, tag=DeltaFrame.label):
    label = DeltaFrame.label


@lru_cache(maxsize=64)
def _ticker(sid: int | None) -> Parsed:
    """Return what tickers say: they carry no number, so all of one channel say the same."""
    return Parsed(TickerFrame.label, (), TickerFrame.kind, sid)


_SKIMMED: Final[tuple[type[Frame], ...]] = (_SkimmedTicker, _SkimmedTrade, _SkimmedDelta)
_OFTEN: Final = frozenset(frame.label for frame in _SKIMMED)
_ANY_FRAME: Final[Any] = reduce(
    or_, (*_SKIMMED, *(frame for frame in FRAMES if frame.label not in _OFTEN))
)
_decode = msgspec.json.Decoder(_ANY_FRAME, float_hook=Decimal).decode


def skim(frames: Iterable[bytes], read: Callable[[bytes], Parsed]) -> list[Parsed]:
    """Read the envelopes of text frames.

    Says of each what ``read`` says, but for the records of tickers, trades and changes of
    books, and for what is wrong with those alone.

    Args:
        frames: those of one wake-up.
        read: reads one frame in full; asked for each that cannot be skimmed.
    """
    skimmed: list[Parsed] = []
    for data in frames:
        try:
            frame = _decode(data)
            is_usual = type(frame) is _SkimmedTicker and frame.seq is None
            said = _ticker(frame.sid) if is_usual else frame.read()
        except Exception:  # noqa: BLE001  whatever is wrong with it, the full reading tells
            said = read(data)
        skimmed.append(said)
    return skimmed
