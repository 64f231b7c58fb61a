"""What is in flight: when messages are sent, sent again or given up, and when there is room."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Sequence
from typing import NamedTuple, Protocol

from ssmd_core.sink import Message, TransportContext
from ssmd_sink_nats.config import NatsConfig
from ssmd_sink_nats.envelope import Envelope, Rejected
from ssmd_sink_nats.objection import Caution, Objection, never_taken
from ssmd_sink_nats.protocol import Acks, Info, Nack
from ssmd_sink_nats.subjects import STATUS, Subjects
from ssmd_sink_nats.window import Stage, Window

__all__ = ["Doubt", "Outlet", "Sender"]

_CHUNK = 4_096
_CHUNK_BYTES = 1024 * 1024
_WINDOW_BYTES = 32 * 1024 * 1024
_FORBIDDEN = "status_forbidden"
_RESEND_SECONDS = 5.0
"""What sending a window again may take: so much earlier its ids count as forgotten."""


class Doubt(NamedTuple):
    """Messages that were sent, and perhaps stored, longer ago than the bus remembers."""

    numbers: dict[str, list[int]]
    """By message id: two messages may have the same."""
    age_seconds: float


class Outlet(Protocol):
    """What is sent on: a connection, as far as sending is concerned."""

    info: Info
    inbox: str

    @property
    def writable(self) -> bool:
        """Whether it is up and keeps pace."""

    def write(self, data: bytes) -> None:
        """Hand bytes on."""


class Sender:
    """The messages taken and not acknowledged, over whichever connection there is.

    An outlet that is attached first gets the whole window again, in order and with the
    same message ids; the server drops what it has. So nothing is lost or stored twice.
    """

    def __init__(self, context: TransportContext, config: NatsConfig) -> None:
        self._context = context
        self._metrics = context.metrics
        self._limit = config.window
        self._linger_seconds = config.linger_ms / 1_000
        self._window = Window(config.window, _WINDOW_BYTES)
        subjects = Subjects(context.environment, context.feed)
        self._envelope = Envelope(subjects)
        self._status_subject = subjects.subject(STATUS, "")
        self._mute = self._told_mute = False
        """Whether ledger lines are given up, and whether that was said."""
        self._outlet: Outlet | None = None
        self._held = False
        """No stream takes what would be sent."""
        self._objection = Objection()
        self._caution = Caution()
        self._short = False
        """Room was short, and the host waits to be told of more."""
        self._moved_at = 0.0
        self._linger: asyncio.TimerHandle | None = None
        self._retry: asyncio.TimerHandle | None = None
        self._idle = asyncio.Event()
        self._idle.set()

    def __len__(self) -> int:
        return len(self._window)

    @property
    def oldest_ts(self) -> int | None:
        """The least ``ts`` not acknowledged, None when there is none."""
        return self._window.oldest_ts

    @property
    def refused(self) -> bool:
        """Whether messages are turned down for another reason than load."""
        return self._objection.lasting

    @property
    def fault(self) -> str:
        """Why messages are turned down; empty while they are taken, be it slowly."""
        return self._objection.fault

    @property
    def silent_seconds(self) -> float:
        """How long nothing was heard of what is on the way; 0 while nothing is."""
        waits = self._window.in_flight and self._outlet is not None
        return _now() - self._moved_at if waits else 0.0

    # ── what the host gives ──────────────────────────────────────────────────────

    def room(self) -> int:
        """Return how many messages ``take`` will take now; 0 while nothing can be sent."""
        room = self._room()
        self._short = self._short or not room
        return room

    def take(self, messages: Sequence[Message]) -> None:
        """Take messages in order, and write them at once unless told to linger.

        Raises:
            ValueError: more messages than the window may hold.
        """
        if len(messages) > self._limit - len(self._window):
            raise ValueError(
                f"{len(messages)} messages given, the window has room for {self._window.room}"
            )
        if not messages:
            return
        if self._mute:
            lines = [message for message in messages if message.kind == STATUS]
            self._metrics.dropped.add(_FORBIDDEN, len(lines))
            messages = [message for message in messages if message.kind != STATUS]
            if not messages:
                return
        self._window.take(messages, _now())
        self._idle.clear()
        if not self._linger_seconds or not self._window.room:
            self._send()  # with the window full, whoever waits gathers nothing more
        elif self._linger is None:
            loop = asyncio.get_running_loop()
            self._linger = loop.call_later(self._linger_seconds, self._send)
        self._metrics.unacked = len(self._window)
        self._short = self._short or not self._room()

    async def flush(self) -> None:
        """Return when everything taken is acknowledged or given up."""
        self._send()
        await self._idle.wait()

    # ── what it is sent on ───────────────────────────────────────────────────────

    def attach(self, outlet: Outlet, *, asked: bool = False) -> None:
        """Send the window again on this outlet, oldest first, and then what comes.

        ``asked`` says that nothing of it is stored, or that nobody can tell.
        """
        self._outlet = outlet
        self._window.mistrust(suspect=not asked)
        self._mute = False
        self._moved_at = _now()
        if self._objection and self._window:
            self._objection.hurry()
            self._window.probe()  # the last one was cut for what we sent: one at a time
        else:
            self._objection.withdraw()
            self._window.restart()
        self._send()
        self._settle()

    def doubt(self, dedupe_seconds: float) -> Doubt | None:
        """Return what the bus may have stored and forgotten that it has; mostly nothing.

        ``dedupe_seconds`` is how long it remembers.
        """
        since = self._window.oldest_sent
        if not _forgotten(since, dedupe_seconds):
            return None
        numbers: dict[str, list[int]] = {}
        for number, message in self._window.once_sent():
            numbers.setdefault(message.msg_id, []).append(number)
        return Doubt(numbers, _now() - (since or 0.0))

    def doubts(self, dedupe_seconds: float) -> bool:
        """Say whether such messages wait to be sent on an outlet that has them not yet."""
        attached = self._outlet is not None
        return attached and _forgotten(self._window.oldest_suspect, dedupe_seconds)

    def already_stored(self, doubt: Doubt, ids: Iterable[str]) -> None:
        """Take out what was found stored; the rest is sent again on the next outlet."""
        numbers = [number for msg_id in ids for number in doubt.numbers[msg_id]]
        self.acknowledged(Acks(numbers, len(numbers)))

    def detach(self, refusal: str = "") -> None:
        """Send nothing more for now; ``refusal`` says what of ours the server objected to."""
        self._outlet, self._short = None, True
        self._objection.cut_off(refusal)
        if self._retry is not None:
            self._retry.cancel()

    def hold(self) -> None:
        """Keep everything back: no stream would take it."""
        self._held = self._short = True

    def release(self) -> None:
        """Go on after ``hold``."""
        if self._held:
            self._held = False
            self._send()
            self._probe()
            self._tell_room()

    def close(self) -> None:
        """Let go of the outlet and the timers; what is unacknowledged stays so."""
        self._outlet = None
        for timer in (self._linger, self._retry):
            if timer is not None:
                timer.cancel()

    def forbidden(self, subject: str) -> bool:
        """Take note of a subject that we may not publish to; say whether we can do without.

        The ledger is such a one: the archive has it, and records must not wait for it.
        It is tried again on the next outlet.
        """
        if subject != self._status_subject:
            return False
        self._mute = True
        self._give_up_ledger(self._window.all_of(STATUS))
        self._settle()
        return True

    # ── what the outlet answers ──────────────────────────────────────────────────

    def acknowledged(self, acks: Acks) -> None:
        """Take stored messages out of the window."""
        metrics, window = self._metrics, self._window
        now, head, accepted = _now(), window.head, window.oldest_accepted
        stored = window.answered(acks.numbers)
        metrics.published += stored
        metrics.duplicates += acks.duplicates
        if stored and accepted is not None:
            metrics.publish_duration.observe(now - accepted, stored)
        if window.head != head or window.stage is not Stage.FLOWING:
            self._moved_at = now
        if window.free:
            self._note_unacked()
            self._tell_room()
        else:
            self._settle()

    def turned_down(self, nack: Nack) -> None:
        """Keep a message that was not stored for another turn, or give it up."""
        message = self._window.find(nack.number)
        if message is None:
            return
        self._moved_at = _now()
        if never_taken(nack):
            self._window.answered((nack.number,))
            reason = f"the stream refused it: {nack.description} ({nack.err_code})"
            self._tell_rejected([Rejected(nack.number, message, "too_large", reason)])
        else:
            self._window.turned_down(nack.number)
            self._short = True
            self._objection.note(nack)
            self._caution.note(self._moved_at)
            self._window.careful = True
        self._settle()

    def proceed(self) -> None:
        """Go on where the outlet was choked."""
        self._send()
        self._tell_room()

    # ── sending ──────────────────────────────────────────────────────────────────

    def _send(self) -> None:
        """Write what is due, as far as the outlet takes it."""
        if self._linger is not None:
            self._linger.cancel()
            self._linger = None
        outlet, window = self._outlet, self._window
        if outlet is None or self._held:
            return
        rejected: list[Rejected] = []
        while window.unsent and outlet.writable:
            run = window.next_unsent(_CHUNK, _CHUNK_BYTES)
            if not run.messages:
                break
            packed = self._envelope.pack(
                run, inbox=outlet.inbox, max_payload=outlet.info.max_payload
            )
            for lost in packed.rejected:
                window.drop(lost.number)
            if not window.in_flight:
                self._moved_at = _now()
            self._metrics.publish_retries += window.sent(run.end)
            if packed.data:
                outlet.write(packed.data)
            rejected += packed.rejected
        if rejected:
            self._tell_rejected(rejected)

    def _settle(self) -> None:
        """After answers: time a retry, go on sending, and tell who waits."""
        window = self._window
        stage = window.stage
        if window.settle():
            if self._retry is not None:
                self._retry.cancel()
            seconds = self._objection.next_retry_seconds()
            self._retry = asyncio.get_running_loop().call_later(seconds, self._probe)
        elif stage is Stage.PROBING and window.stage is Stage.FLOWING:
            self._objection.withdraw()
            self._send()
        elif window.careful and not window.in_flight:
            window.careful = not self._caution.over(_now())
            self._send()
        self._note_unacked()
        self._tell_room()

    def _probe(self) -> None:
        """Try the oldest message again, once the stream is there."""
        if self._window.stage is not Stage.WAITING or self._held:
            return
        self._window.probe()
        self._send()
        self._settle()  # the message may just have been found too large

    def _give_up_ledger(self, lines: dict[int, Message]) -> None:
        self._moved_at = _now()
        self._window.forget(lines)
        self._note_unacked()
        self._metrics.dropped.add(_FORBIDDEN, len(lines))
        if lines and not self._told_mute:
            self._told_mute = True
            reason = f"this user may not publish to {self._status_subject}; allow it at the bus"
            self._context.on_rejected(next(iter(lines.values())), reason)

    def _tell_rejected(self, rejected: Sequence[Rejected]) -> None:
        self._note_unacked()
        for lost in rejected:
            self._metrics.dropped.add(lost.label)
            self._context.on_rejected(lost.message, lost.reason)

    def _note_unacked(self) -> None:
        self._metrics.unacked = len(self._window)
        if not self._window:
            self._idle.set()

    def _room(self) -> int:
        outlet = self._outlet
        if outlet is None or not outlet.writable or self._held:
            return 0
        return self._window.room if self._window.stage is Stage.FLOWING else 0

    def _tell_room(self) -> None:
        # Told at the first free place, the host would publish single messages: a quarter
        # of the window makes batches, and the rest keeps the server busy meanwhile.
        if self._short and self._room() >= max(1, self._limit // 4):
            self._short = False
            self._context.on_room()


def _forgotten(since: float | None, dedupe_seconds: float) -> bool:
    """Say whether a bus that remembers so long may have forgotten what was sent then."""
    known_seconds = dedupe_seconds - max(_RESEND_SECONDS, dedupe_seconds / 10)
    return since is not None and _now() - since > known_seconds


_now = time.monotonic
