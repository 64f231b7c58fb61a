"""All connections of a WebSocket feed: started, held back, stopped and summed up together."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Any

import anyio

from ssmd_core.errors import CredentialsRefused
from ssmd_core.feed.backfill import Backfiller
from ssmd_core.feed.contract import WebSocketFeed
from ssmd_core.feed.link import Link
from ssmd_core.feed.ports import HostParts
from ssmd_core.feed.repair import Missed
from ssmd_core.feed.states import State
from ssmd_core.feed.subscriptions import Counts
from ssmd_core.metrics import Metrics

__all__ = ["FeedHost"]


class FeedHost:
    """All connections of one WebSocket feed, and the repair of what they missed.

    Args:
        feed: what is captured.
        parts: what a host works with.
        covered_until: channel → receipt time until which an earlier run captured it.
            What was missed since is brought back; a first start has none.
    """

    def __init__(
        self,
        feed: WebSocketFeed,
        parts: HostParts,
        covered_until: Mapping[str, int] = MappingProxyType({}),
    ) -> None:
        self._links = [Link(feed, plan, parts, self, covered_until) for plan in feed.connections()]
        self._backfiller = Backfiller(feed, parts)
        self._metrics = parts.metrics
        self.paused = False
        self.accepted_once = False
        self.stopped = False
        """Whether nothing is taken any more."""
        self._stop = anyio.Event()
        self._fatal: CredentialsRefused | None = None

    async def run(self) -> None:
        """Capture until ``stop``.

        Raises:
            CredentialsRefused: the venue refused them at the first connection.
        """
        async with anyio.create_task_group() as tasks:
            for link in self._links:
                tasks.start_soon(link.run, tasks)
            tasks.start_soon(self._backfiller.run)
            tasks.start_soon(self._tick)
            await self._stop.wait()
            tasks.cancel_scope.cancel()
        if self._fatal is not None:
            raise self._fatal

    def give_up(self, error: CredentialsRefused) -> None:
        """End the run with this error."""
        self._fatal = error
        self._end()

    def repair(self, missed: Missed) -> None:
        """Bring back what a channel missed, where the feed can."""
        self._backfiller.add(missed)

    def pause(self) -> None:
        """Stop reading on every connection: the sinks cannot keep up."""
        self.paused = True
        self._backfiller.pause()
        for link in self._links:
            link.set_paused()

    def resume(self) -> None:
        """Read on, unless stopped: what would be read then is taken by nobody."""
        if self.stopped:
            return
        self.paused = False
        self._backfiller.resume()
        for link in self._links:
            link.set_paused()

    def stop(self) -> None:
        """Stop reading for good and end the sessions; the sockets stay for ``close``."""
        self.paused = True
        for link in self._links:
            link.stop()
        self._backfiller.stop()
        self._end()

    def _end(self) -> None:
        self.stopped = True
        self._stop.set()

    async def close(self, within_seconds: float) -> None:
        """Close the sockets with 1000."""
        async with anyio.create_task_group() as tasks:
            for link in self._links:
                if link.connection is not None:
                    tasks.start_soon(link.connection.close, within_seconds)

    def carry(self) -> None:
        """Write the open sessions into a new day's ledger."""
        for link in self._links:
            link.session.carry()

    def miss(self, from_ts: int, to_ts: int) -> None:
        """Bring back what was received between two receipt times, and no disk took."""
        for link in self._links:
            link.miss(from_ts, to_ts)

    # ── what operators see ───────────────────────────────────────────────────────

    def connected(self) -> bool:
        """Say whether every connection is open."""
        return all(
            link.session.life.state in {State.SUBSCRIBING, State.LIVE} for link in self._links
        )

    def reasons(self) -> Iterator[str]:
        """Say why data is not captured as asked."""
        for link in self._links:
            yield from link.reasons()

    def degraded(self) -> Iterator[str]:
        """Say what is odd but no fault."""
        for link in self._links:
            quiet = link.quiet_seconds()
            if quiet is not None:
                yield f"connection {link.plan.conn}: no data for {quiet:.0f} s"

    def status(self) -> list[dict[str, Any]]:
        """Return each connection for ``/status``."""
        return [link.status() for link in self._links]

    async def _tick(self) -> None:
        while True:
            totals = [link.session.subscriptions.counts() for link in self._links]
            _sum_up(totals, self._metrics)
            await anyio.sleep(1.0)


def _sum_up(totals: list[Counts], metrics: Metrics) -> None:
    metrics.subscriptions_requested = sum(c.requested for c in totals)
    metrics.subscriptions_confirmed = sum(c.confirmed for c in totals)
    metrics.subscriptions_refused = sum(c.refused for c in totals)
    metrics.markets_requested = sum(c.markets_requested for c in totals)
    metrics.markets_subscribed = sum(c.markets_confirmed for c in totals)
