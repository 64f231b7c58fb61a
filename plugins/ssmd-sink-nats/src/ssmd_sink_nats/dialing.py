"""How a connection comes to be: socket, TLS, login, and what a refusal means for the operator."""

from __future__ import annotations

import asyncio
import ssl
from dataclasses import dataclass

from ssmd_core.errors import TransportUnusable
from ssmd_sink_nats.auth import Login, Method, connect_fields, load_tls, secrets_of
from ssmd_sink_nats.config import Server
from ssmd_sink_nats.connection import Connection, Receiver
from ssmd_sink_nats.masking import Mask
from ssmd_sink_nats.protocol import PING, connect_line, subscribe_line

__all__ = ["Entry", "dial"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """What a server must be shown."""

    client_name: str
    """How the connection is listed at the server."""
    login: Login
    tls: ssl.SSLContext | None
    """None where the configuration asks for none; a server may still."""
    handshake_first: bool
    inbox_prefix: str
    limit_bytes: int
    """What a single message to us may have."""


async def dial(server: Server, entry: Entry, receiver: Receiver) -> Connection:
    """Open a connection and log in. The caller bounds the time.

    Raises:
        TransportUnusable: the server answers and refuses; names the key to look at.
        OSError: it cannot be reached; the message says why.
    """
    loop = asyncio.get_running_loop()
    connection = Connection(server, receiver, entry.inbox_prefix, entry.limit_bytes)
    host, port = server.host, server.port
    try:
        if entry.handshake_first:
            name = server.certificate_name or host
            await loop.create_connection(
                lambda: connection, host, port, ssl=entry.tls, server_hostname=name
            )
        else:
            await loop.create_connection(lambda: connection, host, port)
        await _log_in(connection, entry)
    except ssl.SSLError as error:
        connection.end("TLS failed")
        raise TransportUnusable(_distrust(server, error)) from error
    except BaseException as error:
        connection.end(str(error) or type(error).__name__)
        raise
    return connection


async def _log_in(connection: Connection, entry: Entry) -> None:
    """Go from an open socket to a connection that can publish."""
    server, info = connection.server, await connection.greeting()
    encrypted = entry.handshake_first
    if not encrypted and (entry.tls or server.tls or info.tls_required):
        if not (info.tls_required or info.tls_available):
            raise TransportUnusable(
                f"transport.tls: the bus at {server.url} offers no TLS, "
                "and credentials are not sent in the clear; remove tls or use another port"
            )
        context = entry.tls
        if context is None:
            # The system's certificates are read from many files: not while the loop waits.
            context = await asyncio.to_thread(load_tls, None)
        await connection.encrypt(context)
        encrypted = True
    fields = connect_fields(entry.login, connection.info.nonce)
    # A peer that is no proper server may send back what it was shown.
    connection.hide(Mask((*secrets_of(entry.login), fields.get("sig", ""))))
    connection.write(
        connect_line(entry.client_name, tls=encrypted, login=fields)
        + subscribe_line(connection.inbox)
        + PING
    )
    try:
        await connection.first_pong()
    except ConnectionError as error:
        if connection.tls_error is not None:
            raise TransportUnusable(_distrust(server, connection.tls_error)) from error
        ending = connection.ending
        if ending is not None and ending.refused:
            raise TransportUnusable(_refusal(server, ending.reason, entry.login.method)) from error
        raise
    connection.go_live()


def _refusal(server: Server, text: str, method: Method) -> str:
    if "permissions violation for subscription" in text.lower():
        return (
            f"transport.inbox_prefix: the bus at {server.url} does not let this user subscribe "
            f"to its inbox ({text}); allow it or set inbox_prefix to one that is allowed"
        )
    if method is Method.NONE:
        return (
            f"transport.user: the bus at {server.url} wants a login ({text}); "
            "set user and password, token, credentials or nkey_seed_path"
        )
    return (
        f"transport.{method.value}: the bus at {server.url} refused the login ({text}); "
        "correct it, or the user at the bus"
    )


def _distrust(server: Server, error: ssl.SSLError) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return (
            f"transport.tls.ca: the certificate of the bus at {server.url} is not trusted: "
            f"{error.verify_message}; name the CA that signed it, and a host that it is made out to"
        )
    if error.reason and "CERTIFICATE" in error.reason:
        return (
            f"transport.tls.cert: the bus at {server.url} wants a client certificate that it "
            f"trusts ({error.reason}); set cert and key"
        )
    return f"transport.tls: TLS with the bus at {server.url} failed: {error.reason or error}"
