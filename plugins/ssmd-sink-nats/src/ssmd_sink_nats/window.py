"""Which messages are unacknowledged, which of them are to be sent now, and when to hold back."""

from __future__ import annotations

import enum
from collections import deque
from collections.abc import Iterable, Iterator, Sequence

from ssmd_core.sink import Message

__all__ = ["Stage", "Window"]

_MAX_GROUP = 256
"""So many messages at most go out together while a refusal is feared."""


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
        "_last_ts",
        "_limit",
        "_limit_bytes",
        "_messages",
        "_ordered",
        "_probe",
        "_stage",
        "_suspect_end",
        "_unsent",
        "_vouched",
    )

    def __init__(self, limit: int, limit_bytes: int) -> None:
        self._limit = limit
        self._limit_bytes = limit_bytes
        self._messages: dict[int, Message] = {}
        self._accepted: deque[tuple[int, float]] = deque()
        """For each batch the number after its last, and when it was taken."""
        self._bytes = 0
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
        self._last_ts = 0
        self._ordered = True

    def __len__(self) -> int:
        return len(self._messages)

    @property
    def stage(self) -> Stage:
        """What is done with messages that were turned down."""
        return self._stage

    @property
    def in_flight(self) -> int:
        """How many messages are sent and not answered."""
        return self._in_flight

    @property
    def head(self) -> int:
        """The number of the oldest message not acknowledged; it only grows."""
        return self._head

    @property
    def room(self) -> int:
        """How many messages it will take."""
        if self._bytes >= self._limit_bytes:
            return 0
        return max(0, self._limit - len(self._messages))

    @property
    def oldest_ts(self) -> int | None:
        """The least ``ts`` that is not acknowledged."""
        if not self._messages:
            return None
        if self._ordered:
            return self._messages[self._head].ts
        return min(message.ts for message in self._messages.values())

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
        return ((n, message) for n, message in self._messages.items() if n < self._ever_sent)

    def all_of(self, kind: str) -> dict[int, Message]:
        """Return the messages of a kind, by number."""
        return {n: message for n, message in self._messages.items() if message.kind == kind}

    def take(self, messages: Sequence[Message], now: float) -> None:
        """Append messages in order."""
        if not messages:
            return
        first, self._end = self._end, self._end + len(messages)
        self._messages.update(zip(range(first, self._end), messages, strict=True))
        self._accepted.append((self._end, now))
        size, last_ts = 0, self._last_ts
        for message in messages:
            size += len(message.payload)
            if message.ts < last_ts:
                self._ordered = False
            last_ts = message.ts
        self._bytes += size
        self._last_ts = last_ts

    def next_unsent(self, limit: int, limit_bytes: int) -> list[tuple[int, Message]]:
        """Return the oldest messages to send now, up to a count and about a size."""
        match self._stage:
            case Stage.DRAINING | Stage.WAITING:
                return []
            case Stage.PROBING:
                limit = 1 - self._in_flight
            case Stage.FLOWING if self._careful:
                return [] if self._in_flight else self._next_distinct(_MAX_GROUP)
            case _:
                pass
        chosen: list[tuple[int, Message]] = []
        size, find = 0, self._messages.get
        for number in range(self._unsent, self._end):
            if len(chosen) >= limit or size >= limit_bytes:
                break
            if (message := find(number)) is not None:
                chosen.append((number, message))
                size += len(message.payload)
        return chosen

    def _next_distinct(self, limit: int) -> list[tuple[int, Message]]:
        """Return the oldest unsent messages up to where a subject would come again."""
        chosen: list[tuple[int, Message]] = []
        seen: set[tuple[str, str]] = set()
        for number in range(self._unsent, self._end):
            if (message := self._messages.get(number)) is None:
                continue
            seen.add((message.kind, message.ticker))
            if len(seen) <= len(chosen) or len(chosen) >= limit:
                break
            chosen.append((number, message))
        return chosen

    def sent(self, numbers: Sequence[int]) -> int:
        """Note that these were sent now, oldest first; return how many had been before."""
        again = 0
        if numbers and numbers[0] < self._ever_sent:
            again = sum(number < self._ever_sent for number in numbers)
        if numbers:
            self._unsent = numbers[-1] + 1
            self._vouched = max(self._vouched, self._unsent)
            self._ever_sent = max(self._ever_sent, self._unsent)
            self._in_flight += len(numbers)
        return again

    def find(self, number: int) -> Message | None:
        """Return an unacknowledged message."""
        return self._messages.get(number)

    def drop(self, number: int) -> None:
        """Take out a message that was not sent."""
        self._remove((number,))

    def forget(self, numbers: Iterable[int]) -> None:
        """Take out messages, sent or not, that no answer will come for."""
        numbers = list(numbers)
        sent = sum(number < self._unsent for number in numbers)
        self._in_flight = max(0, self._in_flight - sent)
        self._remove(numbers)

    def answered(self, numbers: Iterable[int]) -> int:
        """Take out sent messages whose fate is known; return how many that were."""
        removed = self._remove(numbers)
        self._in_flight = max(0, self._in_flight - removed)
        return removed

    def turned_down(self, number: int) -> None:
        """Note that a sent message was not stored; it stays, and sending pauses."""
        if number in self._messages:
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

    def _remove(self, numbers: Iterable[int]) -> int:
        messages, removed, size = self._messages, 0, 0
        pop = messages.pop
        for number in numbers:
            message = pop(number, None)
            if message is not None:
                removed += 1
                size += len(message.payload)
        self._bytes -= size
        head, end, accepted = self._head, self._end, self._accepted
        while head < end and head not in messages:
            head += 1
        self._head = head
        while accepted and accepted[0][0] <= head:
            accepted.popleft()
        if not messages:
            self._ordered, self._last_ts = True, 0
        return removed
