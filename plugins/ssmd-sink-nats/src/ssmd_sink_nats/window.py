"""Which messages are unacknowledged, which of them are to be sent now, and when to hold back."""

from __future__ import annotations

import enum
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from ssmd_core.sink import Message

__all__ = ["Run", "Stage", "Window"]

_MAX_GROUP = 256
"""So many messages at most go out together while a refusal is feared."""
_MAX_SHARE = 8
"""A batch of more than this part of the limit in bytes is accounted for in halves."""


class Stage(enum.Enum):
    """What is done with messages that the bus turned down."""

    FLOWING = "flowing"
    """None was: everything is sent as it comes."""
    DRAINING = "draining"
    """One was: nothing is sent until the bus answered for all that is on the way."""
    WAITING = "waiting"
    """All answered: the rest waits for its next turn."""
    PROBING = "probing"
    """The oldest was sent alone, to see whether the bus takes it now."""


_FLOWING = Stage.FLOWING


class Run(NamedTuple):
    """Messages with numbers that follow each other."""

    first: int
    """The number of the first."""
    messages: Sequence[Message | None]
    """None stands where one is answered already."""

    @property
    def end(self) -> int:
        """The number after the last."""
        return self.first + len(self.messages)


_NONE_DUE = Run(0, ())


class Window:
    """The messages taken and not acknowledged, numbered in order.

    Numbers never repeat over the life of a process, so that the window outlives the
    connections it is sent on. All times are seconds of one monotonic clock.
    """

    __slots__ = (
        "_accepted",
        "_bytes",
        "_careful",
        "_end",
        "_ever_sent",
        "_head",
        "_in_flight",
        "_kept",
        "_limit",
        "_limit_bytes",
        "_probe",
        "_slots",
        "_stage",
        "_suspect_end",
        "_unsent",
        "_vouched",
    )

    def __init__(self, limit: int, limit_bytes: int) -> None:
        self._limit = limit
        self._limit_bytes = limit_bytes
        self._slots: list[Message | None] = []
        """From the oldest unacknowledged message to the newest; None where one is answered."""
        self._kept = 0
        """How many of the slots hold a message."""
        self._accepted: deque[tuple[int, float, int]] = deque()
        """For each batch the number after its last, when it was taken, and its bytes."""
        self._bytes = 0
        """Of the batches that are not answered to the last message."""
        self._head = self._end = 0
        """The oldest unacknowledged number, and the one that comes next."""
        self._unsent = self._ever_sent = 0
        """The first number not sent on this connection, and on any."""
        self._in_flight = 0
        self._suspect_end = self._vouched = 0
        """Between them: sent on an earlier connection, unanswered, and not yet on this one."""
        self._stage = Stage.FLOWING
        self._careful = False
        self._probe = 0

    def __len__(self) -> int:
        return self._kept

    @property
    def stage(self) -> Stage:
        """What is done with messages that were turned down."""
        return self._stage

    @property
    def free(self) -> bool:
        """Whether nothing holds back what is given: none is turned down, none is feared."""
        return self._stage is _FLOWING and not self._careful

    @property
    def in_flight(self) -> int:
        """How many messages are sent and not answered."""
        return self._in_flight

    @property
    def unsent(self) -> bool:
        """Whether any message was not sent on this connection."""
        return self._unsent < self._end > self._head

    @property
    def head(self) -> int:
        """The number of the oldest message not acknowledged; it only grows."""
        return self._head

    @property
    def room(self) -> int:
        """How many messages it will take."""
        if self._bytes >= self._limit_bytes:
            return 0
        return max(0, self._limit - self._kept)

    @property
    def oldest_ts(self) -> int | None:
        """The least ``ts`` that is not acknowledged."""
        # Asked a few times a second, while messages come by the ten thousand: they are
        # looked through here, and not when they are taken.
        return min([message.ts for message in self._slots if message is not None], default=None)

    @property
    def oldest_accepted(self) -> float | None:
        """When the oldest message was taken."""
        return self._accepted[0][1] if self._accepted else None

    @property
    def oldest_sent(self) -> float | None:
        """When the oldest message that was ever sent was taken, which is never later."""
        return self._accepted[0][1] if self._accepted and self._head < self._ever_sent else None

    @property
    def oldest_suspect(self) -> float | None:
        """The same where it may be stored, and this connection did not offer it again yet."""
        return self.oldest_sent if self._vouched < self._suspect_end else None

    @property
    def careful(self) -> bool:
        """Whether no subject is twice on the way, so that what is refused changes no order."""
        return self._careful

    @careful.setter
    def careful(self, careful: bool) -> None:
        self._careful = careful

    def once_sent(self) -> Iterator[tuple[int, Message]]:
        """Yield the messages that were sent, on this connection or another."""
        return ((n, message) for n, message in self._numbered() if n < self._ever_sent)

    def all_of(self, kind: str) -> dict[int, Message]:
        """Return the messages of a kind, by number."""
        return {n: message for n, message in self._numbered() if message.kind == kind}

    def take(self, messages: Sequence[Message], now: float) -> None:
        """Append messages in order."""
        count = len(messages)
        size = sum([len(message.payload) for message in messages])
        if size * _MAX_SHARE > self._limit_bytes and count > 1:
            # Bytes are given back batch by batch: large ones must not be all or nothing.
            self.take(messages[: count // 2], now)
            self.take(messages[count // 2 :], now)
        elif count:
            self._slots += messages
            self._kept += count
            self._end += count
            self._bytes += size
            self._accepted.append((self._end, now, size))

    def next_unsent(self, limit: int, limit_bytes: int) -> Run:
        """Return the oldest messages to send now, up to a count and about a size."""
        start = max(self._unsent, self._head)
        if start >= self._end:
            return _NONE_DUE
        if self._stage is _FLOWING and not self._careful:
            if self._end - start > limit or self._bytes > limit_bytes:
                return self._due(start, self._fitting(start, limit, limit_bytes))
            return Run(start, self._slots[start - self._head :])
        match self._stage:
            case Stage.FLOWING if not self._in_flight:
                return self._due(start, self._distinct(start, _MAX_GROUP))
            case Stage.PROBING if not self._in_flight:
                return self._due(start, 1)
            case _:
                return _NONE_DUE

    def _due(self, start: int, count: int) -> Run:
        at = start - self._head
        return Run(start, self._slots[at : at + count])

    def _fitting(self, start: int, limit: int, limit_bytes: int) -> int:
        """Count the slots from ``start`` on that go out together."""
        at, size, count = start - self._head, 0, 0
        for message in self._slots[at : at + limit]:
            if size >= limit_bytes:
                break
            size += len(message.payload) if message is not None else 0
            count += 1
        return count

    def _distinct(self, start: int, limit: int) -> int:
        """Count the slots from ``start`` on up to where a subject would come again."""
        chosen = 0
        seen: set[tuple[str, str]] = set()
        slots = self._slots[start - self._head :]
        for taken, message in enumerate(slots):
            if message is None:
                continue
            seen.add((message.kind, message.ticker))
            if len(seen) <= chosen or chosen >= limit:
                return taken
            chosen += 1
        return len(slots)

    def sent(self, end: int) -> int:
        """Note that all before ``end`` was sent now; return how many had been before."""
        start = max(self._unsent, self._head)
        if end <= start:
            return 0
        again = 0
        if start < self._ever_sent:
            again = self._count(start, min(end, self._ever_sent))
        self._in_flight += self._count(start, end)
        self._unsent = end
        self._vouched = max(self._vouched, end)
        self._ever_sent = max(self._ever_sent, end)
        return again

    def find(self, number: int) -> Message | None:
        """Return an unacknowledged message."""
        at = number - self._head
        return self._slots[at] if 0 <= at < len(self._slots) else None

    def drop(self, number: int) -> None:
        """Take out a message that was not sent."""
        self._remove((number,))

    def forget(self, numbers: Iterable[int]) -> None:
        """Take out messages, sent or not, that no answer will come for."""
        numbers = list(numbers)
        sent = sum(number < self._unsent for number in numbers)
        self._in_flight = max(0, self._in_flight - sent)
        self._remove(numbers)

    def answered(self, numbers: Sequence[int]) -> int:
        """Take out sent messages whose fate is known; return how many that were."""
        removed = self._remove(numbers)
        self._in_flight = max(0, self._in_flight - removed)
        return removed

    def turned_down(self, number: int) -> None:
        """Note that a sent message was not stored; it stays, and sending pauses."""
        if self.find(number) is not None:
            self._in_flight = max(0, self._in_flight - 1)
            self._stage = Stage.DRAINING

    def settle(self) -> bool:
        """Move on once all is answered. Return True when a retry must now be timed."""
        if self._in_flight:
            return False
        match self._stage:
            case Stage.DRAINING:
                self._stage = Stage.WAITING
                return True
            case Stage.PROBING if self._head > self._probe:
                self._stage = Stage.FLOWING
            case _:
                pass
        return False

    def probe(self) -> None:
        """Start over with the oldest message alone."""
        self._stage, self._unsent, self._in_flight = Stage.PROBING, self._head, 0
        self._probe = self._head

    def mistrust(self, *, suspect: bool) -> None:
        """Begin with a new connection; ``suspect`` where nobody asked what is stored."""
        self._vouched, self._suspect_end = 0, self._ever_sent if suspect else 0

    def restart(self) -> None:
        """Start over with everything: what was on the way is lost with its connection."""
        self._stage, self._unsent, self._in_flight = Stage.FLOWING, self._head, 0

    def _numbered(self) -> Iterator[tuple[int, Message]]:
        return ((n, m) for n, m in enumerate(self._slots, self._head) if m is not None)

    def _count(self, start: int, end: int) -> int:
        """Count the messages from ``start``, at the head or behind it, to before ``end``."""
        slots = self._slots
        if self._kept < len(slots):
            slots = slots[start - self._head : end - self._head]
            return len(slots) - slots.count(None)
        return min(end, self._end) - start

    def _remove(self, numbers: Sequence[int]) -> int:
        head, count = self._head, len(numbers)
        if count and numbers[0] == head and numbers == list(range(head, head + count)):
            # Answers come in the order of the questions, but for refusals.
            removed = self._count(head, head + count)
            done = min(count, len(self._slots))
        else:
            removed, done = self._blank(numbers), 0
        self._kept -= removed
        self._advance(done)
        return removed

    def _blank(self, numbers: Iterable[int]) -> int:
        """Empty the slots of these messages; return how many were not empty."""
        slots, head, removed = self._slots, self._head, 0
        for number in numbers:
            at = number - head
            if 0 <= at < len(slots) and slots[at] is not None:
                slots[at] = None
                removed += 1
        return removed

    def _advance(self, done: int) -> None:
        """Cut off so many slots, and the empty ones behind them."""
        slots = self._slots
        if self._kept < len(slots) - done:
            while done < len(slots) and slots[done] is None:
                done += 1
        if not done:
            return
        del slots[:done]
        self._head = head = self._head + done
        accepted = self._accepted
        while accepted and accepted[0][0] <= head:
            self._bytes -= accepted.popleft()[2]
