"""The order of things for every batch: archive first, publish second; and the clockwork."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import anyio
import structlog

from ssmd_core.clock import NS, Clock, ReceiptClock, iso
from ssmd_core.feed import Feed, Parsed, WebSocketFeed
from ssmd_core.metrics import Metrics
from ssmd_core.pipeline.archiver import Archiver
from ssmd_core.pipeline.catchup import CatchUp
from ssmd_core.pipeline.cursor import Cursor
from ssmd_core.pipeline.encoding import STATUS, Encoding
from ssmd_core.pipeline.faults import Faults
from ssmd_core.pipeline.ledger import Ledger, Observe
from ssmd_core.pipeline.pressure import Pressure
from ssmd_core.pipeline.publisher import Publisher
from ssmd_core.records import Batch
from ssmd_core.sink import Message, Storage, Transport

__all__ = ["Pipeline", "PipelineParts", "Tap"]

_DAY_NS = 86_400 * NS
_TICK_SECONDS = 0.25
_log = structlog.get_logger("ssmd.pipeline")

Tap = Callable[[Batch, Sequence[Parsed]], None]
"""Sees each batch after the sinks took it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PipelineParts:
    """What a pipeline is made of; either sink may be absent."""

    feed: WebSocketFeed | Feed
    clock: Clock
    receipt: ReceiptClock
    metrics: Metrics
    storage: Storage | None
    transport: Transport | None
    encoding: Encoding | None
    tap: Tap | None = None
    observe: Observe | None = None
    """Is told of each ledger event."""


class Pipeline:
    """Implements the feed's ``Intake``."""

    def __init__(self, parts: PipelineParts) -> None:
        self._parts = parts
        self._metrics = parts.metrics
        self.ledger = Ledger(parts.storage, parts.receipt, self._publish_status, parts.observe)
        self.archiver = (
            Archiver(parts.storage, parts.metrics, self.ledger.write) if parts.storage else None
        )
        self.publisher = (
            Publisher(
                parts.transport,
                parts.metrics,
                self.ledger.write,
                archived=parts.storage is not None,
            )
            if parts.transport and parts.encoding
            else None
        )
        self._catchup = self._make_catchup()
        self._midnight = 0
        self._cursor = Cursor(parts.storage) if parts.storage and self.publisher else None
        self._faults = Faults()
        self.pressure = self._make_pressure()
        self._carry: Callable[[], None] = _nothing
        self._transport_ok = True

    def attach(
        self, *, pause: Callable[[], None], resume: Callable[[], None], carry: Callable[[], None]
    ) -> None:
        """Tell the pipeline how to hold the feed back, and who writes sessions at midnight."""
        self._carry = carry
        if self.pressure is not None:
            self.pressure.attach(pause=pause, resume=resume)

    def recover(self, last_ts: int) -> None:
        """Continue where the last run ended: the cursor says what the bus already has."""
        if self.archiver is None or self._parts.storage is None:
            return
        self.archiver.head_ts = last_ts
        if self.publisher is None:
            return
        try:
            kept = self._cursor.load(last_ts) if self._cursor else None
        except ValueError:
            self.ledger.write(
                "sink_failed",
                sink="transport",
                reason="the cursor is damaged: what the bus missed before this start stands in "
                "the archive only",
            )
            return
        if kept is not None and kept < last_ts:
            self.publisher.resume_from(kept)

    # ── the feed's intake ────────────────────────────────────────────────────────

    def deliver(self, batch: Batch, parsed: list[Parsed]) -> None:
        """Archive, then publish. The hot path."""
        if batch.first_ts >= self._midnight:
            self._turn_day(batch.first_ts)
        if self.archiver is not None:
            self.archiver.append(batch)
        publisher = self.publisher
        if publisher is not None and self._parts.encoding is not None:
            if publisher.behind_from is None:
                publisher.submit(self._parts.encoding.messages(batch, parsed))
            if self.pressure is not None:
                self.pressure.rise()
        self._observe_age(batch, parsed)
        if self._parts.tap is not None:
            self._parts.tap(batch, parsed)

    def report(self, event: str, *, session: str | None, conn: int | None, **fields: Any) -> None:
        """Write one event to the ledger."""
        self.ledger.write(event, session=session, conn=conn, **fields)

    def place(self) -> Mapping[str, Any]:
        """Return where the next frame will stand."""
        if self._parts.storage is None:
            return {}
        mark = self._parts.storage.mark()
        return {"file": mark.file, "offset": mark.offset}

    def fault(self, batch: Batch, index: int, parsed: Parsed) -> None:
        """Count a frame that could not be read; say so, but not once a frame."""
        self._metrics.parse_errors += 1
        if index in batch.raw:
            self._metrics.invalid_frames += 1
        self._faults.note(parsed.label, parsed.fault, batch.first_ts + index)
        self._tell_faults(batch.first_ts + index)

    # ── what the sinks call ──────────────────────────────────────────────────────

    def on_room(self) -> None:
        """The transport has room again."""
        if self.publisher is None:
            return
        if self.publisher.behind_from is not None and self._catchup is not None:
            self._catchup.wake()
            return
        self.publisher.pump()
        if self.pressure is not None:
            self.pressure.ease()

    def on_rejected(self, message: Message, reason: str) -> None:
        """The bus will never take this message."""
        if message.kind == STATUS:
            # A ledger line about a ledger line that is refused would never end.
            _log.warning("the bus refused a ledger line", why=reason, message=message.msg_id)
            return
        if self.archiver is None and self.publisher is not None:
            self.publisher.lost += 1
        self.ledger.write(
            "dropped",
            sink="transport",
            reason=reason,
            message=message.msg_id,
            frame=iso(message.ts),
        )

    # ── the clockwork ────────────────────────────────────────────────────────────

    async def run(self, beat: Callable[[], object]) -> None:
        """Sync, retry, keep the cursor; until cancelled. Calls ``beat`` as a sign of life."""
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._tick, beat)
            if self._parts.storage is not None:
                tasks.start_soon(self._keep_durable, self._parts.storage)
            if self._catchup is not None:
                tasks.start_soon(self._catchup.run)

    async def drain(self) -> None:
        """Return when everything taken is archived and, while the bus is there, acknowledged."""
        if self.archiver is not None:
            self.archiver.retry()
        await self.sync()
        while self.publisher is not None and self._parts.transport is not None:
            transport = self._parts.transport
            kept = self.archiver is not None or not self.publisher.owes_records()
            if kept and not transport.connected():
                return
            if self.publisher.behind_from is None:
                self.publisher.pump()
                if not self.publisher.backlog:
                    await transport.flush()
                    return
            await anyio.sleep(0.01)

    async def finish(self) -> int:
        """Write the cursor, count what is lost, and return it. The last word before closing."""
        self._tell_faults()
        if self.publisher is not None:
            self.publisher.close()
        if self.archiver is not None:
            self.archiver.close()
        self.ledger.flush()
        await self._save_cursor()
        return self.lost

    @property
    def held(self) -> int:
        """How many frames and ledger lines wait for the disk."""
        return (self.archiver.held if self.archiver else 0) + self.ledger.held

    @property
    def head_ts(self) -> int:
        """Receipt time up to which the archive holds every frame and ledger line."""
        parts = [part for part in (self.ledger, self.archiver) if part is not None]
        waiting = [part.waiting_ts for part in parts if part.waiting_ts is not None]
        # A full disk may take a ledger line and not the older frames before it.
        return min(waiting) - 1 if waiting else max(part.head_ts for part in parts)

    @property
    def lost(self) -> int:
        """Frames or messages received and neither archived nor acknowledged."""
        frames = self.archiver.lost if self.archiver else 0
        return frames + (self.publisher.lost if self.publisher else 0)

    async def sync(self) -> None:
        """Make the archive durable; a failure stands in the ledger."""
        if self._parts.storage is None or self.archiver is None:
            return
        try:
            await self._parts.storage.sync()
        except Exception as error:  # noqa: BLE001  also a stranger's storage is asked again
            self.archiver.note_sync(str(error) or repr(error))
        else:
            self.archiver.note_sync()

    async def _keep_durable(self, storage: Storage) -> None:
        while True:
            await anyio.sleep(storage.sync_seconds)
            await self.sync()

    async def _tick(self, beat: Callable[[], object]) -> None:
        while True:
            await anyio.sleep(_TICK_SECONDS)
            beat()
            now_ns = self._parts.receipt.now_ns()
            if now_ns >= self._midnight:
                self._turn_day(now_ns)
            self._watch_clock()
            self.ledger.flush()  # first: it says why frames are missing
            if self.archiver is not None:
                self.archiver.retry()
            self._tell_faults(now_ns)
            if self.publisher is not None:
                self.publisher.tell_drops(self._monotonic())
            self._watch_transport()
            if self.pressure is not None:
                self.pressure.watch()
            await self._save_cursor()

    def _watch_clock(self) -> None:
        step_ns = self._parts.receipt.take_step()
        if step_ns:
            self.ledger.write("clock_stepped", back_seconds=round(step_ns / NS, 6))

    def _watch_transport(self) -> None:
        transport = self._parts.transport
        if transport is None or self.publisher is None:
            return
        health = transport.health()
        if health.ok and not self._transport_ok:
            self.ledger.write("sink_recovered", sink="transport")
        elif not health.ok and self._transport_ok:
            self.ledger.write("sink_failed", sink="transport", reason=health.reason)
        self._transport_ok = health.ok

    async def _save_cursor(self) -> None:
        if self._cursor is not None and self.publisher is not None:
            await self._cursor.save(self.publisher.position(self.head_ts))

    # ── between ──────────────────────────────────────────────────────────────────

    def _tell_faults(self, now_ns: int | None = None) -> None:
        """Write what is due of the frames that could not be read; without a time, all."""
        for fault in self._faults.due(now_ns):
            self.ledger.write(
                "unparsed",
                label=fault.label,
                fault=fault.text[:300],
                frame=iso(fault.ts),
                frames=fault.untold,
            )

    def _turn_day(self, now_ns: int) -> None:
        first = self._midnight == 0
        self._midnight = (now_ns // _DAY_NS + 1) * _DAY_NS
        if not first:
            self._carry()

    def _observe_age(self, batch: Batch, parsed: Sequence[Parsed]) -> None:
        """Observe the age of the first record of a wake-up, its oldest."""
        for index, said in enumerate(parsed):
            if said.records:
                venue_ns = said.records[0].venue_ns
                if venue_ns > 0:
                    age_ns = batch.first_ts + index - venue_ns
                    self._metrics.message_age.observe(max(age_ns, 0) / NS)
                return

    def _publish_status(self, ts: int, line: bytes) -> None:
        if self.publisher is not None and self._parts.encoding is not None:
            self.publisher.submit_status(self._parts.encoding.status(ts, line))

    def _make_pressure(self) -> Pressure | None:
        if self.publisher is None:
            return None
        return Pressure(
            self.publisher,
            self.ledger,
            self._metrics,
            archived=self.archiver is not None,
            monotonic=self._monotonic,
        )

    def _make_catchup(self) -> CatchUp | None:
        parts = self._parts
        if (
            parts.storage is None
            or parts.transport is None
            or parts.encoding is None
            or self.archiver is None
            or self.publisher is None
        ):
            return None
        return CatchUp(
            parts.feed,
            parts.storage,
            parts.transport,
            log=self,
            publisher=self.publisher,
            encoding=parts.encoding,
            now_ns=parts.receipt.now_ns,
        )

    def _monotonic(self) -> float:
        return self._parts.clock.monotonic_ns() / NS


def _nothing() -> None:
    """Carry no session: no feed is attached yet."""
