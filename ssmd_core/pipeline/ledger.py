"""The coverage ledger: one JSON line for each event that says what is or is not covered."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from ssmd_core.clock import ReceiptClock, iso
from ssmd_core.log import get_logger
from ssmd_core.sink import Storage

__all__ = ["INTRODUCTIONS", "LEDGER_VERSION", "Ledger", "Observe"]

Observe = Callable[[str, Mapping[str, Any]], None]
"""Is told of each event and its fields."""

LEDGER_VERSION = 1
"""Of the rules that docs/ledger.md gives; within it events and fields are only added."""
INTRODUCTIONS = frozenset({"session_opened", "session_carried"})
"""Events that tell a reader of one day whose archive it is."""

_MAX_HELD = 10_000
_QUIET = frozenset(
    {"repaired", "subscribed", "session_carried", "rotated", "resumed", "sink_recovered"}
)
_log = get_logger("ssmd.ledger")


class Ledger:
    """Write events beside the archive, to the bus and to the log, in this order.

    While the disk refuses, lines wait in a bounded buffer and are written first when
    space returns; how many of the oldest did not fit is a ``dropped`` line of its own.
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
        self._held: deque[tuple[int, bytes]] = deque()
        self._dropped = self._dropped_from = self._dropped_to = 0
        self.head_ts = 0
        """``ts`` of the last line in the archive."""

    def write(
        self, event: str, *, session: str | None = None, conn: int | None = None, **fields: Any
    ) -> None:
        """Write one event now. ``ts`` is a receipt time of its own, so lines are ordered."""
        ts = self._receipt.stamp()
        line = _line(ts, session, conn, event, fields)
        self._held.append((ts, line))
        self._put_down()
        self._publish(ts, line)
        if self._observe is not None:
            self._observe(event, fields)
        log = _log.info if event in _QUIET or event.startswith("session_") else _log.warning
        log(event, session=session, conn=conn, **fields)

    def flush(self) -> None:
        """Try to write what is held, and tell what could not be. Called on a timer."""
        self._put_down()
        if self._dropped and not self._held:
            count, self._dropped = self._dropped, 0
            from_ts, self._dropped_from = self._dropped_from, 0
            self.write(
                "dropped",
                sink="ledger",
                reason="the archive refused ledger lines for longer than memory holds",
                lines=count,
                from_ts=iso(from_ts),
                to_ts=iso(self._dropped_to),
            )

    @property
    def held(self) -> int:
        """How many lines wait for the disk."""
        return len(self._held)

    @property
    def waiting_ts(self) -> int | None:
        """``ts`` of the first line that waits for the disk."""
        return self._held[0][0] if self._held else None

    def _put_down(self) -> None:
        if self._storage is None:
            self._held.clear()
        while self._storage is not None and self._held:
            ts, line = self._held[0]
            try:
                self._storage.note(ts, line)
            except Exception:  # noqa: BLE001  whatever it was, the line is tried again
                break
            self._held.popleft()
            self.head_ts = ts
        while len(self._held) > _MAX_HELD:
            ts, _ = self._held.popleft()
            self._dropped += 1
            self._dropped_from = self._dropped_from or ts
            self._dropped_to = ts


def _line(
    ts: int, session: str | None, conn: int | None, event: str, fields: dict[str, Any]
) -> bytes:
    event_line = {"ts": iso(ts), "session": session, "conn": conn, "event": event, **fields}
    try:
        return msgspec.json.encode(event_line, enc_hook=str)
    except UnicodeEncodeError:
        # Text of a venue or a stranger that UTF-8 cannot carry is escaped, never lost.
        return json.dumps(event_line, default=str, separators=(",", ":")).encode()
