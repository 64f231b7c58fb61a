"""Decides when reading pauses because a sink takes less than the venue sends."""

from __future__ import annotations

from collections.abc import Callable

from ssmd_core.metrics import Metrics
from ssmd_core.pipeline.archiver import Archiver
from ssmd_core.pipeline.ledger import Ledger
from ssmd_core.pipeline.publisher import Publisher

__all__ = ["Pressure"]

_LONG_SECONDS = 1.0
"""A pause from here on stands in the ledger."""
_MAX_SECONDS = 2.0
"""With an archive the venue is not kept waiting longer: the bus falls behind instead."""
_SLOW_BUS = "the bus takes less than the venue sends"


class Pressure:
    """Holds the feed back through TCP, and lets it go.

    Args:
        publisher: the bus that may be slow, if there is one.
        archiver: the archive that may refuse, if there is one.
        ledger: where long pauses are declared.
        metrics: where they are counted.
        monotonic: seconds that never go back.
    """

    def __init__(
        self,
        publisher: Publisher | None,
        archiver: Archiver | None,
        ledger: Ledger,
        metrics: Metrics,
        *,
        monotonic: Callable[[], float],
    ) -> None:
        self._publisher = publisher
        self._archiver = archiver
        self._ledger = ledger
        self._metrics = metrics
        self._monotonic = monotonic
        self._pause: Callable[[], None] = _nothing
        self._resume: Callable[[], None] = _nothing
        self._since: float | None = None
        self._declared = False

    def attach(self, *, pause: Callable[[], None], resume: Callable[[], None]) -> None:
        """Tell how the feed is held back."""
        self._pause, self._resume = pause, resume

    @property
    def paused(self) -> str:
        """Why reading stands still, or empty."""
        return "" if self._since is None else self._reason()

    def rise(self) -> None:
        """Something waits: pause if it is too much."""
        if self._since is None and self._wanted(paused=False):
            self._since = self._monotonic()
            self._pause()

    def ease(self) -> None:
        """A sink took some: go on if little waits."""
        if self._since is None or self._wanted(paused=True):
            return
        self._metrics.paused_seconds += self._monotonic() - self._since
        self._since = None
        self._resume()
        if self._declared:
            self._declared = False
            self._ledger.write("resumed")

    def watch(self) -> None:
        """Declare a pause that lasts, and end one that lasts too long. Called on a timer."""
        if self._since is None:
            return
        seconds = self._monotonic() - self._since
        if seconds > _LONG_SECONDS and not self._declared:
            self._declared = True
            self._ledger.write("paused", reason=self._reason())
        if seconds > _MAX_SECONDS and self._archiver is not None and self._publisher is not None:
            self._publisher.fall_behind()
        self.ease()

    def _wanted(self, *, paused: bool) -> bool:
        if self._publisher is not None and self._publisher.wants_pause(paused=paused):
            return True
        return self._archiver is not None and self._archiver.wants_pause(paused=paused)

    def _reason(self) -> str:
        archiver = self._archiver
        if archiver is not None and archiver.wants_pause(paused=True):
            return f"the archive refuses frames and memory is full: {archiver.failing}"
        return _SLOW_BUS


def _nothing() -> None:
    """Hold nobody back: no feed is attached yet."""
