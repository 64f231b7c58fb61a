"""Which server to try next, with what to show it, and how long to wait between rounds."""

from __future__ import annotations

import asyncio
import ipaddress
import os
import random
import socket

from ssmd_core.errors import TransportUnusable
from ssmd_sink_nats.auth import load_login, load_tls
from ssmd_sink_nats.config import NatsConfig, Server
from ssmd_sink_nats.connection import Connection, Receiver
from ssmd_sink_nats.dialing import Entry, dial
from ssmd_sink_nats.protocol import LIMIT_BYTES, Info

__all__ = ["Cluster", "backoff_seconds", "discovered", "explain"]

_MAX_DISCOVERED = 32
_READ_SECONDS = 10.0


class Cluster:
    """The servers of the configuration, and those they named."""

    def __init__(
        self, config: NatsConfig, client_name: str, *, limit_bytes: int = LIMIT_BYTES
    ) -> None:
        """Read the secrets once; open nothing.

        Args:
            config: where the bus is and how to log in.
            client_name: how connections are listed at the server.
            limit_bytes: what a single message to us may have.

        Raises:
            CredentialError: a secret or a certificate is missing or unreadable.
        """
        self._config = config
        self._client_name = client_name
        self._limit_bytes = limit_bytes
        self._members: tuple[Server, ...] = ()
        self._last: Server | None = None
        self._entry()

    def __str__(self) -> str:
        return ", ".join(server.url for server in self._config.servers)

    def learn(self, connection: Connection) -> None:
        """Remember the cluster as this connection's server sees it."""
        self._last = connection.server
        self._members = discovered(connection.server, connection.info)

    def candidates(self) -> list[Server]:
        """Return every server once, the one after the last used first."""
        # The servers name each other, and so those of the configuration too.
        known: dict[tuple[str, int], Server] = {}
        for server in (*self._config.servers, *self._members):
            known.setdefault((server.host, server.port), server)
        order = list(known.values())
        last = self._last
        if last is not None and (last.host, last.port) in known:
            after = list(known).index((last.host, last.port)) + 1
            return order[after:] + order[:after]
        return order

    async def connect(self, receiver: Receiver, *, seconds: float) -> Connection:
        """Try each server for at most ``seconds`` and return the first connection.

        Raises:
            TransportUnusable: none took us, and one that answered refused.
            CredentialError: a secret or a certificate is missing or unreadable.
            OSError: none can be reached; the message says why.
        """
        try:
            async with asyncio.timeout(_READ_SECONDS):
                # Secrets rotate, and files may lie on a slow disk: not while the loop waits.
                entry = await asyncio.to_thread(self._entry)
        except TimeoutError:
            raise TimeoutError("the files of transport.tls or the login cannot be read") from None
        failures: list[str] = []
        refusal: TransportUnusable | None = None
        for server in self.candidates():
            try:
                async with asyncio.timeout(seconds):
                    connection = await dial(server, entry, receiver)
            except TransportUnusable as error:
                refusal = error
            except UnicodeError:
                failures.append(f"{server.url} cannot be reached: that is no host name")
            except OSError as error:
                failures.append(f"{server.url} cannot be reached: {explain(error)}")
            else:
                self.learn(connection)
                return connection
        if refusal is not None:
            raise refusal
        raise ConnectionError("; ".join(failures))

    def _entry(self) -> Entry:
        config = self._config
        wants_tls = config.tls is not None or any(server.tls for server in config.servers)
        return Entry(
            client_name=self._client_name,
            login=load_login(config),
            tls=load_tls(config.tls) if wants_tls else None,
            handshake_first=config.tls is not None and config.tls.handshake_first,
            inbox_prefix=config.inbox_prefix,
            limit_bytes=self._limit_bytes,
        )


def discovered(server: Server, info: Info) -> tuple[Server, ...]:
    """Return the other members of the cluster that a server named."""
    members = []
    for address in info.connect_urls[:_MAX_DISCOVERED]:
        host, _, port = address.rpartition(":")
        if not host or not port.isdecimal():
            continue
        host = host.strip("[]")
        # Members are mostly listed by address, while certificates are made out to names.
        name = server.certificate_name or server.host if _is_address(host) else None
        members.append(Server(host, int(port), tls=server.tls, certificate_name=name))
    return tuple(members)


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def backoff_seconds(attempt: int, *, least: float, most: float) -> float:
    """Return how long to wait before attempt ``attempt`` (from 0): doubling, capped, jittered."""
    return float(min(most, least * 2.0 ** min(attempt, 32)) * random.uniform(0.5, 1.0))


def explain(error: OSError) -> str:
    """Return why a connection failed, without addresses and exception names."""
    if isinstance(error, TimeoutError):
        return str(error) or "no answer in time"
    if isinstance(error, socket.gaierror):
        return f"the name is not known ({error.strerror})"
    return os.strerror(error.errno) if error.errno else str(error)
