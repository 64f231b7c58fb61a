"""Registers the NATS transport. Light: opens nothing, imports no client."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import AbstractAsyncContextManager

from ssmd_core.plugins import TransportType, hookimpl
from ssmd_core.sink import Transport, TransportContext
from ssmd_core.sink.bus import BusReader
from ssmd_sink_nats.config import NatsConfig


def open_transport(context: TransportContext, config: NatsConfig) -> Transport:
    """Return the transport; reads the secrets, opens nothing.

    Raises:
        CredentialError: a secret or a certificate is missing or unreadable.
    """
    from ssmd_sink_nats.sink import NatsTransport  # noqa: PLC0415  brings asyncio and ssl

    return NatsTransport(context, config)


def browse_bus(
    config: NatsConfig,
    environ: Mapping[str, str],  # noqa: ARG001  all secrets stand in the section
) -> AbstractAsyncContextManager[BusReader]:
    """Return the bus opened for reading, for as long as it is entered.

    Raises:
        TransportUnusable: it cannot be reached, or refuses us.
        CredentialError: a secret or a certificate is missing or unreadable.
    """
    from ssmd_sink_nats.browse import browse  # noqa: PLC0415  brings asyncio and ssl

    return browse(config)


@hookimpl
def ssmd_transports() -> Iterator[TransportType]:
    """Yield the NATS JetStream transport."""
    yield TransportType(
        name="nats",
        api_version=1,
        config=NatsConfig,
        open=open_transport,
        browse=browse_bus,
        summary="NATS JetStream, every message acknowledged",
    )
