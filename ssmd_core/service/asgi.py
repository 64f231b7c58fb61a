"""The ASGI application and its server. Imported only where something serves: it is heavy."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

import anyio
import anyio.to_thread
import uvicorn
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from ssmd_core.service.answers import Answer, fault, liveness, readiness, status
from ssmd_core.service.exposition import Exposition
from ssmd_core.service.monitored import Monitored

__all__ = ["Server", "application"]

_METRICS_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_MAX_CONNECTIONS = 256
_KEEP_ALIVE_SECONDS = 30
_DRAIN_SECONDS = 2


def application(subject: Monitored) -> Starlette:
    """Return the application that reports on ``subject``."""
    exposition = Exposition(subject)
    # Its own limiter: threads stuck on a dead disk never keep a scrape waiting.
    scrapes = anyio.CapacityLimiter(1)

    async def metrics(_: Request) -> Response:
        reading = exposition.read()
        text = await anyio.to_thread.run_sync(exposition.render, reading, limiter=scrapes)
        return Response(text, headers={"content-type": _METRICS_TYPE})

    def answering(answer: Callable[[Monitored], Answer], *paths: str) -> list[Route]:
        async def endpoint(_: Request) -> Response:
            return _response(answer(subject))

        return [Route(path, endpoint) for path in paths]

    app = Starlette(
        routes=[
            *answering(liveness, "/health", "/livez"),
            *answering(readiness, "/ready", "/readyz"),
            *answering(status, "/status"),
            Route("/metrics", metrics),
        ],
        exception_handlers={HTTPException: _refuse, Exception: _fail},
    )
    # A probe does not follow redirects: "/health/" is as unknown as any other path.
    app.router.redirect_slashes = False
    return app


class Server(uvicorn.Server):
    """uvicorn without its hands on the signals, which belong to the connector."""

    def __init__(self, app: Starlette) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                log_config=None,
                access_log=False,
                server_header=False,
                lifespan="off",
                ws="none",
                limit_concurrency=_MAX_CONNECTIONS,
                timeout_keep_alive=_KEEP_ALIVE_SECONDS,
                timeout_graceful_shutdown=_DRAIN_SECONDS,
            )
        )

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Capture nothing."""
        yield


def _response(answer: Answer) -> Response:
    return Response(answer.body, status_code=answer.code, media_type="application/json")


async def _refuse(_: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)  # noqa: S101  it is registered for this class
    response = _response(fault(error.status_code))
    response.headers.update(error.headers or {})
    return response


async def _fail(_: Request, __: Exception) -> Response:
    return _response(fault(500))
