"""Brings back over HTTP what channels missed, one hole after the other, beside the capture.

A repair that fails is a line in the ledger and a count, never an outage: the socket
goes on, and what was missed stays declared.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace

import anyio

from ssmd_core.clock import NS, iso
from ssmd_core.errors import FetchFailed, ParseError
from ssmd_core.feed.contract import FrameKind, WebSocketFeed
from ssmd_core.feed.fetch import get
from ssmd_core.feed.holes import Holes
from ssmd_core.feed.policy import Backoff
from ssmd_core.feed.ports import HostParts
from ssmd_core.feed.reading import read_fetched
from ssmd_core.feed.repair import Fetch, Missed
from ssmd_core.log import get_logger
from ssmd_core.records import Batch, Stream

__all__ = ["Backfiller", "Get"]

Get = Callable[[Fetch], Awaitable[bytes]]
"""Returns the body of one GET, or raises FetchFailed."""

_ATTEMPTS = 8
"""Of one page: with the waits between them about a minute, and the time of the requests."""
_FIRST_WAIT_SECONDS = 1.0
_LAG_SECONDS = 1.0
"""A venue's history lags its stream, and holes come in swarms."""
_MAX_PAGES = 10_000
_log = get_logger("ssmd.backfill")


@dataclass(slots=True)
class _Repair:
    """One hole at work."""

    hole: Missed
    pages: int = 0
    records: int = 0


class Backfiller:
    """Repairs the holes of all connections of a feed, and outlives these.

    Every body goes to the intake as it came, with its own receipt time. A hole that is
    not repaired when the run ends stands in the ledger as ``unrepaired``, reason
    ``stopped``; the next run is offered it again.

    Args:
        feed: says what to fetch, and reads it.
        parts: what a host works with.
        get: sends one request.
        lag_seconds: how long a hole waits, at most, before it is asked about.
        max_pages: a repair of more is given up.
    """

    def __init__(
        self,
        feed: WebSocketFeed,
        parts: HostParts,
        *,
        get: Get = get,
        lag_seconds: float = _LAG_SECONDS,
        max_pages: int = _MAX_PAGES,
    ) -> None:
        self._feed = feed
        self._parts = parts
        self._get = get
        self._lag_seconds = lag_seconds
        self._max_pages = max_pages
        self._holes = Holes()
        self._found = anyio.Event()
        self._open_gate = anyio.Event()
        self._open_gate.set()
        self._repair: _Repair | None = None
        self._stopped = False

    def add(self, missed: Missed) -> None:
        """Take a hole in, if the feed can fetch what it missed. Does not wait."""
        if self._stopped or self._first_request(missed) is None:
            return
        displaced = self._holes.add(missed)
        if displaced is not None:
            self._give_up(_Repair(displaced), "too many holes wait for repair")
        self._found.set()

    def pause(self) -> None:
        """Fetch nothing more until ``resume``: the sinks cannot keep up."""
        if self._open_gate.is_set():
            self._open_gate = anyio.Event()

    def resume(self) -> None:
        """Fetch again."""
        self._open_gate.set()

    def stop(self) -> None:
        """Deliver nothing more, and declare what was not repaired."""
        if self._stopped:
            return
        if self._repair is not None:
            self._give_up(self._repair, "stopped")
        while (hole := self._holes.take()) is not None:
            self._give_up(_Repair(hole), "stopped")
        self._stopped = True

    async def run(self) -> None:
        """Repair until cancelled."""
        while True:
            while (hole := self._holes.take()) is not None:
                # Out of the queue: what is found while it waits must wait as long itself.
                self._repair = _Repair(hole)
                await anyio.sleep(self._lag_left(hole))
                await self._mend(hole)
                self._repair = None
            self._found = anyio.Event()
            await self._found.wait()

    # ── one repair ───────────────────────────────────────────────────────────────

    async def _mend(self, hole: Missed) -> None:
        first = self._first_request(hole)
        if first is None:
            return
        repair = self._repair = _Repair(self._cut(hole, first))
        try:
            await self._fetch_all(first, repair)
        except (FetchFailed, ParseError) as error:
            self._give_up(repair, str(error))
        except Exception as error:  # noqa: BLE001  a feed's fault must not end the others
            _log.exception("a repair failed", channel=hole.channel)
            self._give_up(repair, f"the feed failed: {type(error).__name__}")
        else:
            self._parts.metrics.repairs += 1
            self._tell("repaired", repair)

    async def _fetch_all(self, first: Fetch, repair: _Repair) -> None:
        fetch: Fetch | None = first
        while fetch is not None:
            if repair.pages >= self._max_pages:
                raise FetchFailed(f"more than {self._max_pages} pages")
            body = await self._get_patiently(fetch)
            self._deliver(body, repair)
            following = self._feed.next_fetch(fetch, body)
            if following is not None and following.url == fetch.url:
                raise FetchFailed("the venue repeats a page")
            fetch = following

    async def _get_patiently(self, fetch: Fetch) -> bytes:
        backoff = Backoff(first_seconds=_FIRST_WAIT_SECONDS, rng=self._parts.rng)
        attempt = 0
        while True:
            await self._open_gate.wait()
            attempt += 1
            try:
                return await self._get(fetch)
            except FetchFailed as failure:
                if failure.lasting or attempt >= _ATTEMPTS:
                    raise
                wait = backoff.next_seconds()
                _log.info("cannot fetch, trying again", why=str(failure), retry_seconds=wait)
            await anyio.sleep(wait)

    def _deliver(self, body: bytes, repair: _Repair) -> None:
        if self._stopped:
            return
        intake = self._parts.intake
        parsed, raw = read_fetched(self._feed, [body])
        batch = Batch(self._parts.receipt.stamp(), [body], raw=raw, stream=Stream.REST)
        intake.deliver(batch, parsed)
        (said,) = parsed
        repair.pages += 1
        repair.records += len(said.records)
        self._parts.metrics.backfilled += len(said.records)
        if said.fault:
            intake.fault(batch, 0, said)
        if said.kind is FrameKind.MALFORMED:
            raise ParseError(said.fault)

    # ── between ──────────────────────────────────────────────────────────────────

    def _first_request(self, hole: Missed) -> Fetch | None:
        try:
            return self._feed.backfill(hole)
        except Exception as error:  # noqa: BLE001  it is asked while frames are being taken
            _log.exception("the feed could not say what to fetch", channel=hole.channel)
            self._give_up(_Repair(hole), f"the feed failed: {type(error).__name__}")
            return None

    def _cut(self, hole: Missed, first: Fetch) -> Missed:
        """Declare what lies further back than the feed fetches; return the rest."""
        if first.covers_from <= hole.from_ts:
            return hole
        older = replace(hole, to_ts=min(first.covers_from, hole.to_ts))
        self._give_up(_Repair(older), "further back than this feed fetches")
        return replace(hole, from_ts=older.to_ts)

    def _lag_left(self, hole: Missed) -> float:
        """Return how long the venue's history may still need until it holds all of a hole."""
        elapsed_seconds = (self._parts.receipt.now_ns() - hole.to_ts) / NS
        return min(max(0.0, self._lag_seconds - elapsed_seconds), self._lag_seconds)

    def _give_up(self, repair: _Repair, reason: str) -> None:
        if not self._stopped:
            self._parts.metrics.repairs_failed += 1
            self._tell("unrepaired", repair, reason=reason[:300])

    def _tell(self, event: str, repair: _Repair, **fields: str) -> None:
        if self._stopped:
            return
        hole = repair.hole
        self._parts.intake.report(
            event,
            session=None,
            conn=None,
            channel=hole.channel,
            from_ts=iso(hole.from_ts),
            to_ts=iso(hole.to_ts),
            pages=repair.pages,
            records=repair.records,
            tickers=list(hole.markets) or None,
            **fields,
        )
