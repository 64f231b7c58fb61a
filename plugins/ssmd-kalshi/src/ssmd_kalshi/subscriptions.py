"""Decides what to send when Kalshi confirms, refuses or ends a subscription, or skips a number.

One connection holds one subscription (sid) a channel. Requests that depend on each
other wait for each other, because Kalshi answers what was sent together in any order.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import assert_never

from ssmd_core.feed import (
    Acknowledged,
    Action,
    Fact,
    GapFound,
    Refused,
    ReplyOverdue,
    Reset,
    Send,
    Session,
    Subscribed,
    Timer,
    TimerFired,
    Unsubscribed,
)
from ssmd_kalshi.commands import MARKETS_PER_COMMAND, Ask, Verb, command
from ssmd_kalshi.config import BOOKS
from ssmd_kalshi.remedies import Remedy, remedy, restart_seconds, retry_seconds

__all__ = ["Subscriptions"]

_MINUTE_NS = 60_000_000_000
_REPLY_SECONDS = 10.0
_OVER_SECONDS = 2.0
"""So long the answer for a subscription that is over already is waited for."""


@dataclass(slots=True)
class _Subscription:
    channel: str
    markets: list[str] = field(default_factory=list)
    """Confirmed ones; empty for all."""


@dataclass(slots=True)
class _Restarts:
    count: int = 0
    last_ns: int = 0


class Subscriptions:
    """What one connection asked for and holds."""

    def __init__(self, *, initial_snapshot: bool) -> None:
        self._initial_snapshot = initial_snapshot
        self._asked: dict[Hashable, Ask] = {}
        self._waiting: dict[str, Ask] = {}
        """By the name of the timer that lets it go."""
        self._held: dict[Hashable, _Subscription] = {}
        self._restarts: dict[str, _Restarts] = {}

    def subscribe(self, channel: str, markets: Sequence[str], session: Session) -> Send:
        """Return the first command for a channel; more follow as replies come."""
        return self._send(_first(Ask(verb=Verb.SUBSCRIBE, channel=channel), markets), session)

    def on_fact(self, fact: Fact, session: Session) -> Iterable[Action]:
        """Return what is to be done about a fact."""
        actions: Iterable[Action]
        match fact:
            case Subscribed():
                actions = self._on_subscribed(fact, session)
            case Acknowledged():
                actions = self._on_acknowledged(fact, session)
            case Unsubscribed():
                actions = self._on_unsubscribed(fact, session)
            case Refused():
                actions = self._on_refused(fact, session)
            case GapFound():
                actions = self._on_gap(fact, session)
            case ReplyOverdue():
                actions = self._on_overdue(fact, session)
            case TimerFired():
                actions = self._on_timer(fact, session)
            case _:
                assert_never(fact)
        return actions

    # ── what went well ───────────────────────────────────────────────────────────

    def _on_subscribed(self, fact: Subscribed, session: Session) -> Iterable[Action]:
        ask = self._asked.pop(fact.request, None)
        if ask is None:
            return ()
        self._held[fact.sid] = _Subscription(ask.channel, list(ask.markets))
        return self._go_on(ask, fact.sid, session)

    def _on_acknowledged(self, fact: Acknowledged, session: Session) -> Iterable[Action]:
        ask = self._asked.pop(fact.request, None)
        if ask is None:
            return ()
        if ask.verb is Verb.UNSUBSCRIBE:
            return (self.subscribe(ask.channel, ask.markets, session),)
        sid = ask.sid if fact.sid is None else fact.sid
        held = self._held.get(sid)
        if held is not None and ask.opens:
            held.markets += ask.markets
        return self._go_on(ask, sid, session)

    def _on_unsubscribed(self, fact: Unsubscribed, session: Session) -> Iterable[Action]:
        ask = self._asked.pop(fact.request, None) or self._take_unsubscribe(fact.sid)
        # We end a subscription only to begin it anew, and never wanted to lose one.
        again = ask or self._held.pop(fact.sid, None)
        return () if again is None else (self.subscribe(again.channel, again.markets, session),)

    def _take_unsubscribe(self, sid: Hashable) -> Ask | None:
        """Find the request by its subscription: Kalshi used to leave out the id."""
        for request, ask in self._asked.items():
            if ask.verb is Verb.UNSUBSCRIBE and ask.sid == sid:
                return self._asked.pop(request)
        return None

    def _go_on(self, ask: Ask, sid: Hashable, session: Session) -> Iterable[Action]:
        """Ask for the markets whose turn it is."""
        if not ask.rest:
            return ()
        following = replace(ask, rest=(), attempt=0)
        if ask.opens and sid in self._held:
            following = replace(following, verb=Verb.ADD, sid=_number(sid))
        return (self._send(_first(following, ask.rest), session),)

    # ── what went wrong ──────────────────────────────────────────────────────────

    def _on_refused(self, fact: Refused, session: Session) -> Iterable[Action]:
        ask = self._asked.pop(fact.request, None) if fact.request is not None else None
        what = remedy(fact.code)
        if what is Remedy.RESET:
            return (Reset(reason=f"Kalshi: {fact.reason}"),)
        held = self._held.get(fact.sid) if fact.ends_sid else None
        if held is None:
            return () if ask is None else self._mend(ask, what, fact, session)
        if ask is None or ask.channel == held.channel:
            return self._restart(fact.sid, session, also=ask, is_over=True)
        return (
            *self._restart(fact.sid, session, is_over=True),
            *self._mend(ask, what, fact, session),
        )

    def _mend(self, ask: Ask, what: Remedy, fact: Refused, session: Session) -> Iterable[Action]:
        """Answer the refusal of a request whose subscription, if it has one, goes on."""
        actions: Iterable[Action]
        match ask.verb, what:
            case _, Remedy.RETRY:
                actions = self._retry(ask, fact)
            case Verb.SUBSCRIBE, Remedy.RESTART:
                actions = self._retry(ask, fact)
            case Verb.UNSUBSCRIBE, Remedy.RESTART:
                # The subscription that was to end is not there any more.
                actions = (self.subscribe(ask.channel, ask.markets, session),)
            case Verb.UNSUBSCRIBE, _:
                actions = (Reset(reason=f"a dead subscription cannot be ended: {fact.reason}"),)
            case _, Remedy.SPLIT:
                actions = self._split(ask, session)
            case ((Verb.SUBSCRIBE | Verb.ADD), Remedy.LEAVE):
                actions = self._go_on(ask, ask.sid, session)
            case _:
                is_over = what is Remedy.RESTART
                actions = self._restart(ask.sid, session, also=ask, is_over=is_over)
        return actions

    def _retry(self, ask: Ask, fact: Refused) -> Iterable[Action]:
        return (self._later(ask, f"retry {fact.request}", retry_seconds(ask.attempt)),)

    def _split(self, ask: Ask, session: Session) -> Iterable[Action]:
        """Ask for half. A single market too many means that the subscription is full."""
        half = len(ask.markets) // 2
        if not half:
            return ()
        smaller = replace(ask, markets=ask.markets[:half], rest=ask.markets[half:] + ask.rest)
        return (self._send(smaller, session),)

    def _on_overdue(self, fact: ReplyOverdue, session: Session) -> Iterable[Action]:
        ask = self._asked.pop(fact.request, None)
        if ask is None:
            return ()
        if ask.verb is Verb.SNAPSHOT:
            return self._restart(ask.sid, session)
        if ask.is_over:
            return (self.subscribe(ask.channel, ask.markets, session),)
        # To subscribe to books that are still alive brings an ok, and no snapshots.
        return (Reset(reason=f"no reply to {ask.verb.value} of {ask.channel}"),)

    def _on_gap(self, fact: GapFound, session: Session) -> Iterable[Action]:
        """Books are mended by new snapshots in the same run of numbers, the rest is not."""
        held = self._held.get(fact.sid)
        if held is None or held.channel != BOOKS:
            return ()
        coming = {
            market
            for ask in self._bound_to(fact.sid)
            if ask.verb is Verb.SNAPSHOT
            for market in ask.markets + ask.rest
        }
        wanted = [market for market in held.markets if market not in coming]
        if not wanted:
            return ()
        ask = Ask(verb=Verb.SNAPSHOT, channel=held.channel, sid=_number(fact.sid))
        return (self._send(_first(ask, wanted), session),)

    def _restart(
        self, sid: Hashable, session: Session, *, also: Ask | None = None, is_over: bool = False
    ) -> Iterable[Action]:
        """End a subscription; what it held and was about to hold is asked for again."""
        held = self._held.pop(sid, None)
        if held is None:
            return ()
        pending = [*self._bound_to(sid), *([also] if also else [])]
        markets = dict.fromkeys(held.markets)
        for ask in pending:
            if ask.opens:
                markets |= dict.fromkeys(ask.markets + ask.rest)
        self._forget(sid)
        end = Ask(
            verb=Verb.UNSUBSCRIBE,
            channel=held.channel,
            markets=tuple(markets),
            sid=_number(sid),
            is_over=is_over,
        )
        seconds = restart_seconds(self._count_restart(held.channel, session.now_ns()))
        return (
            self._later(end, f"restart {sid}", seconds) if seconds else self._send(end, session),
        )

    def _count_restart(self, channel: str, now_ns: int) -> int:
        """Return how many restarts of a channel came before, each within a minute."""
        past = self._restarts.setdefault(channel, _Restarts())
        past.count = past.count + 1 if past.last_ns and now_ns - past.last_ns < _MINUTE_NS else 0
        past.last_ns = now_ns
        return past.count

    def _on_timer(self, fact: TimerFired, session: Session) -> Iterable[Action]:
        ask = self._waiting.pop(fact.name, None)
        return () if ask is None else (self._send(ask, session),)

    # ── between ──────────────────────────────────────────────────────────────────

    def _bound_to(self, sid: Hashable) -> list[Ask]:
        return [
            ask
            for requests in (self._asked, self._waiting)
            for ask in requests.values()
            if ask.sid == sid
        ]

    def _forget(self, sid: Hashable) -> None:
        """Drop what was asked of a subscription that is over; late replies mean nothing."""
        self._asked = {key: ask for key, ask in self._asked.items() if ask.sid != sid}
        self._waiting = {name: ask for name, ask in self._waiting.items() if ask.sid != sid}

    def _later(self, ask: Ask, name: str, seconds: float) -> Timer:
        self._waiting[name] = replace(ask, attempt=ask.attempt + 1)
        return Timer(seconds=seconds, name=name)

    def _send(self, ask: Ask, session: Session) -> Send:
        request = session.next_id()
        self._asked[request] = ask
        return Send(
            data=command(ask, request, initial_snapshot=self._initial_snapshot),
            request=request,
            subscribes=ask.channel if ask.opens else None,
            markets=len(ask.markets) if ask.opens else 0,
            reply_seconds=_OVER_SECONDS if ask.is_over else _REPLY_SECONDS,
        )


def _first(ask: Ask, markets: Sequence[str]) -> Ask:
    """Return the request for as many markets as one command takes."""
    listed = tuple(markets)
    return replace(ask, markets=listed[:MARKETS_PER_COMMAND], rest=listed[MARKETS_PER_COMMAND:])


def _number(sid: Hashable) -> int | None:
    return sid if isinstance(sid, int) else None
