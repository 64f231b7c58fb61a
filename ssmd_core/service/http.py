"""How long the health port lives: from a listening socket to a stop or a cancellation."""

from __future__ import annotations

import importlib
import socket
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import anyio
import anyio.abc
import anyio.to_thread

from ssmd_core.config import HealthAddress
from ssmd_core.service.monitored import Monitored

if TYPE_CHECKING:
    from ssmd_core.service.asgi import Server

__all__ = ["Endpoint", "serve"]

_SERVER_MODULE = "ssmd_core.service.asgi"
_HEAD_START_SECONDS = 1.0
"""So long loading the server waits for a first request: a start has better to do."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A health port that takes requests."""

    address: HealthAddress
    stop: Callable[[], None]
    """Ends it: open requests are answered, then ``serve`` returns."""


async def serve(
    sock: socket.socket,
    subject: Monitored,
    *,
    task_status: anyio.abc.TaskStatus[Endpoint] = anyio.TASK_STATUS_IGNORED,
) -> None:
    """Answer on a listening socket until stopped or cancelled, then close it.

    ``task_status`` is given the ``Endpoint`` at once: requests queue on the socket until
    the server is loaded, which the first one brings about. Signals stay the caller's.
    """
    server: Server | None = None
    unasked = anyio.move_on_after(_HEAD_START_SECONDS)
    stopped = anyio.Event()

    def stop() -> None:
        stopped.set()
        unasked.cancel()
        if server is not None:
            server.should_exit = True

    try:
        with unasked:
            task_status.started(Endpoint(HealthAddress(*sock.getsockname()[:2]), stop))
            await anyio.wait_readable(sock)
        if stopped.is_set():
            return
        # In a thread: frames may be coming in already.
        await anyio.to_thread.run_sync(importlib.import_module, _SERVER_MODULE)
        from ssmd_core.service.asgi import Server, application  # noqa: PLC0415  heavy, so late

        if stopped.is_set():  # while it was loaded
            return
        server = Server(application(subject))
        await server.serve(sockets=[sock])
    except anyio.get_cancelled_exc_class():
        if server is not None and server.started:
            with anyio.CancelScope(shield=True):
                await server.shutdown(sockets=[sock])
        raise
    finally:
        sock.close()
