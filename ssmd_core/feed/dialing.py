"""Decides how a venue is reached: address, TLS, upgrade, and all of it in time."""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import Callable
from typing import TYPE_CHECKING, cast

from websockets.client import ClientProtocol
from websockets.exceptions import InvalidURI
from websockets.extensions.permessage_deflate import ClientPerMessageDeflateFactory
from websockets.uri import parse_uri

from ssmd_core.errors import ConnectionEnded
from ssmd_core.feed.reach import reach, resolve
from ssmd_core.feed.websocket import Connection, Listener

if TYPE_CHECKING:
    from websockets.extensions import ClientExtensionFactory
    from websockets.typing import Subprotocol

    from ssmd_core.feed.plan import Endpoint

__all__ = ["dial"]

_HANDSHAKE_SECONDS = 10.0
_MIN_SECRET = 8
"""Header values at least so long are never repeated in what we say of the venue."""
_log = logging.getLogger("ssmd_core.feed.websocket.wire")
_log.setLevel(logging.CRITICAL)


async def dial(
    endpoint: Endpoint,
    listener: Listener,
    *,
    on_reached: Callable[[], object],
    read_every_seconds: float = 0.0,
    within_seconds: float = _HANDSHAKE_SECONDS,
) -> Connection:
    """Open a WebSocket and return it once the venue accepted the upgrade.

    Args:
        endpoint: where, and with which headers.
        listener: who is told what comes.
        on_reached: called once TCP and TLS stand.
        read_every_seconds: the socket is read no oftener; 0: whenever something comes.
        within_seconds: how long all of it may take.

    Raises:
        ConnectionEnded: not reached, refused (with ``status``), or not in time.
    """
    try:
        uri = parse_uri(endpoint.url)
    except InvalidURI as error:
        # Without the URL and without the cause: some venues want a token in it.
        raise ConnectionEnded("address", f"no WebSocket address: {error.msg}") from None
    extensions: list[ClientExtensionFactory] = (
        [ClientPerMessageDeflateFactory()] if endpoint.compression else []
    )
    protocol = ClientProtocol(
        uri,
        extensions=extensions or None,  # an empty list would send an empty header
        subprotocols=[cast("Subprotocol", name) for name in endpoint.subprotocols] or None,
        max_size=endpoint.max_frame_bytes,
        logger=_log,
    )
    loop = asyncio.get_running_loop()
    secrets = [value for value in endpoint.headers.values() if len(value) >= _MIN_SECRET]
    connection = Connection(
        protocol, listener, endpoint.max_frame_bytes, secrets, read_every_seconds
    )
    try:
        async with asyncio.timeout(within_seconds):
            await loop.create_connection(
                lambda: connection,
                sock=await reach(await resolve(uri.host, uri.port)),
                ssl=ssl.create_default_context() if uri.secure else None,
                server_hostname=uri.host if uri.secure else None,
            )
            on_reached()
            connection.shake_hands(list(endpoint.headers.items()))
            await connection.accepted
    except TimeoutError:
        why = ConnectionEnded("timeout", f"no answer within {within_seconds:g} s")
        connection.abort(why)
        raise why from None
    except OSError as error:
        raise ConnectionEnded("unreachable", f"{uri.host}:{uri.port}: {error}") from error
    except BaseException:
        connection.abort(ConnectionEnded("cancelled"))
        raise
    return connection
