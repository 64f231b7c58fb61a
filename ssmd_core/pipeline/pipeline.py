"""The order of things for every batch: archive first, publish second; and the clockwork."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import anyio

from ssmd_core.clock import NS, iso
from ssmd_core.feed import Parsed, WebSocketFeed
from ssmd_core.log import get_logger
from ssmd_core.pipeline.archiver import Archiver
from ssmd_core.pipeline.catchup import CatchUp
from ssmd_core.pipeline.cursor import Cursor
from ssmd_core.pipeline.durability import Durability
from ssmd_core.pipeline.encoding import STATUS
from ssmd_core.pipeline.faults import Faults
from ssmd_core.pipeline.guard import Guarded
from ssmd_core.pipeline.ledger import INTRODUCTIONS, Ledger
from ssmd_core.pipeline.log import LogReader
from ssmd_core.pipeline.parts import PipelineParts
from ssmd_core.pipeline.pressure import Pressure
from ssmd_core.pipeline.publisher import Publisher
from ssmd_core.pipeline.recovery import read_prior_runs
from ssmd_core.pipeline.resume import fetched_from, lag_at, recall
from ssmd_core.records import Batch, Stream
from ssmd_core.sink import Message
from ssmd_core.sink.origin import Origin

__all__ = ["Pipeline"]

_DAY_NS = 86_400 * NS
_TICK_SECONDS = 0.25
_LIVE = Stream.LIVE
_log = get_logger("ssmd.pipeline")


class Pipeline:
    """Implements the feed's ``Intake``."""

    def __init__(self, parts: PipelineParts) -> None:
        self._parts = parts
        self._metrics = parts.metrics
        self.ledger = Ledger(parts.storage, parts.receipt, self._publish_status, parts.observe)
        self._reader = LogReader(parts.feed, parts.receipt.now_ns)
        self.archiver = self._make_archiver()
        self.bus = Guarded(parts.transport) if parts.transport and parts.encoding else None
        """The transport, as far as the pipeline trusts it."""
        self.publisher = self._make_publisher()
        self.catchup = self._make_catchup()
        self._midnight = 0
        self._cursor = Cursor(parts.storage) if parts.storage and self.publisher else None
        self._faults = Faults()
        self.pressure = self._make_pressure()
        self._carry: Callable[[], None] = _nothing
        self._transport_ok = True
        self.durability = self._make_durability()

    def attach(
        self,
        *,
        pause: Callable[[], None],
        resume: Callable[[], None],
        carry: Callable[[], None],
        miss: Callable[[int, int], None] | None = None,
    ) -> None:
        """Tell the pipeline whom it works for.

        Args:
            pause: holds the feed back.
            resume: lets it go.
            carry: writes the open sessions where a reader may not find their beginning: on a
                new day, and when the archive is back and may have lost the day's ledger.
            miss: brings back what came between two receipt times and no disk took.
        """
        self._carry = carry
        if self.archiver is not None:
            self.archiver.attach(miss=miss or _nothing, carry=carry)
        if self.pressure is not None:
            self.pressure.attach(pause=pause, resume=resume)

    async def recover(self, last_ts: int) -> Mapping[str, int]:
        """Continue where the last run ended, and close in the ledger what it left open.

        Args:
            last_ts: where the archive ends; 0 where there is none.

        Returns:
            Channel → receipt time until which it was captured before this start.

        Raises:
            StorageFailed: the cursor is there and cannot be read.
        """
        storage, feed = self._parts.storage, self._parts.feed
        if self.archiver is None or storage is None:
            return {}
        self.archiver.head_ts = last_ts
        if self._cursor is not None and self.catchup is not None:
            await self.catchup.start(self._cursor, last_ts)
        if not last_ts:
            return {}
        coverage = await read_prior_runs(storage.notes, last_ts)
        for ending in coverage.endings(last_ts):
            self.ledger.write("session_closed", **ending, **self.place())
        if not isinstance(feed, WebSocketFeed):
            return {}
        covered = coverage.covered_until(last_ts, {plan.conn for plan in feed.connections()})
        from_ts = fetched_from(feed, covered, last_ts)
        if from_ts is not None:
            lag = await lag_at(storage, self._reader, last_ts)
            covered = {channel: until - lag for channel, until in covered.items()}
            from_ts -= lag
        encoding = self._parts.encoding
        behind_from = self.publisher.behind_from if self.publisher is not None else None
        # What stands behind the cursor is remembered as catch-up comes by.
        upto = last_ts if behind_from is None else behind_from
        if encoding is not None and (from_ts is not None or upto < last_ts):
            from_ts = upto if from_ts is None else from_ts
            await recall(storage, self._reader, encoding, from_ts=from_ts, last_ts=upto)
        return covered

    # ── the feed's intake ────────────────────────────────────────────────────────

    def deliver(self, batch: Batch, parsed: list[Parsed]) -> None:
        """Archive, then publish. The hot path."""
        if batch.first_ts >= self._midnight:
            self._turn_day(batch.first_ts)
        waits = self.archiver is not None and self.archiver.append(batch)
        publisher, live = self.publisher, batch.stream is _LIVE
        if publisher is not None and self._parts.encoding is not None:
            if publisher.behind_from is None:
                origin = Origin.LIVE if live else Origin.BACKFILL
                messages = self._parts.encoding.messages(batch, parsed, origin)
                waits = publisher.submit(messages) or waits
            else:
                publisher.passed_by(sum(map(len, batch.frames)))
        if waits and self.pressure is not None:
            self.pressure.rise()
        if live:
            self._observe_age(batch, parsed)
        if self._parts.tap is not None:
            self._parts.tap(batch, parsed)

    def report(self, event: str, *, session: str | None, conn: int | None, **fields: Any) -> None:
        """Write one event to the ledger."""
        if event in INTRODUCTIONS:
            fields = {**self._parts.about, **fields}
        self.ledger.write(event, session=session, conn=conn, **fields)

    def place(self) -> Mapping[str, Any]:
        """Return where the next frame will stand."""
        if self._parts.storage is None:
            return {}
        try:
            mark = self._parts.storage.mark()
        except Exception as error:  # noqa: BLE001  a stranger's storage ends no session
            _log.warning("the storage cannot say where it stands", why=repr(error))
            return {}
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
        if self.publisher.behind_from is not None and self.catchup is not None:
            self.catchup.wake()
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
            if self.durability is not None:
                tasks.start_soon(self.durability.run)
            if self.catchup is not None:
                tasks.start_soon(self.catchup.run)

    async def drain(self) -> None:
        """Return when everything taken is archived and, while the bus is there, acknowledged."""
        if self.archiver is not None:
            self.archiver.retry()
        if self.durability is not None:
            await self.durability.sync()
        while self.publisher is not None and self.bus is not None:
            kept = self.archiver is not None or not self.publisher.owes_records()
            if kept and not self.bus.connected():
                return
            if self.publisher.behind_from is None:
                self.publisher.pump()
                if not self.publisher.backlog:
                    await self.bus.flush()
                    return
            await anyio.sleep(0.01)

    async def finish(self) -> int:
        """Write the cursor, count what is lost, and return it. The last word before closing."""
        self._tell_faults()
        if not self._transport_ok:
            self._watch_transport()  # it may have recovered since the last tick
        if self.publisher is not None:
            self.publisher.close()
        if self.archiver is not None:
            self.archiver.close()
        self.ledger.flush()
        if self.durability is not None:
            await self.durability.save_place()
        return self.lost

    def acknowledged_ts(self) -> int | None:
        """Return the receipt time up to which the bus has all; None while it is not known."""
        if self.publisher is None or (self.catchup is not None and self.catchup.seeking):
            return None
        return self.publisher.position(self.head_ts)

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

    async def _tick(self, beat: Callable[[], object]) -> None:
        while True:
            await anyio.sleep(_TICK_SECONDS)
            beat()
            self._metrics.lost = self.lost
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
                self.publisher.trim()
            self._watch_transport()
            if self.pressure is not None:
                self.pressure.watch()

    def _watch_clock(self) -> None:
        step_ns = self._parts.receipt.take_step()
        if step_ns:
            self.ledger.write("clock_stepped", back_seconds=round(step_ns / NS, 6))

    def _watch_transport(self) -> None:
        if self.bus is None:
            return
        health = self.bus.health()
        if health.ok and not self._transport_ok:
            self.ledger.write("sink_recovered", sink="transport")
        elif not health.ok and self._transport_ok:
            self.ledger.write("sink_failed", sink="transport", reason=health.reason)
        self._transport_ok = health.ok

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

    def _acknowledged(self, batch: Batch) -> int:
        """Count the frames of a batch that the bus has, for one that the archive never got."""
        encoding = self._parts.encoding
        if self.publisher is None or encoding is None:
            return 0
        upto = self.publisher.position(batch.last_ts)
        if upto < batch.first_ts:
            return 0
        parsed = self._reader.read(batch)[: upto - batch.first_ts + 1]
        return sum(map(encoding.carries, parsed))

    # ── what it is made of ───────────────────────────────────────────────────────

    def _make_archiver(self) -> Archiver | None:
        parts = self._parts
        if parts.storage is None:
            return None
        return Archiver(
            parts.storage,
            parts.metrics,
            self.ledger.write,
            acknowledged=self._acknowledged,
            pauses=parts.pause_on_archive_failure,
        )

    def _make_durability(self) -> Durability | None:
        storage = self._parts.storage
        if storage is None or self.archiver is None:
            return None
        return Durability(storage, self.archiver, self._cursor, self, monotonic=self._monotonic)

    def _make_publisher(self) -> Publisher | None:
        if self.bus is None:
            return None
        archived = self.archiver is not None
        return Publisher(self.bus, self._metrics, self.ledger.write, archived=archived)

    def _make_pressure(self) -> Pressure | None:
        if self.publisher is None and not self._parts.pause_on_archive_failure:
            return None
        return Pressure(
            self.publisher, self.archiver, self.ledger, self._metrics, monotonic=self._monotonic
        )

    def _make_catchup(self) -> CatchUp | None:
        storage, encoding = self._parts.storage, self._parts.encoding
        if storage is None or encoding is None or self.bus is None or self.publisher is None:
            return None
        return CatchUp(
            storage,
            self.bus,
            log=self,
            reader=self._reader,
            publisher=self.publisher,
            encoding=encoding,
            metrics=self._metrics,
            report=self.ledger.write,
        )

    def _monotonic(self) -> float:
        return self._parts.clock.monotonic_ns() / NS


def _nothing(*_: int) -> None:
    """Leave it: no feed is attached that could do it."""
