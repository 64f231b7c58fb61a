"""What a bus is to those who read it afterwards: the messages it holds, in its own order."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Sequence
from typing import NamedTuple

__all__ = ["BusReader", "StoredMessage"]


class StoredMessage(NamedTuple):
    """One message as the bus holds it."""

    place: int
    """The bus's own number of it; grows with the order of storing."""
    subject: str
    msg_id: str
    ts: int
    """``Ssmd-Ts``; 0 where the header is missing."""
    origin: str
    """``Ssmd-Origin``; empty for live."""
    schema: str
    """``Ssmd-Schema``; empty for ``status``."""
    payload: bytes
    """Empty where only headers were asked for."""


class BusReader(ABC):
    """A bus opened for reading. Changes nothing there; raises ``TransportUnusable``."""

    @abstractmethod
    async def environments(self, feed: str) -> Sequence[str]:
        """Return the environments that have messages of a feed, in alphabetical order."""

    @abstractmethod
    def messages(
        self, environment: str, feed: str, *, after: int = 0, payloads: bool = False
    ) -> AsyncIterator[Sequence[StoredMessage]]:
        """Yield what is held of ``{environment}.{feed}.>`` at the time of the call.

        Args:
            environment: first token of the subjects.
            feed: second token of the subjects.
            after: leave out what was stored at or before this ``place``.
            payloads: bring the payloads, too.
        """

    def subject(self, environment: str, feed: str, kind: str, ticker: str) -> str:
        """Return the subject of a record. Override it where not every ticker is a legal tail."""
        return f"{environment}.{feed}.{kind}.{ticker}"
