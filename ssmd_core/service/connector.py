"""One connector, from a resolved plan to an exit code: build, run, drain, close."""

from __future__ import annotations

import os
import signal
import socket
import time
from collections.abc import AsyncIterator, Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

import anyio

from ssmd_core.clock import NS, Clock, ReceiptClock, SystemClock, iso
from ssmd_core.errors import SsmdError, StorageFailed, StorageUnusable
from ssmd_core.feed import WebSocketFeed
from ssmd_core.feed.host import FeedHost
from ssmd_core.feed.policy import Backoff
from ssmd_core.feed.ports import HostParts
from ssmd_core.feed.runner import FeedRunner
from ssmd_core.log import get_logger
from ssmd_core.metrics import Metrics
from ssmd_core.pipeline.encoding import Encoding
from ssmd_core.pipeline.identity import connector_id, new_id
from ssmd_core.pipeline.ledger import LEDGER_VERSION, Observe
from ssmd_core.pipeline.parts import PipelineParts, Tap
from ssmd_core.pipeline.pipeline import Pipeline
from ssmd_core.service.address import bind
from ssmd_core.service.closing import Closer, Stop, close_all
from ssmd_core.service.http import serve
from ssmd_core.service.monitored import Readiness
from ssmd_core.service.overview import RUNNING, Parts, readiness, status
from ssmd_core.service.pulse import Pulse, stacks
from ssmd_core.service.sinks import Wiring, make_storage, make_transport
from ssmd_core.sink import Health, Message, Storage, Transport

if TYPE_CHECKING:
    from ssmd_core.config import ProcessSettings
    from ssmd_core.service.plan import RunPlan

__all__ = ["Connector"]

_log = get_logger("ssmd")
_TICK_LIMIT_SECONDS = 30.0


class Connector:
    """One feed into its sinks. Run once.

    Args:
        plan: what was resolved from the files.
        settings: the process environment.
        tap: sees each batch after the sinks took it.
        observe: is told of each ledger event.
        clock: where time comes from.
    """

    def __init__(
        self,
        plan: RunPlan,
        settings: ProcessSettings,
        tap: Tap | None = None,
        *,
        observe: Observe | None = None,
        clock: Clock | None = None,
    ) -> None:
        self._plan = plan
        self._settings = settings
        self._tap = tap
        self._observe = observe
        self._clock = clock or SystemClock()
        self.metrics = Metrics()
        self._wiring = Wiring(
            metrics=self.metrics,
            warn=_log.warning,
            report=self._report,
            on_room=self._on_room,
            on_rejected=self._on_rejected,
            on_lost=self._on_lost,
        )
        self._pulse = Pulse(self._clock)
        limit, archived = settings.shutdown_seconds, plan.storage_type is not None
        self._stop = Stop(
            limit, monotonic=time.monotonic, force=self._end_by_force, archived=archived
        )
        self._started_ns = self._clock.wall_ns()
        self._connector_id = new_id()
        self._phase = "starting"
        self._receipt = ReceiptClock(self._clock)
        self._storage: Storage | None = None
        self._transport: Transport | None = None
        self._pipeline: Pipeline | None = None
        self._host: FeedHost | FeedRunner | None = None
        self.health_address: str | None = None
        """Where the health port answers, once it does."""

    # ── running ──────────────────────────────────────────────────────────────────

    async def run(self, stop: anyio.Event | None = None) -> int:
        """Capture until ``stop``, SIGTERM or SIGINT; return the exit code 0 or 1.

        Raises:
            StartError: found before the venue was contacted.
            CredentialsRefused: at the first connection.
        """
        stopping = stop or anyio.Event()
        sock = bind(self._settings.health_host, self._settings.health_port)
        # Listened for to the very end: a late signal must not undo what was said.
        try:
            with anyio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
                return await self._run(sock, signals, stopping)
        finally:
            self._stop.end()

    async def _run(
        self, sock: socket.socket, signals: AsyncIterator[signal.Signals], stopping: anyio.Event
    ) -> int:
        failure: SsmdError | None = None
        code = 1
        async with anyio.create_task_group() as tasks:
            await tasks.start(self._pulse.run)
            endpoint = await tasks.start(serve, sock, self)
            self.health_address = str(endpoint.address)
            tasks.start_soon(self._heed, signals, stopping)
            tasks.start_soon(_call_when, stopping, self._stop.begin)
            try:
                code = await self._start_and_capture(stopping)
            except SsmdError as error:
                failure = error
            endpoint.stop()
            tasks.cancel_scope.cancel()
        if failure is not None:
            raise failure
        return code

    async def _start_and_capture(self, stopping: anyio.Event) -> int:
        try:
            await self._start(stopping)
            if self._pipeline is None or self._host is None or stopping.is_set():
                _log.info("stopped before anything was received")
                return 0
            lost = await self._capture(self._pipeline, self._host, stopping)
        finally:
            fault = await self._close()
        if fault is not None:
            raise fault
        # Closing the archive may find that somebody removed what it held.
        return self._say_farewell(max(lost, self._pipeline.lost))

    async def _start(self, stopping: anyio.Event) -> None:
        failure: SsmdError | None = None
        async with anyio.create_task_group() as starting:
            # A signal must end a start that waits, for a lock or for a bus.
            starting.start_soon(_call_when, stopping, starting.cancel_scope.cancel)
            try:
                await self._build()
            except StorageFailed as error:
                failure = StorageUnusable(str(error))
            except SsmdError as error:
                failure = error
            starting.cancel_scope.cancel()
        if failure is not None:
            raise failure

    async def _build(self) -> None:
        self._phase = "opening the archive"
        last_ts = await self._open_storage()
        self._receipt = ReceiptClock(self._clock, last_ts)
        self._phase = "opening the bus"
        encoding = await self._open_transport()
        pipeline = self._pipeline = Pipeline(
            PipelineParts(
                feed=self._plan.feed,
                clock=self._clock,
                receipt=self._receipt,
                metrics=self.metrics,
                storage=self._storage,
                transport=self._transport,
                encoding=encoding,
                tap=self._tap,
                observe=self._observe,
                about={
                    "environment": self._plan.environment,
                    "connector": self._connector_id,
                    "plugin": self._plan.plugin,
                    "ledger": LEDGER_VERSION,
                },
                pause_on_archive_failure=self._plan.pause_on_archive_failure,
            )
        )
        self._phase = "reading back where the last run ended"
        covered_until = await pipeline.recover(last_ts)
        host = self._host = self._make_host(pipeline, covered_until)
        pipeline.attach(pause=host.pause, resume=host.resume, carry=host.carry, miss=host.miss)

    async def _capture(
        self, pipeline: Pipeline, host: FeedHost | FeedRunner, stopping: anyio.Event
    ) -> int:
        self._phase = RUNNING
        _log.info(
            "running",
            feed=self._plan.name,
            environment=self._plan.environment,
            health=self.health_address,
        )
        failure: SsmdError | None = None
        async with anyio.create_task_group() as tasks:
            beat = self._pulse.watch("pipeline", _TICK_LIMIT_SECONDS)
            tasks.start_soon(pipeline.run, beat)
            if self._transport is not None:
                tasks.start_soon(self._keep_transport, self._transport)
            tasks.start_soon(_call_when, stopping, host.stop)
            try:
                await host.run()
            except SsmdError as error:
                failure = error
            self._phase = "stopping"
            self._stop.begin()
            host.stop()
            lost = await self._drain(pipeline)
            self._pulse.unwatch(beat)
            tasks.cancel_scope.cancel()
        if failure is not None:
            raise failure
        return lost

    async def _drain(self, pipeline: Pipeline) -> int:
        limit = self._stop.shares.drain_seconds
        with anyio.move_on_after(limit) as scope:
            await pipeline.drain()
        if scope.cancelled_caught:
            _log.warning("not everything was acknowledged in time", seconds=limit)
        return await pipeline.finish()

    async def _close(self) -> Exception | None:
        """Close files, then the bus, then the venue, each within its time; return what failed."""
        self._stop.begin()
        close_seconds = self._stop.shares.close_seconds
        closers: list[Closer] = []
        if self._storage is not None:
            seconds = self._stop.archive_seconds()
            closers.append(Closer(part="archive", close=self._storage.aclose, seconds=seconds))
        if self._transport is not None:
            close = self._transport.aclose
            closers.append(Closer(part="bus", close=close, seconds=close_seconds))
        if self._host is not None:
            hang_up = partial(self._host.close, close_seconds / 2)
            closers.append(Closer(part="venue", close=hang_up, seconds=close_seconds))
        return await close_all(closers)

    def _end_by_force(self) -> None:
        """End the process: the time of the stop is over, and something does not come back."""
        _log.error("a call hangs, the stop is ended by force", stacks=stacks())
        _log.error(
            "stopped by force: what was not durable yet may be lost", exit_code=1, **self._counts()
        )
        os._exit(1)

    def _say_farewell(self, lost: int) -> int:
        if lost:
            dropped = dict(self.metrics.dropped)
            _log.error("stopped with data lost", lost=lost, dropped=dropped, **self._counts())
            return 1
        _log.info("stopped cleanly", **self._counts())
        return 0

    def _counts(self) -> dict[str, int]:
        m = self.metrics
        return {
            "received": sum(m.messages.values()),
            "archived": m.archived,
            "published": m.published,
            "unacknowledged": m.unacked,
        }

    # ── building ─────────────────────────────────────────────────────────────────

    async def _open_storage(self) -> int:
        storage = make_storage(self._plan, self._wiring)
        if storage is None:
            return 0
        last_ts = await storage.open()
        self._storage = storage
        self._connector_id = await connector_id(storage, last_ts)
        return last_ts

    async def _open_transport(self) -> Encoding | None:
        plan = self._plan
        if plan.schema_type is None:
            return None
        encoder = plan.schema_type.open(self.metrics)
        left = sorted(plan.feed.kinds - encoder.kinds)
        if left:
            _log.info("archived, not published: no struct in the schema", kinds=left)
        archived = self._storage is not None
        self._transport = make_transport(plan, encoder, self._wiring, archived=archived)
        await self._transport.open()
        return Encoding(encoder, plan.name, self._connector_id, self.metrics)

    def _make_host(
        self, pipeline: Pipeline, covered_until: Mapping[str, int]
    ) -> FeedHost | FeedRunner:
        skims = pipeline.publisher is None and self._tap is None
        every = self._settings.read_every_ms / 1_000
        parts = HostParts(pipeline, self._receipt, self._clock, self.metrics, skims, every)
        feed = self._plan.feed
        if isinstance(feed, WebSocketFeed):
            return FeedHost(feed, parts, covered_until)
        return FeedRunner(feed, parts)

    async def _keep_transport(self, transport: Transport) -> None:
        """Run the transport's own work; one that fails is started again, never forgotten."""
        backoff = Backoff()
        while True:
            try:
                await transport.run()
            except Exception:  # noqa: BLE001  a stranger's code, see above
                _log.exception("the transport failed, starting it again")
            else:
                return
            await anyio.sleep(backoff.next_seconds())

    def _on_room(self) -> None:
        if self._pipeline is not None:
            self._pipeline.on_room()

    def _on_rejected(self, message: Message, reason: str) -> None:
        if self._pipeline is not None:
            self._pipeline.on_rejected(message, reason)

    def _on_lost(self, frames: int, from_ts: int, to_ts: int, reason: str) -> None:
        if self._pipeline is not None and self._pipeline.archiver is not None:
            self._pipeline.archiver.lose(frames, from_ts, to_ts, reason)

    def _report(self, event: str, **fields: Any) -> None:
        if self._pipeline is not None:
            self._pipeline.ledger.write(event, **fields)

    async def _heed(self, signals: AsyncIterator[signal.Signals], stopping: anyio.Event) -> None:
        async for number in signals:
            if stopping.is_set():
                _log.error("second signal, stopped at once", signal=number.name, **self._counts())
                os._exit(1)
            _log.info("stopping", signal=number.name)
            stopping.set()

    # ── what operators see ───────────────────────────────────────────────────────

    @property
    def name(self) -> str:
        """The feed's name."""
        return self._plan.name

    @property
    def environment(self) -> str:
        """The environment's name."""
        return self._plan.environment

    def connected(self) -> bool:
        """Say whether every connection to the venue is up."""
        return self._host is not None and self._host.connected()

    def alive(self) -> Health:
        """Say whether the event loop turns."""
        return self._pulse.alive()

    def clock_offset_ns(self) -> int:
        """Return how far receipt time is ahead of the wall clock."""
        return self._receipt.offset_ns

    def readiness(self) -> Readiness:
        """Say whether it is connected, subscribed and every sink takes data."""
        return readiness(self._parts())

    def status(self) -> Mapping[str, Any]:
        """Return everything as values that JSON can hold."""
        uptime_seconds = (self._clock.wall_ns() - self._started_ns) / NS
        return {
            **status(self._parts()),
            "health": self.health_address,
            "started": iso(self._started_ns),
            "uptime_seconds": round(uptime_seconds, 3),
        }

    def _parts(self) -> Parts:
        return Parts(
            plan=self._plan,
            phase=self._phase,
            metrics=self.metrics,
            host=self._host,
            pipeline=self._pipeline,
            storage=self._storage,
        )


async def _call_when(event: anyio.Event, call: Callable[[], None]) -> None:
    await event.wait()
    call()
