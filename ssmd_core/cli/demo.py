"""`ssmd demo`: the whole thing with no account and no network."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import anyio
from rich.console import Console
from rich.live import Live

from ssmd_core.cli.demo_bus import open_server, read_bus
from ssmd_core.cli.demo_files import ENVIRONMENT, DemoFiles, survey, write_files
from ssmd_core.cli.demo_view import line, picture, summary
from ssmd_core.cli.demo_watch import Glimpse, Watch
from ssmd_core.config import ProcessSettings, load_files
from ssmd_core.errors import PluginError, SsmdError, UsageError
from ssmd_core.plugins.index import Kind, PluginIndex
from ssmd_core.plugins.registry import Registry
from ssmd_core.service.connector import Connector
from ssmd_core.service.logs import configure
from ssmd_core.service.plan import resolve

if TYPE_CHECKING:
    from ssmd_core.plugins import Demo, FeedType

__all__ = ["find_demo", "run_demo"]

_DEFAULT_ROOT = Path("ssmd-demo")
_FRAME_SECONDS = 0.25
_LINE_SECONDS = 3.0
_BUS_TAIL_SECONDS = 2.0
_BUS_LOOKS = 40


def run_demo(
    nats: bool = False,  # noqa: FBT001, FBT002  one of three words of the command line
    seconds: float = 30.0,
    path: Path | None = None,
) -> int:
    """Capture a loopback venue for ``seconds`` or until Ctrl-C; return the exit code.

    Args:
        nats: also publish to a NATS server started for the demo, and read it back.
        seconds: how long.
        path: directory for what is captured; by default ``./ssmd-demo``. What stands
            there stays.

    Raises:
        SsmdError: no feed offers a demo, ``nats-server`` is missing, and whatever a real
            run would raise.
    """
    if not seconds > 0:
        raise UsageError(f"--seconds is {seconds:g}: it must be greater than 0")
    configure("warn")
    return anyio.run(_demonstrate, nats, seconds, path or _DEFAULT_ROOT)


def find_demo(registry: Registry) -> FeedType:
    """Return the first installed feed that offers a demo.

    Raises:
        UsageError: none does.
    """
    broken: list[str] = []
    for entry in registry.entries():
        if entry.kind is not Kind.FEED:
            continue
        try:
            feed = registry.feed(f"{entry.distribution}:{entry.type}")
        except PluginError as error:
            broken.append(str(error))
        else:
            if feed.demo is not None:
                return feed
    raise UsageError(
        "; ".join(
            ["no installed feed offers a demo: `pip install 'ssmd-core[demo]'` brings one", *broken]
        )
    )


class _Console(Console):
    """A console whose reader may go away: the capture goes on, unseen."""

    def on_broken_pipe(self) -> None:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


@dataclass(frozen=True, slots=True)
class _Run:
    """One demo that is under way."""

    connector: Connector
    watch: Watch
    files: DemoFiles
    feed: str
    bus_url: str | None
    seconds: float


async def _demonstrate(nats: bool, seconds: float, root: Path) -> int:  # noqa: FBT001  anyio.run passes positions
    registry = Registry(PluginIndex.installed())
    feed = find_demo(registry)
    assert feed.demo is not None  # noqa: S101  find_demo returns no other
    outcome: int | SsmdError
    async with AsyncExitStack() as stack:
        bus_url = await stack.enter_async_context(open_server()) if nats else None
        demo = await stack.enter_async_context(feed.demo())
        # Caught in here: the venue may run tasks, and would wrap the error in a group.
        try:
            files = write_files(root, feed.name, demo, bus_url)
            connector, watch = _prepare(registry, files, demo)
            run = _Run(connector, watch, files, feed.name, bus_url, seconds)
            outcome = await _capture_and_report(run, demo.endpoint)
        except SsmdError as error:
            outcome = error
    if isinstance(outcome, SsmdError):
        raise outcome
    return outcome


async def _capture_and_report(run: _Run, endpoint: str) -> int:
    console, started = _Console(), time.monotonic()
    _say(console, [f"A loopback venue plays {run.feed} at {endpoint}."])
    code = await _capture(run, console)
    last = _look(run, started, None)
    captured = survey(run.files.archive, run.feed)
    _say(console, summary(last, run.connector.metrics, captured, run.files.root))
    return code


def _prepare(registry: Registry, files: DemoFiles, demo: Demo) -> tuple[Connector, Watch]:
    # The venue's credentials are all there is: nothing of the shell's gets into a demo.
    environ = dict(demo.environ)
    plan = resolve(load_files(files.feed, files.env, environ), registry, environ)
    watch = Watch()
    settings = ProcessSettings.read({}, health_addr="127.0.0.1:0")
    return Connector(plan, settings, tap=watch.take), watch


async def _capture(run: _Run, console: Console) -> int:
    stop = anyio.Event()
    outcome: list[int | SsmdError] = []

    async def connect() -> None:
        try:
            outcome.append(await run.connector.run(stop))
        except SsmdError as error:
            outcome.append(error)
        await _wait_for_bus(run)
        tasks.cancel_scope.cancel()

    async with anyio.create_task_group() as tasks:
        if run.bus_url is not None:
            await tasks.start(_read_bus, run)
        tasks.start_soon(connect)
        tasks.start_soon(_show, run, console, stop)
        await anyio.sleep(run.seconds)
        stop.set()
    match outcome:
        case [int() as code]:
            return code
        case [SsmdError() as error]:
            raise error
        case _:
            return 1


async def _read_bus(run: _Run, *, task_status: anyio.abc.TaskStatus[None]) -> None:
    subject = f"{ENVIRONMENT}.{run.feed}.>"
    await read_bus(str(run.bus_url), subject, run.watch, task_status=task_status)


async def _wait_for_bus(run: _Run) -> None:
    """Let what is acknowledged also be read back."""
    for _ in range(_BUS_LOOKS if run.bus_url else 0):
        if run.watch.bus_total >= run.connector.metrics.published:
            return
        await anyio.sleep(_BUS_TAIL_SECONDS / _BUS_LOOKS)


async def _show(run: _Run, console: Console, stop: anyio.Event) -> None:
    started = time.monotonic()
    glimpse: Glimpse | None = None
    if not console.is_terminal:
        every_seconds = min(_LINE_SECONDS, run.seconds / 3)
        while not await _stopped_within(stop, every_seconds):
            glimpse = _look(run, started, glimpse)
            _say(console, [line(glimpse)])
        return
    with Live(console=console, auto_refresh=False, transient=True) as live:
        while not await _stopped_within(stop, _FRAME_SECONDS):
            glimpse = _look(run, started, glimpse)
            live.update(picture(glimpse), refresh=True)


async def _stopped_within(stop: anyio.Event, seconds: float) -> bool:
    with anyio.move_on_after(seconds):
        await stop.wait()
    return stop.is_set()


def _look(run: _Run, started: float, before: Glimpse | None) -> Glimpse:
    return Glimpse.of(
        run.connector.metrics,
        run.connector.status(),
        run.watch,
        elapsed_seconds=time.monotonic() - started,
        nats=run.bus_url is not None,
        before=before,
    )


def _say(console: Console, lines: Iterable[str]) -> None:
    """Print plain text: nothing of it is markup, and no line is broken."""
    for text in lines:
        console.out(text, highlight=False)
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        console.on_broken_pipe()
