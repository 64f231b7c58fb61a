"""What flows: batches of raw frames, and the normalised records read from them.

Prices and sizes are scaled integers, suffix ``_e9``: 1 dollar or 1 contract is
1_000_000_000. They are exact; a float appears only on the wire of a schema that
asks for one. Times are Unix nanoseconds, suffix ``_ns`` (or ``ts`` for receipt).
"""

from __future__ import annotations

import enum
from typing import ClassVar

import msgspec

__all__ = [
    "SCALE",
    "Batch",
    "BookDelta",
    "BookSnapshot",
    "Level",
    "Lifecycle",
    "Record",
    "Side",
    "Stream",
    "Ticker",
    "Trade",
]

SCALE = 1_000_000_000


class Stream(enum.Enum):
    """Which file of the archive a batch belongs to."""

    LIVE = "live"
    REST = "rest"


class Batch(msgspec.Struct, frozen=True, gc=False):
    """The frames of one wake-up of one connection, in order of receipt.

    Frame ``i`` was received at ``first_ts + i``: that ``ts`` is its name everywhere.
    """

    first_ts: int
    frames: list[bytes]
    conn: int = 0
    raw: frozenset[int] = frozenset()
    """Positions of the frames that are binary or not valid JSON (RFC 8259, UTF-8)."""
    stream: Stream = Stream.LIVE

    @property
    def last_ts(self) -> int:
        """Receipt time of the last frame."""
        return self.first_ts + len(self.frames) - 1


class Side(enum.Enum):
    """Side of the taker of a trade, or of the book (BUY is the bid)."""

    BUY = "buy"
    SELL = "sell"


class Record(msgspec.Struct, frozen=True, gc=False):
    """Base of every normalised record. A stranger's kind subclasses it."""

    kind: ClassVar[str] = ""
    """The word in the subject, and the struct of the schema that carries it."""

    ticker: str
    venue_ns: int
    """The venue's own time, or 0 where it sent none."""

    @property
    def key(self) -> str | None:
        """The venue's unique name of the record within feed and kind; names the message."""
        return None


class Trade(Record, frozen=True, gc=False):
    """One execution. Price in dollars of the YES side, size in contracts."""

    kind: ClassVar[str] = "trade"

    price_e9: int
    size_e9: int
    side: Side
    trade_id: str = ""
    seq: int | None = None

    @property
    def key(self) -> str | None:
        """The venue's trade id, where it sent one."""
        return self.trade_id or None


class Ticker(Record, frozen=True, gc=False):
    """Top of book and totals of one market. None is a quote the venue did not give."""

    kind: ClassVar[str] = "ticker"

    bid_e9: int | None
    ask_e9: int | None
    last_e9: int | None
    volume_e9: int
    open_interest_e9: int
    bid_size_e9: int | None = None
    ask_size_e9: int | None = None
    seq: int | None = None


class Level(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """One price level of a book."""

    price_e9: int
    size_e9: int


class BookSnapshot(Record, frozen=True, gc=False):
    """A whole book; replaces what was known. Best level first on both sides."""

    kind: ClassVar[str] = "orderbook"

    bids: tuple[Level, ...]
    asks: tuple[Level, ...]
    seq: int | None = None


class BookDelta(Record, frozen=True, gc=False):
    """A signed change of the size resting at one price."""

    kind: ClassVar[str] = "orderbook"

    side: Side
    price_e9: int
    change_e9: int
    seq: int | None = None


class Lifecycle(Record, frozen=True, gc=False):
    """A change in the life of a market or event; ``event`` is the venue's own word."""

    kind: ClassVar[str] = "lifecycle"

    event: str
    detail: bytes = b""
    """The venue's message, JSON."""
    seq: int | None = None
