"""Decides which fetched records were published already, by the venue's key of each."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

from ssmd_core.sink import Message

__all__ = ["Seen"]

_KEPT = 8_192


class Seen:
    """The ids of the last records with a key: a few seconds to minutes, whatever the rate.

    Longer than the bus remembers, where the market was quiet or the venue away.
    """

    def __init__(self, kept: int = _KEPT) -> None:
        self._live: deque[str] = deque(maxlen=kept)
        self._fetched: dict[str, int] = {}
        """Id → the ``ts`` of the frame that brought it first."""
        self._kept = kept
        self.note = self._live.append
        """Take the id of a record that a live frame brought. Hot: once a keyed record."""

    def note_fetched(self, message_id: str, ts: int) -> None:
        """Take the id of a record that was fetched, with the ``ts`` of its frame."""
        self._fetched.setdefault(message_id, ts)
        if len(self._fetched) > self._kept:
            del self._fetched[next(iter(self._fetched))]

    def fresh(self, messages: Sequence[Message]) -> list[Message]:
        """Return those that neither a live frame nor an earlier fetched one brought.

        The same frame read again gives the same answer: it may be the log's second try.
        """
        live = frozenset(self._live)
        out: list[Message] = []
        for message in messages:
            if message.msg_id in live:
                continue
            if self._fetched.get(message.msg_id, message.ts) < message.ts:
                continue
            self.note_fetched(message.msg_id, message.ts)
            out.append(message)
        return out
