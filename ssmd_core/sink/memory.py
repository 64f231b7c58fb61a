"""The memory transport: file mode. Nothing leaves the process; the archive is the output."""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import BaseModel, ConfigDict

from ssmd_core.sink.contract import Message, Transport

__all__ = ["MemoryConfig", "MemoryTransport"]


class MemoryConfig(BaseModel):
    """The memory transport has no settings; ``url`` is accepted and unused."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    url: str | None = None


class MemoryTransport(Transport):
    """Takes no messages; its ``TransportType`` says so, and the host never opens it."""

    def room(self) -> int:
        """Return 0: nothing is ever taken."""
        return 0

    def publish(self, messages: Sequence[Message]) -> None:
        """Refuse: the host must not publish here."""
        msg = f"the memory transport publishes nothing, {len(messages)} given"
        raise NotImplementedError(msg)

    def oldest_unacked(self) -> int | None:
        """Return None."""
        return None

    async def flush(self) -> None:
        """Return at once."""
