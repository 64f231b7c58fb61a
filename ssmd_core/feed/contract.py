"""What a feed is: the classes its author implements, and the facts and wishes exchanged.

A feed is sans-I/O. The host owns sockets, pings, backoff, receipt times, gap
detection, queues, ordering and shutdown. It hands the feed bytes and facts
(``Fact``), and carries out what the feed wishes (``Action``).
"""

from __future__ import annotations

import enum
from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol

import msgspec

from ssmd_core.errors import ParseError
from ssmd_core.feed.plan import ConnectionPlan, Endpoint, Heartbeat
from ssmd_core.feed.repair import Fetch, Missed
from ssmd_core.records import Record

__all__ = [
    "Acknowledged",
    "Action",
    "ConnectionPlan",
    "Endpoint",
    "Event",
    "Fact",
    "Feed",
    "FeedContext",
    "FrameKind",
    "FrameSender",
    "GapFound",
    "Heartbeat",
    "Parsed",
    "Refused",
    "ReplyOverdue",
    "Reset",
    "Send",
    "Session",
    "Subscribed",
    "Timer",
    "TimerFired",
    "Unsubscribed",
    "Verdict",
    "WebSocketFeed",
]


# ── what the host hands to a feed ────────────────────────────────────────────────


@dataclass(frozen=True, slots=True, kw_only=True)
class FeedContext:
    """Where a feed is to run. Opens nothing."""

    name: str
    """The feed's name: first token after the environment in subjects."""
    environment: str
    endpoint: str
    """The URL of the feed file's version in effect."""
    version: Mapping[str, Any]
    """That version's keys, such as ``parser_config`` or ``auth_method``."""
    environ: Mapping[str, str] = field(repr=False)
    """The process environment, secrets included: read credentials from here."""
    keys: Mapping[str, str] = field(default_factory=dict, repr=False)
    """Field of a credential → variable that holds it, from the environment file's ``keys``."""
    warn: Callable[[str], None] = print
    """Tell the operator something at start."""


class Session(Protocol):
    """One connection to the venue as its feed sees it."""

    @property
    def plan(self) -> ConnectionPlan:
        """What this connection was made for."""
        ...

    @property
    def channels(self) -> Mapping[Hashable, str]:
        """Channel id → channel name, of the subscriptions the venue confirmed."""
        ...

    @property
    def state(self) -> Any:
        """What ``new_state`` returned for this connection: the feed's own memory."""
        ...

    def next_id(self) -> int:
        """Return a request id not used before on this connection, from 1."""
        ...

    def now_ns(self) -> int:
        """Receipt time now."""
        ...


# ── what a feed says ─────────────────────────────────────────────────────────────


class FrameKind(enum.Enum):
    """What a frame proves about the connection."""

    DATA = "data"
    REPLY = "reply"
    HEARTBEAT = "heartbeat"
    UNKNOWN = "unknown"
    """A type that the feed does not know: kept, and a sign of life."""
    MALFORMED = "malformed"
    """Not readable at all: kept, and proves nothing."""


class Parsed(msgspec.Struct, frozen=True, gc=False):
    """What one frame says. Built once a frame, so it is small."""

    label: str
    """The venue's own message type; counted in metrics."""
    records: tuple[Record, ...] = ()
    kind: FrameKind = FrameKind.DATA
    sid: Hashable = None
    """Channel id: the scope of the sequence number."""
    first_seq: int | None = None
    last_seq: int | None = None
    """Equal to ``first_seq`` where a frame carries one number."""
    event: Event | None = None
    fault: str = ""
    """What could not be read, where the envelope could; counted as a parse error."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Subscribed:
    """The venue confirmed a subscription."""

    request: Hashable
    channel: str
    sid: Hashable


@dataclass(frozen=True, slots=True, kw_only=True)
class Acknowledged:
    """The venue carried out a request that opens no channel."""

    request: Hashable
    sid: Hashable = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Unsubscribed:
    """The venue ended a subscription as asked."""

    request: Hashable
    sid: Hashable


@dataclass(frozen=True, slots=True, kw_only=True)
class Refused:
    """The venue said no, or took a subscription away."""

    request: Hashable
    code: int | str
    reason: str
    sid: Hashable = None
    ends_sid: bool = False
    """The subscription ``sid`` is over: its coverage ends here."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GapFound:
    """The host missed sequence numbers ``first``..``last`` of a channel."""

    sid: Hashable
    channel: str
    first: int
    last: int


@dataclass(frozen=True, slots=True, kw_only=True)
class TimerFired:
    """A ``Timer`` of this connection ran out."""

    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplyOverdue:
    """No reply to a ``Send`` came in time."""

    request: Hashable


Event = Subscribed | Acknowledged | Unsubscribed | Refused
"""Read from a frame by ``parse``."""

Fact = Event | GapFound | TimerFired | ReplyOverdue
"""Handed to ``on_event``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Send:
    """Send a text message."""

    data: bytes
    request: Hashable = None
    """The id that the reply will carry; None where none is expected."""
    subscribes: str | None = None
    """The channel asked for: the connection is live once each was answered."""
    markets: int = 0
    """How many markets are asked for; 0 for all."""
    reply_seconds: float = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Timer:
    """Call back with ``TimerFired`` on this connection."""

    seconds: float
    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Reset:
    """Give this connection up and make a new one."""

    reason: str


Action = Send | Timer | Reset


class Verdict(enum.Enum):
    """What a failure to connect means."""

    RETRY = "retry"
    FATAL = "fatal"
    """The credentials are refused: exit 3 at the first connection, slow retries later."""


# ── what an author implements ────────────────────────────────────────────────────


class _Parser(ABC):
    """What every feed has: the hot call."""

    kinds: frozenset[str] = frozenset()
    """Kinds of record that ``parse`` yields."""
    strict_json: ClassVar[bool] = False
    """``parse`` decodes the whole frame with a strict JSON decoder: the host need not check."""

    first_sequence: ClassVar[int | None] = None
    """The number that a new channel starts with; None where it is not known."""

    @abstractmethod
    def parse(self, data: bytes, session: Session) -> Parsed:
        """Read one text frame (valid UTF-8). The hot call, once a frame.

        Records must follow from the frame alone: when the bus catches up, frames of the
        archive are read again, in a session that has a fresh state and no channels.

        Raises:
            ParseError: the frame is malformed. Anything else raised counts as one too;
                the frame is archived all the same.
        """

    def parse_batch(self, frames: Sequence[bytes], session: Session) -> list[Parsed]:
        """Read the text frames of one wake-up, one ``Parsed`` each.

        Override it only when measured to be faster.
        """
        out: list[Parsed] = []
        for data in frames:
            try:
                out.append(self.parse(data, session))
            except Exception as error:  # noqa: BLE001  a feed's fault never costs a frame
                out.append(malformed(error))
        return out

    def skim_batch(self, frames: Sequence[bytes], session: Session) -> list[Parsed]:
        """Read the text frames of one wake-up where only an archive is fed.

        Says what ``parse_batch`` says, but ``records`` may be left out: where the host wants
        to know how old data is it reads single frames in full. A frame whose records alone
        cannot be read need not be malformed here.
        """
        return self.parse_batch(frames, session)

    def new_state(self, plan: ConnectionPlan) -> Any:  # noqa: ARG002  for overriders
        """Return the feed's own memory of one connection."""
        return None

    def on_event(self, event: Fact, session: Session) -> Iterable[Action]:  # noqa: ARG002  for overriders
        """Answer a rare fact. By default an overdue reply resets the connection."""
        if isinstance(event, ReplyOverdue):
            return (Reset(reason="no reply to a subscription"),)
        return ()


class WebSocketFeed(_Parser):
    """A venue behind a WebSocket: nine feeds of ten.

    The smallest one writes ``endpoint``, ``on_open`` and ``parse``.
    """

    heartbeat: Heartbeat | None = None

    def connections(self) -> Sequence[ConnectionPlan]:
        """Return the connections to keep up; more than one where a venue caps a socket."""
        return (ConnectionPlan(),)

    @abstractmethod
    def endpoint(self, plan: ConnectionPlan) -> Endpoint:
        """Return where to connect. Called for every attempt."""

    @abstractmethod
    def on_open(self, session: Session) -> Iterable[Action]:
        """Return what to send once the connection is open, usually subscriptions."""

    def backfill(self, missed: Missed) -> Fetch | None:  # noqa: ARG002  for overriders
        """Return the first request that brings back what a channel missed, None: it cannot be.

        Asked after every gap, reconnect and restart. What is fetched goes to the archive's
        REST file as it came, and its records to the bus with ``Ssmd-Origin: backfill``.
        """
        return None

    def next_fetch(self, fetch: Fetch, data: bytes) -> Fetch | None:  # noqa: ARG002  for overriders
        """Return the request for the page after this one, None after the last.

        Raises:
            ParseError: the page is not what was asked for; the repair is given up.
        """
        return None

    def parse_fetched(self, data: bytes) -> Parsed:  # noqa: ARG002  for overriders
        """Read one body that was fetched; records must follow from it alone.

        Raises:
            ParseError: it is malformed. It is archived all the same.
        """
        raise ParseError("this feed fetches nothing")

    def classify(self, error: Exception) -> Verdict:
        """Say what a failed attempt means; 401 and 403 at the handshake are fatal."""
        status = getattr(error, "status", None)
        return Verdict.FATAL if status in {401, 403} else Verdict.RETRY


def malformed(error: Exception) -> Parsed:
    """Return what the host takes a frame for that ``parse`` raised on."""
    fault = str(error) if isinstance(error, ParseError) else repr(error)
    return Parsed(label="malformed", kind=FrameKind.MALFORMED, fault=fault)


class FrameSender(Protocol):
    """Where a ``Feed`` puts what it receives."""

    async def send(
        self, frames: Sequence[bytes], *, conn: int = 0, binary: frozenset[int] = frozenset()
    ) -> None:
        """Take frames in order of receipt; waits while the sinks cannot keep up.

        ``binary`` are the positions of frames that are no text: archived raw, not parsed.
        """
        ...


class Feed(_Parser):
    """The tenth feed: REST pollers, multicast, files. It does its own I/O."""

    @abstractmethod
    async def run(self, out: FrameSender) -> None:
        """Capture until cancelled. An exception is logged and retried with backoff."""
