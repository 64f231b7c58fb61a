"""What a sink is: storage that keeps frames, transport that publishes records.

Both accept synchronously and never wait: the host asks for room first. What takes
time (durability, acknowledgement, reconnecting) happens behind ``sync``, ``run``
and ``flush``.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

import msgspec

from ssmd_core.metrics import Metrics
from ssmd_core.records import Batch, Record
from ssmd_core.sink.origin import Origin

__all__ = [
    "Encoder",
    "Health",
    "Mark",
    "Message",
    "Storage",
    "StorageContext",
    "Stored",
    "Transport",
    "TransportContext",
]


class Health(NamedTuple):
    """Whether a sink takes data now, and if not, why, in one sentence."""

    ok: bool
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class SinkContext:
    """What every sink is given."""

    feed: str
    environment: str
    metrics: Metrics
    """A storage keeps ``archived``, ``archived_bytes`` and ``archive_sync`` in it; a transport
    ``published``, ``duplicates``, ``publish_retries``, ``publish_duration``, and ``unacked``,
    from which the host tells at a stop what was lost (without it, from its own, coarser count)."""
    report: Callable[..., None]
    """Write a ledger event: ``report("rotated", file=…)``; the word, then its fields."""
    environ: Mapping[str, str] = field(repr=False)
    """The process environment: read secrets from here."""
    warn: Callable[[str], None] = print


def _ignore_loss(_frames: int, _from_ts: int, _to_ts: int, _reason: str) -> None:
    """Leave it: nobody counts."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StorageContext(SinkContext):
    """What a storage is given."""

    on_lost: Callable[[int, int, int, str], None] = _ignore_loss
    """To be called for live frames that were taken and are gone for certain: how many, the
    receipt times of the first and the last of them, and why. The host declares them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TransportContext(SinkContext):
    """What a transport is given."""

    kinds: frozenset[str]
    """Kinds of record that will be published, ``status`` apart."""
    archived: bool
    """Whether an archive holds what the bus does not take."""
    on_room: Callable[[], None]
    """To be called when ``room`` grew after it was short, or the sink became healthy."""
    on_rejected: Callable[[Message, str], None]
    """To be called for a message that the bus will never take, with the reason."""


# ── storage ──────────────────────────────────────────────────────────────────────


class Mark(NamedTuple):
    """A place in the archive: a file relative to its root and a byte offset in it."""

    file: str
    offset: int


class Storage(ABC):
    """Keeps frames verbatim, in order, and the coverage ledger beside them."""

    sync_seconds: float = 0.2
    """How often the host calls ``sync``."""

    @abstractmethod
    async def open(self) -> int:
        """Take the lock, repair what a crash left, and return the last ``ts`` kept (0: none).

        Raises:
            StorageUnusable: lock held, directory missing or not writable.
        """

    @abstractmethod
    def append(self, batch: Batch) -> None:
        """Append a batch, whole or not at all. Does not wait for durability.

        Raises:
            StorageFailed: nothing of the batch was kept; it may be tried again.
        """

    @abstractmethod
    def note(self, ts: int, line: bytes) -> None:
        """Append one line (JSON, no newline) to the coverage ledger of the day of ``ts``.

        Raises:
            StorageFailed: the line was not kept.
        """

    @abstractmethod
    async def sync(self) -> None:
        """Return when everything appended before the call is durable.

        Raises:
            StorageFailed: what was appended since the last sync may not be durable.
        """

    @abstractmethod
    def read(self, after: int, upto: int) -> AsyncIterator[Batch]:
        """Yield the frames of every stream with ``after < ts <= upto``, in order of ``ts``.

        For catch-up: batches keep their ``stream`` and ``conn``, and may be cut anew.
        """

    async def notes(
        self,
        after: int,  # noqa: ARG002  for overriders
        upto: int,  # noqa: ARG002  for overriders
    ) -> AsyncIterator[tuple[int, bytes]]:
        """Yield ``ts`` and line of the ledger with ``after < ts <= upto``, in order.

        A storage that cannot read its ledger back yields none.
        """
        nothing: tuple[tuple[int, bytes], ...] = ()
        for note in nothing:
            yield note

    def release(self, upto: int) -> None:
        """Take note that the bus has everything up to ``upto``: catch-up will not read it again.

        Called a few times a second, with the archive's end where there is no bus. What is
        not released is never deleted or moved out of reach of ``read``.
        """

    @abstractmethod
    def mark(self) -> Mark:
        """Return where the next live frame will stand."""

    @abstractmethod
    def load(self, name: str) -> bytes | None:
        """Return a small durable value kept beside the archive, such as ``connector``."""

    @abstractmethod
    def save(self, name: str, value: bytes) -> None:
        """Replace such a value atomically."""

    def health(self) -> Health:
        """Say whether appends succeed."""
        return Health(ok=True)

    def degraded(self) -> Sequence[str]:
        """Say what operators should know although frames are taken: one sentence each."""
        return ()

    @abstractmethod
    async def aclose(self) -> None:
        """Sync, close, release the lock."""


# ── transport ────────────────────────────────────────────────────────────────────


class Encoder(Protocol):
    """A wire schema, compiled."""

    @property
    def label(self) -> str:
        """``name:version``, the value of the ``Ssmd-Schema`` header."""
        ...

    @property
    def kinds(self) -> frozenset[str]:
        """Kinds that the schema has a struct for."""
        ...

    def encode(self, record: Record, ts: int) -> bytes:
        """Return the wire form of a record whose frame was received at ``ts``.

        Raises:
            RecordError: the schema cannot carry this record.
        """
        ...


class Message(msgspec.Struct, frozen=True, gc=False):
    """One message for the bus."""

    kind: str
    ticker: str
    """Empty only for ``status``, which has no ticker in its subject."""
    payload: bytes
    msg_id: str
    ts: int
    """Receipt time of the frame it came from: its place in the log."""
    schema: str = ""
    origin: str = Origin.LIVE
    """An ``Origin``, or what a stranger's message on the bus says."""


class Stored(NamedTuple):
    """What the bus was found to hold of this connector's environment and feed."""

    last_ts: int
    """The highest ``ts`` of a message that is live or caught up; 0 where there is none."""
    ids: frozenset[str]
    """Ids of the messages with a ``ts`` above the one asked for."""


class Transport(ABC):
    """Publishes messages in order; each counts only once the bus acknowledged it."""

    async def open(self) -> None:
        """Look at the bus once, within seconds. An unreachable bus is no fault.

        Raises:
            TransportUnusable: it answers, but will not take what would be published.
        """

    async def run(self) -> None:
        """Keep the connection up until cancelled. Runs beside everything else."""

    @abstractmethod
    def room(self) -> int:
        """Return how many messages ``publish`` will take now; 0 while the bus is away."""

    @abstractmethod
    def publish(self, messages: Sequence[Message]) -> None:
        """Take messages, at most ``room()``, into the window of unacknowledged ones, in order."""

    @abstractmethod
    def oldest_unacked(self) -> int | None:
        """Return the least ``ts`` of the messages not acknowledged, None when there is none."""

    def connected(self) -> bool:
        """Say whether the bus is there: full and connected is slow, full and not is down."""
        return True

    def health(self) -> Health:
        """Say whether messages are being taken and acknowledged."""
        return Health(ok=True)

    async def stored(self, after: int | None) -> Stored | None:  # noqa: ARG002  for overriders
        """Look at what the bus holds above a ``ts``, so that it is not published again.

        Asked once after a start, where memory of what was acknowledged ends. The host
        bounds the wait.

        Args:
            after: receipt time; None where it is not known: a little before ``last_ts``.

        Returns:
            None where it cannot be told now, or not at all.
        """
        return None

    @abstractmethod
    async def flush(self) -> None:
        """Return when everything taken is acknowledged. The host bounds the wait."""

    async def aclose(self) -> None:
        """Close the connection."""
