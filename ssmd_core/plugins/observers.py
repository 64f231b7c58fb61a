"""Decides what becomes of observer hooks: called one at a time, on a thread of their own."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Sequence
from typing import Any

import pluggy

from ssmd_core.errors import SsmdError

__all__ = ["Observers"]

_MAX_PENDING = 1024
_Call = tuple[str, dict[str, Any]]


class Observers:
    """Tells observers what happens. Never waits for them, never fails because of them.

    A stranger's code may block or raise. So hooks run on one daemon thread behind a
    bounded queue: when it is full, calls are dropped and counted in ``dropped``.
    """

    def __init__(
        self, hosted: Sequence[tuple[str, pluggy.PluginManager]], warn: Callable[[str], None]
    ) -> None:
        self._hosted = hosted
        self._warn = warn
        self._calls: queue.Queue[_Call | None] = queue.Queue(_MAX_PENDING)
        self._thread: threading.Thread | None = None
        self.dropped = 0

    def run_started(self, *, feed: str, environment: str) -> None:
        """Tell that a connector runs."""
        self._put("ssmd_run_started", feed=feed, environment=environment)

    def gap_detected(self, *, feed: str, channel: str, first: int | None, last: int | None) -> None:
        """Tell of missing sequence numbers ``first``..``last``."""
        self._put("ssmd_gap_detected", feed=feed, channel=channel, first=first, last=last)

    def component_failed(self, *, feed: str, component: str, reason: str) -> None:
        """Tell that a sink or a connection does not work."""
        self._put("ssmd_component_failed", feed=feed, component=component, reason=reason)

    def run_stopped(self, *, feed: str, environment: str, error: SsmdError | None) -> None:
        """Tell that a connector stopped; ``error`` is None after a clean stop."""
        self._put("ssmd_run_stopped", feed=feed, environment=environment, error=error)

    def close(self, timeout_seconds: float = 2.0) -> bool:
        """Let pending calls finish for at most so long; say whether they did."""
        if self._thread is None:
            return True
        try:
            self._calls.put(None, timeout=timeout_seconds)
        except queue.Full:
            return False
        self._thread.join(timeout_seconds)
        return not self._thread.is_alive()

    def _put(self, hook: str, **arguments: Any) -> None:
        if not self._hosted:
            return
        if self._thread is None:
            self._thread = threading.Thread(target=self._serve, name="observers", daemon=True)
            self._thread.start()
        try:
            self._calls.put_nowait((hook, arguments))
        except queue.Full:
            self.dropped += 1
            if self.dropped.bit_count() == 1:  # at 1, 2, 4, 8 …: said, and not once a call
                self._warn(f"observers are too slow: {self.dropped} calls dropped so far")

    def _serve(self) -> None:
        while (call := self._calls.get()) is not None:
            hook, arguments = call
            for origin, manager in self._hosted:
                try:
                    getattr(manager.hook, hook)(**arguments)
                # SystemExit too: an observer does not end the thread of the others.
                except (Exception, SystemExit) as error:  # noqa: BLE001
                    self._warn(f"observer {origin}: {hook} raised {type(error).__name__}: {error}")
