"""Registers the NATS transport. Light: opens nothing, imports no client."""

from __future__ import annotations

from collections.abc import Iterator

from ssmd_core.plugins import TransportType, hookimpl
from ssmd_core.sink import Transport, TransportContext
from ssmd_sink_nats.config import NatsConfig


def open_transport(context: TransportContext, config: NatsConfig) -> Transport:
    """Return the transport; reads the secrets, opens nothing.

    Raises:
        CredentialError: a secret or a certificate is missing or unreadable.
    """
    from ssmd_sink_nats.sink import NatsTransport  # noqa: PLC0415  brings asyncio and ssl

    return NatsTransport(context, config)


@hookimpl
def ssmd_transports() -> Iterator[TransportType]:
    """Yield the NATS JetStream transport."""
    yield TransportType(
        name="nats",
        api_version=1,
        config=NatsConfig,
        open=open_transport,
        summary="NATS JetStream, every message acknowledged",
    )
