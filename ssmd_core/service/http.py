"""How long the health port lives: from a listening socket to a stop or a cancellation."""

from __future__ import annotations

import socket
from collections.abc import Callable
from dataclasses import dataclass

import anyio
import anyio.abc

from ssmd_core.config import HealthAddress
from ssmd_core.service.monitored import Monitored

__all__ = ["Endpoint", "serve"]


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A health port that answers."""

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

    ``task_status`` is given the ``Endpoint`` as soon as requests are answered. Signals
    stay the caller's.
    """
    from ssmd_core.service.asgi import Server, application  # noqa: PLC0415  heavy, so late

    def stop() -> None:
        server.should_exit = True

    endpoint = Endpoint(HealthAddress(*sock.getsockname()[:2]), stop)
    server = Server(application(subject), lambda: task_status.started(endpoint))
    try:
        await server.serve(sockets=[sock])
    except anyio.get_cancelled_exc_class():
        if server.started:
            with anyio.CancelScope(shield=True):
                await server.shutdown(sockets=[sock])
        raise
    finally:
        sock.close()
