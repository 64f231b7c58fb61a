"""Decides what a transport that breaks its word is taken for: a bus that is away."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

from ssmd_core.log import get_logger
from ssmd_core.sink import Health, Message, Stored, Transport

__all__ = ["Guarded"]

_log = get_logger("ssmd.publisher")

Answer = TypeVar("Answer")


class Guarded:
    """A transport as the pipeline sees it: whatever a stranger's code raises ends nothing.

    What is raised is logged once a method, and stands in ``health`` until it works again.
    """

    def __init__(self, transport: Transport) -> None:
        self._transport = transport
        self._faults: dict[str, str] = {}
        self._told: set[str] = set()

    def room(self) -> int:
        """Return how many messages ``publish`` will take now; 0 where it cannot be told."""
        try:
            room = self._transport.room()
        except Exception as error:  # noqa: BLE001  see the class
            self._blame("room", error)
            return 0
        if self._faults:
            self._faults.pop("room", None)
        return room

    def publish(self, messages: Sequence[Message]) -> str:
        """Hand messages on; return why that failed, or empty."""
        try:
            self._transport.publish(messages)
        except Exception as error:  # noqa: BLE001  see the class
            return self._blame("publish", error)
        if self._faults:
            self._faults.pop("publish", None)
        return ""

    def oldest_unacked(self) -> int | None:
        """Return the ``ts`` of the oldest message not acknowledged; 0 where it cannot be told."""
        nothing_passed: int | None = 0
        return self._ask("oldest_unacked", self._transport.oldest_unacked, nothing_passed)

    def connected(self) -> bool:
        """Say whether the bus is there."""
        return self._ask("connected", self._transport.connected, False)  # noqa: FBT003  an answer

    def health(self) -> Health:
        """Say whether messages are taken and acknowledged; what failed is asked again."""
        if self._faults:
            for again in (self.room, self.connected, self.oldest_unacked):
                again()
        told = self._ask("health", self._transport.health, Health(ok=False))
        fault = next(iter(self._faults.values()), "")
        return Health(ok=False, reason=fault) if fault else told

    async def stored(self, after: int | None) -> Stored | None:
        """Look at what the bus holds above a ``ts``; None where it cannot be told."""
        try:
            return await self._transport.stored(after)
        except Exception as error:  # noqa: BLE001  see the class
            _log.warning("the bus could not say what it holds", why=repr(error))
            return None

    async def flush(self) -> None:
        """Return when everything taken is acknowledged, or when that cannot be told."""
        try:
            await self._transport.flush()
        except Exception as error:  # noqa: BLE001  see the class
            _log.warning("the transport failed to flush", why=repr(error))

    def _ask(self, method: str, call: Callable[[], Answer], otherwise: Answer) -> Answer:
        try:
            answer = call()
        except Exception as error:  # noqa: BLE001  see the class
            self._blame(method, error)
            return otherwise
        if self._faults:
            self._faults.pop(method, None)
        return answer

    def _blame(self, method: str, error: Exception) -> str:
        fault = f"the transport's `{method}` raised {error!r}"
        self._faults[method] = fault
        if method not in self._told:
            self._told.add(method)
            _log.error("the transport broke its word", method=method, exc_info=error)
        return fault
