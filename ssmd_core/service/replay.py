"""Publishes what an archive holds: paced, as the bus has room, every message acknowledged."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Generator, Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass, field

import anyio

from ssmd_core.errors import SsmdError
from ssmd_core.metrics import Metrics
from ssmd_core.service.destination import Held
from ssmd_core.service.pacing import Pacer
from ssmd_core.service.playback import Passage, Playback
from ssmd_core.service.rereading import Rereading
from ssmd_core.sink import Message, Transport

__all__ = ["Replay", "Replayed", "chunks"]

_CHUNK_FRAMES = 2_048
_CHUNK_BYTES = 1024 * 1024
_GIVE = 1_024
_LOOK_SECONDS = 1.0
_STOP_SECONDS = 10.0
STALL_SECONDS = 60.0
"""A bus that neither takes nor acknowledges anything for so long is given up."""


@dataclass(slots=True)
class Replayed:
    """What became of a replay."""

    first_ts: int = 0
    last_ts: int = 0
    """Receipt time of the last frame that was read."""
    frames: int = 0
    unread: int = 0
    damaged_lines: int = 0
    kinds: Counter[str] = field(default_factory=Counter)
    """Messages given to the bus, by kind."""
    held: int = 0
    """Messages that the stream held before: not sent, or taken for duplicates."""
    doubted: int = 0
    """Messages that the bus took for duplicates, though the stream did not hold them."""
    absent: int | None = None
    """Of the doubted, those that the stream does not hold now; None: nobody looked."""
    rejected: int = 0
    """Messages that the bus will never take."""
    rejection: str = ""
    unacknowledged: int = 0
    fault: str = ""
    """Why it was given up."""
    stopped: bool = False
    """It was told to stop before the end."""
    seconds: float = 0.0

    @property
    def complete(self) -> bool:
        """Whether the stream holds every message given."""
        unknown = self.doubted and self.absent is None
        return not (self.unacknowledged or self.rejected or self.fault or self.absent or unknown)

    def settle(self, absent: int) -> None:
        """Take how many messages of those that were given the stream does not hold."""
        self.absent = min(absent, self.doubted)
        self.held += self.doubted - self.absent


class Replay:
    """One replay of one archive. What the transport calls is there before the transport is."""

    def __init__(
        self,
        playback: Playback,
        rereading: Rereading,
        metrics: Metrics,
        *,
        pacer: Pacer,
        stall_seconds: float = STALL_SECONDS,
    ) -> None:
        self._playback = playback
        self._rereading = rereading
        self._metrics = metrics
        self._pacer = pacer
        self._stall_seconds = stall_seconds
        self._held = Held()
        self._room = anyio.Event()
        self._playing = anyio.CancelScope()
        self._moved_at = 0.0
        self._last_seen = (0, 0)
        self.so_far = Replayed()

    # ── what the transport calls ─────────────────────────────────────────────────

    def on_room(self) -> None:
        """The transport has room again."""
        self._room.set()

    def on_rejected(self, message: Message, reason: str) -> None:
        """The bus will never take this message."""
        self.so_far.rejected += 1
        self.so_far.rejection = self.so_far.rejection or f"{message.msg_id}: {reason}"

    # ── running ──────────────────────────────────────────────────────────────────

    async def run(self, transport: Transport, held: Held, stop: anyio.Event) -> Replayed:
        """Publish everything, or what is due until ``stop``; return when it is acknowledged.

        Args:
            transport: is open.
            held: what the stream has already.
            stop: may be set at any time.

        Raises:
            UsageError: the archive does not say whose its frames were.
            StorageFailed: the archive cannot be read.
        """
        began = self._moved_at = time.monotonic()
        self._held = held
        failure: SsmdError | None = None
        if stop.is_set():
            self._halt()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._keep, transport)
            tasks.start_soon(self._heed, stop)
            try:
                await self._play(transport)
                if not self.so_far.fault:
                    await self._flush(transport)
            except _GivenUp as why:
                self.so_far.fault = self.so_far.fault or str(why)
            except SsmdError as error:
                failure = error
            tasks.cancel_scope.cancel()
        if failure is not None:
            raise failure
        self._count(time.monotonic() - began)
        return self.so_far

    async def _keep(self, transport: Transport) -> None:
        try:
            await transport.run()
        except Exception as error:  # noqa: BLE001  a stranger's code: told, not a traceback
            self._give_up(f"the transport failed: {error!r}")

    async def _heed(self, stop: anyio.Event) -> None:
        await stop.wait()
        self._halt()

    def _halt(self) -> None:
        self.so_far.stopped = True
        self._stall_seconds = min(self._stall_seconds, _STOP_SECONDS)
        self._playing.cancel()

    def _give_up(self, why: str) -> None:
        self.so_far.fault = self.so_far.fault or why
        self._playing.cancel()

    async def _play(self, transport: Transport) -> None:
        with self._playing, closing(chunks(self._playback.passages())) as source:
            while chunk := await anyio.to_thread.run_sync(next, source, ()):
                await self._play_chunk(transport, chunk)

    async def _play_chunk(self, transport: Transport, chunk: Sequence[Passage]) -> None:
        waiting: list[Message] = []
        last_ts = 0
        for batch, connector in chunk:
            seconds = self._pacer.wait_seconds(batch.first_ts, time.monotonic())
            if seconds > 0 or len(waiting) >= _GIVE:
                await self._give(transport, waiting, last_ts)
                waiting = []
                await anyio.sleep(seconds)
            waiting += self._wanted(Passage(batch, connector))
            self.so_far.first_ts = self.so_far.first_ts or batch.first_ts
            last_ts = batch.last_ts
        await self._give(transport, waiting, last_ts)

    def _wanted(self, passage: Passage) -> list[Message]:
        messages = self._rereading.messages(passage)
        if not self._held:
            return messages
        wanted = [message for message in messages if message not in self._held]
        self.so_far.held += len(messages) - len(wanted)
        return wanted

    # ── the bus ──────────────────────────────────────────────────────────────────

    async def _give(self, transport: Transport, messages: Sequence[Message], upto: int) -> None:
        given = 0
        self._moved_at = time.monotonic()  # a quiet market is no bus that stands still
        while given < len(messages):
            self._room = anyio.Event()
            room = transport.room()
            if room <= 0:
                with anyio.move_on_after(self._look_seconds):
                    await self._room.wait()
                self._watch(transport)
                continue
            part = messages[given : given + room]
            try:
                transport.publish(part)
            except Exception as error:
                raise _GivenUp(f"the transport failed to take messages: {error!r}") from error
            self.so_far.kinds.update(message.kind for message in part)
            given += len(part)
            self._moved_at = time.monotonic()
        self.so_far.last_ts = upto or self.so_far.last_ts
        # What is read from the disk must not starve the acknowledgements.
        await anyio.lowlevel.checkpoint()

    async def _flush(self, transport: Transport) -> None:
        self._moved_at = time.monotonic()
        while True:
            with anyio.move_on_after(self._look_seconds) as scope:
                await transport.flush()
            if not scope.cancelled_caught:
                return
            self._watch(transport)

    @property
    def _look_seconds(self) -> float:
        return min(_LOOK_SECONDS, self._stall_seconds)

    def _watch(self, transport: Transport) -> None:
        """Give up when nothing was taken or acknowledged for too long."""
        seen = (self._metrics.published, self._metrics.unacked)
        now = time.monotonic()
        if seen != self._last_seen:
            self._last_seen, self._moved_at = seen, now
        if now - self._moved_at > self._stall_seconds:
            reason = transport.health().reason or "it does not say why"
            seconds = self._stall_seconds
            raise _GivenUp(f"the bus took and acknowledged nothing for {seconds:g} s: {reason}")

    def _count(self, seconds: float) -> None:
        told = self.so_far
        told.seconds = seconds
        told.frames = self._rereading.frames
        told.unread = self._rereading.unread
        told.damaged_lines = self._playback.damaged_lines
        told.doubted = self._metrics.duplicates - self._rereading.repeated
        told.held += self._rereading.repeated
        told.unacknowledged = self._metrics.unacked


class _GivenUp(SsmdError):
    """The bus cannot be used any longer."""


def chunks(passages: Iterable[Passage]) -> Generator[list[Passage]]:
    """Yield passages in lists that are worth a way through a thread, and no larger."""
    chunk: list[Passage] = []
    frames = size = 0
    for passage in passages:
        chunk.append(passage)
        frames += len(passage.batch.frames)
        size += sum(map(len, passage.batch.frames))
        if frames >= _CHUNK_FRAMES or size >= _CHUNK_BYTES:
            yield chunk
            chunk, frames, size = [], 0, 0
    if chunk:
        yield chunk
