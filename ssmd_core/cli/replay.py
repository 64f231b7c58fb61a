"""Decides how a replay begins and ends: what is opened, when it stops, the exit code."""

from __future__ import annotations

import os
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

import anyio
import typer

from ssmd_core.cli.replay_report import compared, replayed
from ssmd_core.cli.run import loop_options
from ssmd_core.cli.signals import signals
from ssmd_core.clock import iso
from ssmd_core.config import ProcessSettings, load_files
from ssmd_core.errors import SsmdError, UsageError
from ssmd_core.metrics import Metrics
from ssmd_core.plugins import SchemaType
from ssmd_core.plugins.index import PluginIndex
from ssmd_core.plugins.registry import Registry
from ssmd_core.service.archives import open_archive
from ssmd_core.service.destination import Held, look_into
from ssmd_core.service.diff import Diff
from ssmd_core.service.interval import Interval, read_interval
from ssmd_core.service.logs import configure
from ssmd_core.service.lookback import count_absent
from ssmd_core.service.pacing import Pacer, read_speed
from ssmd_core.service.plan import RunPlan, resolve
from ssmd_core.service.playback import Playback
from ssmd_core.service.redaction import redact_text
from ssmd_core.service.replay import Replay, Replayed
from ssmd_core.service.rereading import Rereading
from ssmd_core.service.sinks import Wiring, make_transport
from ssmd_core.sink.archive import Archive

__all__ = ["ReplayOptions", "replay"]

_CLOSE_SECONDS = 5.0
_TELL_SECONDS = 10.0
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplayOptions:
    """What the command line says beside the files."""

    speed: str = "1x"
    from_text: str | None = None
    to_text: str | None = None
    diff: bool = False
    into_live: bool = False


def replay(
    place: str, feed_path: str, env_path: str, environ: Mapping[str, str], options: ReplayOptions
) -> int:
    """Publish an archive again, or compare it with the bus; print what became of it.

    Returns:
        0; 1 where something was not acknowledged, or differs.

    Raises:
        StartError: a fault of options, files, plugins, archive or stream.
        StorageFailed: the archive cannot be read.
    """
    interval = read_interval(options.from_text, options.to_text)
    factor = read_speed(options.speed)
    settings = ProcessSettings.read(environ)
    configure(settings.log, settings.log_format)
    registry = Registry(PluginIndex.installed())
    plan = resolve(load_files(feed_path, env_path, environ), registry, environ, offline=True)
    for warning in plan.warnings:
        typer.echo(f"Warning: {warning}", err=True)
    if plan.schema_type is None:
        raise UsageError(
            f"the transport {plan.transport_type.name} publishes nothing: name an environment "
            "file whose transport is a bus, such as `transport_type: nats`"
        )
    with open_archive(place, registry, environ) as archive:
        work = _Work(plan, plan.schema_type, archive, interval)
        task = work.compare
        if not options.diff:
            task = partial(work.publish, Pacer(factor), into_live=options.into_live)
        return anyio.run(_supervised, task, backend_options=loop_options())


class _Work:
    """One archive and one bus."""

    def __init__(
        self, plan: RunPlan, schema_type: SchemaType, archive: Archive, interval: Interval
    ) -> None:
        self._plan = plan
        self._interval = interval
        self._metrics = Metrics()
        self._schema_type = schema_type
        self._encoder = schema_type.open(self._metrics)
        self._rereading = Rereading(plan.feed, plan.name, self._encoder, self._metrics)
        self._playback = Playback(archive, plan.name, interval)

    # ── publishing ───────────────────────────────────────────────────────────────

    async def publish(self, pacer: Pacer, stop: anyio.Event, *, into_live: bool) -> int:
        """Publish until the end or ``stop``; return the exit code."""
        performance = Replay(self._playback, self._rereading, self._metrics, pacer=pacer)
        await _beside(
            partial(_tell, performance.so_far),
            partial(self._publish, performance, stop, into_live=into_live),
        )
        for line in replayed(performance.so_far, self._metrics):
            typer.echo(line)
        return 0 if performance.so_far.complete else 1

    async def _publish(self, performance: Replay, stop: anyio.Event, *, into_live: bool) -> None:
        wiring = Wiring(
            metrics=self._metrics,
            warn=lambda text: typer.echo(f"Warning: {redact_text(text)}", err=True),
            on_room=performance.on_room,
            on_rejected=performance.on_rejected,
        )
        transport = make_transport(self._plan, self._encoder, wiring, archived=False)
        try:
            # First, because it makes the stream where that is asked for.
            await transport.open()
            held = await _unless(stop, partial(self._look_into, into_live=into_live))
            if held is None:
                performance.so_far.stopped = True
                return
            so_far = await performance.run(transport, held, stop)
            if so_far.doubted and not (so_far.stopped or so_far.fault):
                await _unless(stop, partial(self._settle, so_far, into_live=into_live))
        finally:
            with anyio.move_on_after(_CLOSE_SECONDS, shield=True):
                await transport.aclose()

    async def _settle(self, so_far: Replayed, *, into_live: bool) -> None:
        """Find out whether the stream holds what it took for duplicates."""
        if self._plan.transport_type.browse is None:
            so_far.settle(0)  # its word is all that there is
            return
        try:
            held = await self._look_into(into_live=into_live)
        except UsageError:
            return  # too many to remember: nobody knows
        metrics = Metrics()
        encoder = self._schema_type.open(metrics)
        again = Rereading(self._plan.feed, self._plan.name, encoder, metrics)
        so_far.settle(await count_absent(self._playback, again, held, so_far.last_ts))

    async def _look_into(self, *, into_live: bool) -> Held:
        plan = self._plan
        if plan.transport_type.browse is None:
            if into_live:
                return Held()
            name = plan.transport_type.name
            raise UsageError(
                f"the transport {name} cannot be read, so nobody can say whether live records "
                "stand where the replay would go; say --into-live if none do, or if that is meant"
            )
        async with plan.transport_type.browse(plan.transport_config, plan.environ) as reader:
            return await look_into(
                reader, plan.environment, plan.name, self._interval, into_live=into_live
            )

    # ── comparing ────────────────────────────────────────────────────────────────

    async def compare(self, stop: anyio.Event) -> int:
        """Compare with what the bus holds, unless ``stop``; return the exit code."""
        code = await _unless(stop, self._compare)
        if code is None:
            typer.echo("stopped before the end: nothing can be said")
            return 1
        return code

    async def _compare(self) -> int:
        plan = self._plan
        if plan.transport_type.browse is None:
            raise UsageError(f"the transport {plan.transport_type.name} cannot be read afterwards")
        async with plan.transport_type.browse(plan.transport_config, plan.environ) as reader:
            diff = Diff(
                self._playback,
                self._rereading,
                reader,
                environment=plan.environment,
                feed=plan.name,
                interval=self._interval,
            )
            findings = await diff.run()
        for line in compared(findings, f"{plan.environment}.{plan.name}"):
            typer.echo(line)
        return 0 if findings.equal else 1


# ── supervision ──────────────────────────────────────────────────────────────────


async def _supervised(task: Callable[[anyio.Event], Awaitable[int]]) -> int:
    """Return what comes of a task; a signal tells it to stop, a second one ends it."""
    stop = anyio.Event()
    with anyio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as numbers:
        try:
            return await _beside(partial(_heed, numbers, stop), partial(task, stop))
        finally:
            signals.ignore()


async def _beside(
    background: Callable[[], Coroutine[Any, Any, None]], work: Callable[[], Awaitable[_T]]
) -> _T:
    """Return what comes of work; what goes on beside it ends with it."""
    outcome: list[_T] = []
    failure: SsmdError | None = None
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(background)
        try:
            outcome.append(await work())
        except SsmdError as error:
            failure = error
        tasks.cancel_scope.cancel()
    if failure is not None:
        raise failure
    return outcome[0]


async def _unless(stop: anyio.Event, work: Callable[[], Awaitable[_T]]) -> _T | None:
    """Return what comes of work, None where it was told to stop before."""
    with anyio.CancelScope() as scope:

        async def wait() -> None:
            await stop.wait()
            scope.cancel()

        return await _beside(wait, work)
    return None


async def _tell(so_far: Replayed) -> None:
    while True:
        await anyio.sleep(_TELL_SECONDS)
        if so_far.last_ts:
            count = f"{so_far.kinds.total():,} messages"
            typer.echo(f"replayed up to {iso(so_far.last_ts)}, {count}", err=True)


async def _heed(numbers: AsyncIterator[signal.Signals], stop: anyio.Event) -> None:
    async for _ in numbers:
        if stop.is_set():
            typer.echo("Error: second signal, stopped at once", err=True)
            os._exit(1)
        stop.set()
