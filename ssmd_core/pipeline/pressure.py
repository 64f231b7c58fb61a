"""Decides when reading pauses because the bus takes less than the venue sends."""

from __future__ import annotations

from collections.abc import Callable

from ssmd_core.metrics import Metrics
from ssmd_core.pipeline.ledger import Ledger
from ssmd_core.pipeline.publisher import Publisher

__all__ = ["Pressure"]

_LONG_SECONDS = 1.0
"""A pause from here on stands in the ledger."""
_MAX_SECONDS = 2.0
"""With an archive the venue is not kept waiting longer: the bus falls behind instead."""


class Pressure:
    """Holds the feed back through TCP, and lets it go."""

    def __init__(
        self,
        publisher: Publisher,
        ledger: Ledger,
        metrics: Metrics,
        *,
        archived: bool,
        monotonic: Callable[[], float],
    ) -> None:
        self._publisher = publisher
        self._ledger = ledger
        self._metrics = metrics
        self._archived = archived
        self._monotonic = monotonic
        self._pause: Callable[[], None] = _nothing
        self._resume: Callable[[], None] = _nothing
        self._since: float | None = None
        self._declared = False

    def attach(self, *, pause: Callable[[], None], resume: Callable[[], None]) -> None:
        """Tell how the feed is held back."""
        self._pause, self._resume = pause, resume

    @property
    def paused(self) -> bool:
        """Whether reading stands still."""
        return self._since is not None

    def rise(self) -> None:
        """A batch came: pause if the queue is too long."""
        if self._since is None and self._publisher.wants_pause(paused=False):
            self._since = self._monotonic()
            self._pause()

    def ease(self) -> None:
        """The bus took some: go on if the queue is short again."""
        if self._since is None or self._publisher.wants_pause(paused=True):
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
            self._ledger.write("paused", reason="the bus takes less than the venue sends")
        if seconds > _MAX_SECONDS and self._archived:
            self._publisher.fall_behind()
        self.ease()


def _nothing() -> None:
    """Hold nobody back: no feed is attached yet."""
