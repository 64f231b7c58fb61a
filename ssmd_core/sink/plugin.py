"""Registers the memory transport. Light: opens nothing."""

from __future__ import annotations

from collections.abc import Iterator

from ssmd_core.plugins import TransportType, hookimpl
from ssmd_core.sink.memory import MemoryConfig, MemoryTransport


@hookimpl
def ssmd_transports() -> Iterator[TransportType]:
    """Yield the transport of file mode."""
    yield TransportType(
        name="memory",
        api_version=1,
        config=MemoryConfig,
        open=lambda _context, _config: MemoryTransport(),
        publishes=False,
        summary="File mode: nothing is published, the archive is the output",
        stability="stable",
    )
