"""The HTTP side of the driver: one GET, in a thread that nobody has to wait for.

The standard library's client is used because a repair is rare and a larger one would
cost every process its memory. Its thread is left alone when the time is up or the
caller is cancelled; it ends by itself, and never holds the process up.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from functools import cache
from typing import TYPE_CHECKING

import anyio

from ssmd_core import __version__
from ssmd_core.errors import FetchFailed
from ssmd_core.feed.repair import Fetch

if TYPE_CHECKING:
    from http.client import HTTPResponse
    from urllib.request import OpenerDirector

__all__ = ["get"]

_CHUNK_BYTES = 64 * 1024
_REDIRECTS = range(300, 400)
_FIRST_SERVER_FAULT = 500
_TOO_MANY_REQUESTS = 429


async def get(fetch: Fetch) -> bytes:
    """Return the body of one GET. Redirects are not followed, certificates are verified.

    Raises:
        FetchFailed: no answer in time, another status than 2xx, too large or cut short.
    """
    loop = asyncio.get_running_loop()
    answer: asyncio.Future[bytes | FetchFailed] = loop.create_future()

    def settle(outcome: bytes | FetchFailed) -> None:
        if not answer.done():
            answer.set_result(outcome)

    def work() -> None:
        outcome = _attempt(fetch)
        with contextlib.suppress(RuntimeError):  # the loop may be closed by now
            loop.call_soon_threadsafe(settle, outcome)

    # No worker of anyio's: those are waited for at the exit of the process.
    threading.Thread(target=work, name="ssmd-fetch", daemon=True).start()
    with anyio.move_on_after(fetch.timeout_seconds):
        outcome = await answer
        if isinstance(outcome, FetchFailed):
            raise outcome
        return outcome
    raise _late(fetch)


def _attempt(fetch: Fetch) -> bytes | FetchFailed:
    try:
        return _download(fetch)
    except FetchFailed as failure:
        return failure
    except Exception as error:  # noqa: BLE001  a thread has nobody to raise to
        return FetchFailed(f"the request failed: {type(error).__name__}", lasting=True)


def _download(fetch: Fetch) -> bytes:
    from http.client import HTTPException, InvalidURL  # noqa: PLC0415  with the next one
    from urllib.error import HTTPError, URLError  # noqa: PLC0415  only a repair needs them
    from urllib.request import Request  # noqa: PLC0415

    deadline = time.monotonic() + fetch.timeout_seconds
    try:
        request = Request(fetch.url, headers=dict(fetch.headers))  # noqa: S310  see _opener
        with _opener().open(request, timeout=fetch.timeout_seconds) as response:
            return _read(response, fetch, deadline)
    except HTTPError as error:
        error.close()
        raise _refused(error.code) from None
    except (ValueError, InvalidURL):
        # What they say may quote the URL, and that may hold a secret.
        raise FetchFailed("the URL or a header cannot be sent", lasting=True) from None
    except URLError as error:
        if isinstance(error.reason, str):
            raise FetchFailed("the URL is not http:// or https://", lasting=True) from None
        raise FetchFailed(_said(error.reason)) from None
    except (OSError, HTTPException) as error:
        raise FetchFailed(_said(error)) from None


@cache
def _opener() -> OpenerDirector:
    """Return a client that speaks HTTP and HTTPS and does nothing of its own accord."""
    import ssl  # noqa: PLC0415  only a repair needs them
    import urllib.request  # noqa: PLC0415

    opener = urllib.request.OpenerDirector()
    opener.addheaders = [("User-agent", f"ssmd/{__version__}"), ("Accept", "application/json")]
    context = ssl.create_default_context()
    for handler in (
        urllib.request.HTTPHandler(),
        urllib.request.HTTPSHandler(context=context),
        urllib.request.HTTPErrorProcessor(),
        urllib.request.HTTPDefaultErrorHandler(),
        urllib.request.UnknownHandler(),
    ):
        opener.add_handler(handler)
    return opener


def _read(response: HTTPResponse, fetch: Fetch, deadline: float) -> bytes:
    body = bytearray()
    while chunk := response.read1(_CHUNK_BYTES):
        body += chunk
        if len(body) > fetch.max_bytes:
            raise FetchFailed(f"the body is larger than {fetch.max_bytes} bytes", lasting=True)
        # The socket's own timeout begins anew with every byte of a slow body.
        if time.monotonic() > deadline:
            raise _late(fetch)
    promised = response.headers.get("Content-Length", "")
    if promised.isdecimal() and len(body) != int(promised):
        raise FetchFailed(f"the body was cut after {len(body)} of {promised} bytes")
    return bytes(body)


def _refused(status: int) -> FetchFailed:
    """Return what a status other than 2xx means: some pass, others stay."""
    passes = status == _TOO_MANY_REQUESTS or status >= _FIRST_SERVER_FAULT
    hint = ": redirects are not followed" if status in _REDIRECTS else ""
    return FetchFailed(f"HTTP {status}{hint}", lasting=not passes)


def _late(fetch: Fetch) -> FetchFailed:
    return FetchFailed(f"no complete answer within {fetch.timeout_seconds:g} s")


def _said(error: BaseException) -> str:
    text = getattr(error, "strerror", None) or str(error)
    return f"{type(error).__name__}: {text}"[:200] if text else type(error).__name__
