"""Decides what the bus gets when: at once, from memory, or from the log.

```text
          room                       bound passed, archive there
 LIVE ◀──────────▶ queue in memory ─────────────────────────────▶ BEHIND: read the log
   ▲                     │ no archive: the oldest are dropped and declared      │
   └─────────────────────┴───────────────── caught up ◀─────────────────────────┘
```
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

from ssmd_core.clock import iso
from ssmd_core.metrics import Metrics
from ssmd_core.pipeline.encoding import STATUS
from ssmd_core.pipeline.guard import Guarded
from ssmd_core.sink import Message

__all__ = ["Publisher"]

_MESSAGE_COST = 400
"""Bytes that a message waiting in memory costs beside its payload."""
_MAX_LINES_OUT = 4_096
_MAX_GIVEN = 65_536
_AWAY = "the bus was away for longer than memory holds, and there is no archive"
_TELL_SECONDS = 10.0
_PAUSE_AT_MESSAGES = 8_192
_RESUME_AT_MESSAGES = 2_048
ARCHIVED_LIMIT_BYTES = 8 * 1024 * 1024
MEMORY_LIMIT_BYTES = 40 * 1024 * 1024
"""So that a container of 128 MiB outlives an outage of the bus."""


class Publisher:
    """The queue before one transport, in order, bounded.

    Args:
        bus: where messages go; asked for room first.
        metrics: backlog and drops are counted here.
        report: the ledger.
        archived: an archive holds every frame, so that memory may be given up.
        limit_bytes: bound of the queue.
    """

    def __init__(
        self,
        bus: Guarded,
        metrics: Metrics,
        report: Callable[..., Any],
        *,
        archived: bool,
        limit_bytes: int | None = None,
    ) -> None:
        self._bus = bus
        self._metrics = metrics
        self._report = report
        self._archived = archived
        default = ARCHIVED_LIMIT_BYTES if archived else MEMORY_LIMIT_BYTES
        self._limit = limit_bytes or default
        self._queue: deque[Message] = deque()
        self._queue_bytes = 0
        self._lines: deque[Message] = deque(maxlen=_MAX_LINES_OUT)
        """Ledger lines that an overflow left over."""
        self._lines_out: deque[int] = deque(maxlen=_MAX_LINES_OUT)
        """``ts`` of ledger lines submitted: losing one is no loss of data."""
        self._given: deque[tuple[int, int]] = deque(maxlen=_MAX_GIVEN)
        """Without an archive: last ``ts`` and length of what was handed to the bus."""
        self.behind_from: int | None = None
        """None while live; else the receipt time up to which the bus has been given all."""
        self.lost = 0
        """Messages dropped that no archive holds."""
        self._dropped = 0
        self._dropped_from = 0
        self._dropped_to = 0
        self._told_at = 0.0

    # ── in ───────────────────────────────────────────────────────────────────────

    def submit(self, messages: Sequence[Message]) -> bool:
        """Publish live messages, or queue them behind what waits; say whether any wait."""
        if not messages or self.behind_from is not None:
            return False
        if not self._queue and not self._lines and len(messages) <= self._bus.room():
            self._give(messages)
            return False
        self._queue.extend(messages)
        self._queue_bytes += _cost(messages)
        self.pump()
        if self._queue_bytes > self._limit:
            self._overflow()
        return bool(self._queue)

    def submit_status(self, message: Message) -> None:
        """Publish a ledger line; behind, the log brings it."""
        if self.behind_from is None:
            self._lines_out.append(message.ts)
            self.submit([message])

    def pump(self) -> None:
        """Give the transport what it has room for."""
        while self._lines and (room := self._bus.room()) > 0:
            self._give([self._lines.popleft() for _ in range(min(room, len(self._lines)))])
        while self._queue:
            room = min(self._bus.room(), len(self._queue))
            if room <= 0:
                break
            part = [self._queue.popleft() for _ in range(room)]
            self._queue_bytes -= _cost(part)
            self._give(part)
        if self.behind_from is None:
            self._metrics.backlog_bytes = self._queue_bytes
        if not self._queue:
            self._declare_dropped()

    # ── what the pipeline asks ───────────────────────────────────────────────────

    def wants_pause(self, *, paused: bool) -> bool:
        """Say whether reading should pause: the bus is there, but slower than the venue."""
        if len(self._queue) <= (_RESUME_AT_MESSAGES if paused else _PAUSE_AT_MESSAGES):
            return False
        return self.behind_from is None and self._bus.connected()

    def position(self, head_ts: int) -> int:
        """Return the receipt time up to which everything is acknowledged, for the cursor."""
        places = [head_ts]
        if self.behind_from is not None:
            places.append(self.behind_from)
        if self._queue:
            places.append(self._oldest_waiting() - 1)
        unacked = self._bus.oldest_unacked()
        if unacked is not None:
            places.append(unacked - 1)
        return min(places)

    @property
    def backlog(self) -> int:
        """How many messages wait in memory."""
        return len(self._queue)

    def resume_from(self, position: int) -> None:
        """Begin behind: the log holds frames after ``position`` that the bus has not."""
        self.behind_from = position

    def fall_behind(self) -> None:
        """Give memory up; the log goes on from the oldest message that waits."""
        if self._queue:
            self._go_behind(self._oldest_waiting() - 1)

    def passed_by(self, size_bytes: int) -> None:
        """Take note of frames that came and are left to the log."""
        self._metrics.backlog_bytes += size_bytes

    def advanced_to(self, position: int, size_bytes: int = 0) -> None:
        """Take note of how far the log was given to the bus, and of how much that was."""
        self.behind_from = max(position, self.behind_from or 0)
        self._metrics.backlog_bytes = max(0, self._metrics.backlog_bytes - size_bytes)

    def caught_up(self) -> None:
        """Go on live."""
        self.behind_from = None
        self._metrics.backlog_bytes = 0

    def owes_records(self) -> bool:
        """Say whether anything but ledger lines waits or is not acknowledged."""
        if self.behind_from is not None or self._unacked_records():
            return True
        return any(message.kind != STATUS for message in self._queue)

    def tell_drops(self, now: float) -> None:
        """Declare drops that go on, now and then. Called on a timer, in monotonic seconds."""
        if self._dropped and now - self._told_at >= _TELL_SECONDS:
            self._told_at = now
            self._declare_dropped()

    def trim(self) -> None:
        """Forget what is acknowledged. Called on a timer."""
        oldest = self._bus.oldest_unacked() if self._given else None
        while self._given and (oldest is None or self._given[0][0] < oldest):
            self._given.popleft()

    def close(self) -> None:
        """Count what is given up at the end."""
        if not self._archived:
            while self._queue:
                self._drop_oldest()
            self.lost += self._unacked_records()
        self._declare_dropped("the bus did not take it before the stop, and there is no archive")

    # ── between ──────────────────────────────────────────────────────────────────

    def _oldest_waiting(self) -> int:
        # Not the first: a ledger line may stand before frames that are older.
        return min(message.ts for message in self._queue)

    def _go_behind(self, position: int) -> None:
        self.behind_from = position
        self._queue.clear()
        self._queue_bytes = 0

    def _unacked_records(self) -> int:
        """Count what was handed to the bus and is not acknowledged, ledger lines apart.

        The transport's own count, where it keeps one; else what was given since the oldest
        that is not acknowledged, which some later acknowledgement may have reduced.
        """
        oldest = self._bus.oldest_unacked()
        if oldest is None:
            return 0
        waiting = {m.ts for m in (*self._queue, *self._lines) if m.kind == STATUS}
        lines = sum(ts >= oldest and ts not in waiting for ts in self._lines_out)
        given = sum(count for last_ts, count in self._given if last_ts >= oldest)
        return max(0, (self._metrics.unacked or given) - lines)

    def _give(self, messages: Sequence[Message]) -> None:
        if not self._archived:
            self._given.append((messages[-1].ts, len(messages)))
        fault = self._bus.publish(messages)
        if fault:
            self._not_given(messages, fault)

    def _not_given(self, messages: Sequence[Message], fault: str) -> None:
        if self._archived:
            # The log has them all: it is read again until the transport takes them.
            self._go_behind(min(m.ts for m in (*messages, *self._queue)) - 1)
            return
        self._given.pop()
        records = [message for message in messages if message.kind != STATUS]
        if not records:
            return  # a ledger line about a lost ledger line would never end
        self._metrics.dropped.add("transport_error", len(records))
        self.lost += len(records)
        self._report("dropped", sink="transport", reason=fault, messages=len(records))

    def _overflow(self) -> None:
        if self._archived:
            self.fall_behind()
            return
        while self._queue_bytes > self._limit:
            self._drop_oldest()
        self._metrics.backlog_bytes = self._queue_bytes

    def _drop_oldest(self) -> None:
        message = self._queue.popleft()
        self._queue_bytes -= _cost((message,))
        if message.kind == STATUS:
            # What says what is missing is the last to be given up, and goes first after.
            self._lines.append(message)
            return
        self._dropped_from = self._dropped_from or message.ts
        self._dropped_to = message.ts
        self._dropped += 1
        self.lost += 1
        self._metrics.dropped.add("bus_backlog")

    def _declare_dropped(self, reason: str = _AWAY) -> None:
        if self._dropped:
            count, self._dropped = self._dropped, 0
            from_ts, self._dropped_from = self._dropped_from, 0
            self._report(
                "dropped",
                sink="transport",
                reason=reason,
                messages=count,
                from_ts=iso(from_ts),
                to_ts=iso(self._dropped_to),
            )


def _cost(messages: Sequence[Message]) -> int:
    # A list first: in the hot path it is twice as fast as a generator.
    return sum([len(message.payload) for message in messages]) + _MESSAGE_COST * len(messages)
