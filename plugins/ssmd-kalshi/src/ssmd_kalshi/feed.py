"""Decides which connections Kalshi is captured over, and what runs on each."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import ClassVar, Final, Protocol, Self

from ssmd_core.clock import NS, Clock, SystemClock
from ssmd_core.errors import CredentialError
from ssmd_core.feed import (
    Action,
    ConnectionPlan,
    Endpoint,
    Fact,
    Parsed,
    Session,
    WebSocketFeed,
)
from ssmd_core.feed.repair import Fetch, Missed
from ssmd_kalshi.config import BOOKS, KalshiConfig
from ssmd_kalshi.messages import decode, parse
from ssmd_kalshi.rest import TradesPage, first_page, next_page, parse_trades, rest_endpoint
from ssmd_kalshi.skim import skim
from ssmd_kalshi.subscriptions import Subscriptions

__all__ = ["KalshiFeed", "Signer", "plan_connections"]

_MS: Final = 1_000_000
_BUSY: Final = frozenset({"ticker", "trade"})
"""Channels that are never quiet for long, as long as all markets are captured."""
_UNFILTERED: Final = frozenset({"market_lifecycle_v2"})
"""Channels that Kalshi does not filter by market."""
_KINDS: Final = {
    "ticker": "ticker",
    "trade": "trade",
    "orderbook_delta": "orderbook",
    "market_lifecycle_v2": "lifecycle",
}


class Signer(Protocol):
    """Who proves to Kalshi who we are."""

    def headers(self, url: str, now_ms: int) -> Mapping[str, str]:
        """Return the headers of one attempt to connect."""
        ...


class KalshiFeed(WebSocketFeed):
    """Kalshi's trade API v2.

    Args:
        config: the feed file's section.
        url: where to connect.
        signer: signs each attempt to connect.
        clock: whose wall clock is signed.
    """

    strict_json: ClassVar[bool] = True
    first_sequence: ClassVar[int | None] = 1

    def __init__(
        self, config: KalshiConfig, url: str, signer: Signer, clock: Clock | None = None
    ) -> None:
        self._config = config
        self._url = url
        self._rest_endpoint = config.rest_endpoint or rest_endpoint(url)
        self._signer = signer
        self._clock = clock or SystemClock()
        # What is not subscribed to yields no records, so the start need not explain it.
        self.kinds = frozenset(_KINDS[channel] for channel in config.channels)

    @classmethod
    def offline(cls) -> Self:
        """Return a feed that only parses, every channel: it has nowhere to connect to."""
        feed = cls(KalshiConfig(), "", _NoSigner())
        feed.kinds = frozenset(_KINDS.values())
        return feed

    def connections(self) -> Sequence[ConnectionPlan]:
        """Return one connection for everything but books, and as many as books need."""
        return plan_connections(self._config)

    def endpoint(self, plan: ConnectionPlan) -> Endpoint:  # noqa: ARG002  the same for all
        """Return the URL with a fresh signature."""
        now_ms = self._clock.wall_ns() // _MS
        return Endpoint(
            url=self._url,
            headers=self._signer.headers(self._url, now_ms),
            max_frame_bytes=self._config.max_frame_bytes,
            compression=self._config.compression,
        )

    def new_state(self, plan: ConnectionPlan) -> Subscriptions:  # noqa: ARG002  the same for all
        """Return an empty memory: a new connection knows nothing of the one before."""
        return Subscriptions(initial_snapshot=self._config.send_initial_snapshot)

    def on_open(self, session: Session) -> Iterable[Action]:
        """Subscribe to each channel of the connection."""
        held: Subscriptions = session.state
        return [
            held.subscribe(channel, () if channel in _UNFILTERED else session.plan.markets, session)
            for channel in session.plan.channels
        ]

    def parse(self, data: bytes, session: Session) -> Parsed:  # noqa: ARG002  one for all
        """Read one frame."""
        return parse(data)

    def parse_batch(self, frames: Sequence[bytes], session: Session) -> list[Parsed]:
        """Read the frames of one wake-up; nearly all of them without a call in between."""
        said: list[Parsed] = []
        for data in frames:
            try:
                said.append(decode(data).read())
            except Exception:  # noqa: BLE001  whatever is wrong with it, the full reading tells
                said += super().parse_batch((data,), session)
        return said

    def skim_batch(self, frames: Sequence[bytes], session: Session) -> list[Parsed]:
        """Read the frames of one wake-up, but not the records that come all the time."""
        return skim(frames, lambda data: self.parse_batch((data,), session)[0])

    def on_event(self, event: Fact, session: Session) -> Iterable[Action]:
        """Follow replies, mend what was refused or skipped."""
        held: Subscriptions = session.state
        return held.on_fact(event, session)

    def backfill(self, missed: Missed) -> Fetch | None:
        """Return the first page of missed trades; of the other channels REST has no past."""
        since_ns = self._clock.wall_ns() - round(self._config.backfill_seconds * NS)
        return first_page(self._rest_endpoint, missed, since_ns)

    def next_fetch(self, fetch: Fetch, data: bytes) -> Fetch | None:
        """Return the page after this one."""
        return next_page(fetch, data) if isinstance(fetch, TradesPage) else None

    def parse_fetched(self, data: bytes) -> Parsed:
        """Read a page of trades."""
        return parse_trades(data)


class _NoSigner:
    def headers(self, url: str, now_ms: int) -> Mapping[str, str]:  # noqa: ARG002  see Signer
        raise CredentialError("this feed was opened to read archives, it has no credentials")


def plan_connections(config: KalshiConfig) -> tuple[ConnectionPlan, ...]:
    """Return the connections of a section, numbered from 0: streams first, then books."""
    return tuple(
        ConnectionPlan(
            conn=conn,
            channels=channels,
            markets=markets,
            stale_seconds=config.stale_seconds,
            # A single market may well be silent for hours.
            silent_seconds=config.silent_seconds
            if not markets and _BUSY.intersection(channels)
            else None,
        )
        for conn, (channels, markets) in enumerate(_shares(config))
    )


def _shares(config: KalshiConfig) -> Iterator[tuple[tuple[str, ...], tuple[str, ...]]]:
    streams = tuple(channel for channel in config.channels if channel != BOOKS)
    if streams:
        yield streams, config.market_tickers
    if BOOKS in config.channels:
        size = config.book_markets_per_connection
        for start in range(0, len(config.market_tickers), size):
            yield (BOOKS,), config.market_tickers[start : start + size]
