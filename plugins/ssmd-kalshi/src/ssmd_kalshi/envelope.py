"""Decides what every frame of Kalshi's has: a type, and a place in its channel's sequence."""

from __future__ import annotations

from typing import ClassVar

import msgspec

from ssmd_core.feed import FrameKind, Parsed

__all__ = ["Frame"]


class Frame(msgspec.Struct, gc=False, tag_field="type"):
    """The envelope. Replies use up a number of ``sid`` just as data does."""

    label: ClassVar[str]
    kind: ClassVar[FrameKind] = FrameKind.DATA

    sid: int | None = None
    seq: int | None = None

    def read(self) -> Parsed:
        """Return what the frame says; raises ParseError where its body makes no sense."""
        raise NotImplementedError
