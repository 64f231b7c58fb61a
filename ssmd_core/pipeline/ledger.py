"""The coverage ledger: one JSON line for each event that says what is or is not covered."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from typing import Any

import msgspec
import structlog

from ssmd_core.clock import ReceiptClock, iso
from ssmd_core.sink import Storage

__all__ = ["Ledger", "Observe"]

Observe = Callable[[str, Mapping[str, Any]], None]
"""Is told of each event and its fields."""

_MAX_HELD = 10_000
_QUIET = frozenset({"subscribed", "session_carried", "rotated", "resumed", "sink_recovered"})
_log = structlog.get_logger("ssmd.ledger")


class Ledger:
    """Write events beside the archive, to the bus and to the log, in this order.

    While the disk refuses, lines wait in a bounded buffer and are written first when
    space returns.
    """

    def __init__(
        self,
        storage: Storage | None,
        receipt: ReceiptClock,
        publish: Callable[[int, bytes], None],
        observe: Observe | None = None,
    ) -> None:
        self._storage = storage
        self._receipt = receipt
        self._publish = publish
        self._observe = observe
        self._held: deque[tuple[int, bytes]] = deque(maxlen=_MAX_HELD)
        self.head_ts = 0
        """``ts`` of the last line in the archive."""

    def write(
        self, event: str, *, session: str | None = None, conn: int | None = None, **fields: Any
    ) -> None:
        """Write one event now. ``ts`` is a receipt time of its own, so lines are ordered."""
        ts = self._receipt.stamp()
        line = _line(ts, session, conn, event, fields)
        self._held.append((ts, line))
        self.flush()
        self._publish(ts, line)
        if self._observe is not None:
            self._observe(event, fields)
        log = _log.info if event in _QUIET or event.startswith("session_") else _log.warning
        log(event, session=session, conn=conn, **fields)

    def flush(self) -> None:
        """Try to write what is held."""
        if self._storage is None:
            self._held.clear()
            return
        while self._held:
            ts, line = self._held[0]
            try:
                self._storage.note(ts, line)
            except Exception:  # noqa: BLE001  whatever it was, the line is tried again
                return
            self._held.popleft()
            self.head_ts = ts

    @property
    def held(self) -> int:
        """How many lines wait for the disk."""
        return len(self._held)

    @property
    def waiting_ts(self) -> int | None:
        """``ts`` of the first line that waits for the disk."""
        return self._held[0][0] if self._held else None


def _line(
    ts: int, session: str | None, conn: int | None, event: str, fields: dict[str, Any]
) -> bytes:
    head = {"ts": iso(ts), "session": session, "conn": conn, "event": event}
    return msgspec.json.encode({**head, **fields})
