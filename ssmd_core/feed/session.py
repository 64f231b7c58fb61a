"""One connection at work: what each wake-up brought, in order, and what the feed wishes.

The hot path of the receiving side: one receipt time a wake-up, one ``parse`` a frame,
one hand-over to the intake, then sequences and rare events.
"""

from __future__ import annotations

import secrets
from collections.abc import Hashable, Iterable, Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Any

from ssmd_core.clock import ReceiptClock, iso
from ssmd_core.errors import ConnectionEnded
from ssmd_core.feed.contract import (
    Action,
    ConnectionPlan,
    Fact,
    Feed,
    FrameKind,
    GapFound,
    Parsed,
    Refused,
    ReplyOverdue,
    Reset,
    Send,
    Subscribed,
    Timer,
    TimerFired,
    Unsubscribed,
    WebSocketFeed,
)
from ssmd_core.feed.lag import Lag
from ssmd_core.feed.ports import Intake, Wire
from ssmd_core.feed.reading import read_frames
from ssmd_core.feed.repair import Missed
from ssmd_core.feed.sequence import Gap, SequenceTracker
from ssmd_core.feed.sifting import sift
from ssmd_core.feed.states import Life, State, Step
from ssmd_core.feed.subscriptions import Subscriptions
from ssmd_core.log import get_logger
from ssmd_core.metrics import Metrics
from ssmd_core.records import Batch

__all__ = ["FeedSession"]

_log = get_logger("ssmd.feed")
_DATA = FrameKind.DATA
_NO_BINARY: frozenset[int] = frozenset()
_MANY = 32
_SAMPLE_NS = 50_000_000
"""In wake-ups of fewer frames we keep up, so that looking now and then is enough."""
_NOTHING: Mapping[str, int] = MappingProxyType({})


class FeedSession:
    """Implements ``ssmd_core.feed.Session`` for the feed and the driver's ``Listener`` part."""

    def __init__(
        self,
        feed: WebSocketFeed | Feed,
        plan: ConnectionPlan,
        intake: Intake,
        clock: ReceiptClock,
        metrics: Metrics,
        *,
        behind: Mapping[str, int] = _NOTHING,
        skims: bool = False,
    ) -> None:
        self.id = secrets.token_hex(8)
        self._feed = feed
        self._plan = plan
        self._intake = intake
        self._clock = clock
        self._metrics = metrics
        self._skims = skims
        self._sample_at = 0
        """From this receipt time on a wake-up, however small, is looked at for age and lag."""
        self._requests = 0
        self.life = Life()
        self.subscriptions = Subscriptions()
        self.tracker = SequenceTracker(feed.first_sequence)
        self.state = feed.new_state(plan)
        self.wire: Wire | None = None
        self.frames = 0
        self.data_frames = 0
        self.last_ts = 0
        self.opened_ts = 0
        self.lag = Lag()
        self.lost: dict[str, int] = {}
        """Channel whose subscription ended → when the venue sent its last numbered frame, or, of
        one that has no numbers, said that it is over."""
        self.behind = dict(behind)
        """Channel not captured again yet → receipt time until which it was before."""

    # ── the feed's view ──────────────────────────────────────────────────────────

    @property
    def plan(self) -> ConnectionPlan:
        """What this connection was made for."""
        return self._plan

    @property
    def channels(self) -> Mapping[Hashable, str]:
        """Channel id → channel name, confirmed ones."""
        return self.subscriptions.channels

    def next_id(self) -> int:
        """Return a request id not used before."""
        self._requests += 1
        return self._requests

    def now_ns(self) -> int:
        """Receipt time now."""
        return self._clock.now_ns()

    # ── life ─────────────────────────────────────────────────────────────────────

    def open(self, wire: Wire, url: str) -> None:
        """Begin: the venue accepted the connection."""
        self.wire = wire
        self.life.step(Step.ACCEPTED)
        self.opened_ts = self._clock.now_ns()
        self._report("session_opened", endpoint=url, **self._intake.place())
        if isinstance(self._feed, WebSocketFeed):
            self.perform(self._feed.on_open(self))
        self._settle(self.opened_ts)

    def close(self, why: ConnectionEnded) -> None:
        """End: write what the session leaves behind."""
        if self.life.state is State.CLOSED:
            return
        was_open = self.wire is not None
        self.life.step(Step.END)
        if not was_open:
            return
        now_ns = self._clock.now_ns()
        for channel, lost_at in self.lost.items():
            self._report_open_gap(channel, lost_at, now_ns)
        self._report(
            "session_closed",
            cause=why.cause,
            detail=why.detail,
            code=why.code,
            frames=self.frames,
            last=self._last_numbers(),
            covered_until={channel: iso(ts) for channel, ts in self.covered_until().items()},
            **self._intake.place(),
        )
        self.wire = None

    def carry(self) -> None:
        """Write what a reader of the new day's ledger must know of this session."""
        if self.wire is None:
            return
        self._report(
            "session_carried",
            opened=iso(self.opened_ts),
            channels={str(sid): name for sid, name in self.channels.items()},
            last=self._last_numbers(),
            subscriptions=sorted(set(self.channels.values())),
            markets=list(self._plan.markets),
            **self._intake.place(),
        )

    def covered_until(self) -> dict[str, int]:
        """Return until when each channel was captured: a hole begins there."""
        numbered = self.tracker.numbered_until()
        until = {
            channel: numbered.get(sid, self.last_ts) - self.lag.ns
            for sid, channel in self.channels.items()
        }
        return until | self.lost | self.behind

    # ── what comes ───────────────────────────────────────────────────────────────

    def on_frames(self, frames: list[bytes], binary: frozenset[int]) -> None:
        """Take the messages of one wake-up."""
        count = len(frames)
        first_ts = self._clock.stamp(count)
        parsed, raw = read_frames(self._feed, frames, binary, self, skims=self._skims)
        samples = first_ts >= self._sample_at or count >= _MANY
        if samples:
            self._sample_at = first_ts + _SAMPLE_NS
            if self._skims:
                self._read_ends(frames, parsed)
        batch = Batch(first_ts, frames, self._plan.conn, raw)
        self._intake.deliver(batch, parsed)
        self.frames += count
        if samples or not self._skims:
            self.lag.note(first_ts, parsed)
        self._follow(batch, parsed)
        self.last_ts = first_ts + count - 1

    def on_timer(self, name: str) -> None:
        """A timer of the feed ran out."""
        self._tell(TimerFired(name=name))

    def on_tick(self, now: float) -> None:
        """Look for replies that did not come."""
        for request in self.subscriptions.overdue(now):
            self._tell(ReplyOverdue(request=request))

    def perform(self, actions: Iterable[Action]) -> None:
        """Carry out what the feed wishes."""
        for action in actions:
            if self.wire is None:
                return
            match action:
                case Send():
                    if action.subscribes and self.life.state is State.LIVE:
                        self.life.step(Step.ASKED)
                    self.subscriptions.ask(action, self.wire.monotonic())
                    self.wire.send(action.data)
                case Timer():
                    self.wire.call_later(action.seconds, action.name)
                case Reset():
                    self.wire.abort(ConnectionEnded("reset", action.reason))
                    return

    # ── between ──────────────────────────────────────────────────────────────────

    def _read_ends(self, frames: list[bytes], parsed: list[Parsed]) -> None:
        """Read in full what was skimmed at both ends: their records tell age and lag."""
        for index in {0, len(frames) - 1}:
            said = parsed[index]
            if said.kind is _DATA and not said.records:
                (parsed[index],), _ = read_frames(self._feed, [frames[index]], _NO_BINARY, self)

    def _follow(self, batch: Batch, parsed: list[Parsed]) -> None:
        """Count types, follow sequences, answer rare events."""
        counts, data_frames, rare, numbered = sift(parsed, batch.first_ts)
        for label, count in counts.items():
            self._metrics.messages.add(label, count)
        self.data_frames += data_frames
        if rare:
            self._follow_rare(batch, parsed, rare)
        elif numbered:
            self._follow_numbers(numbered)
        if self.tracker.regressed:
            self._metrics.sequence_regressed += self.tracker.regressed
            self.tracker.regressed = 0

    def _follow_rare(self, batch: Batch, parsed: list[Parsed], rare: list[int]) -> None:
        """Follow frames some of which (``rare``) bring news: numbers before them are theirs."""
        stamped = list(enumerate(parsed, batch.first_ts))
        start = 0
        for index in rare:
            ts, said = stamped[index]
            self._follow_numbers(stamped[start : index + 1])
            start = index + 1
            if said.event is not None:
                self._on_event(said, ts)
            if said.fault:
                self._intake.fault(batch, index, said)
        self._follow_numbers(stamped[start:])

    def _follow_numbers(self, stamped: Iterable[tuple[int, Parsed]]) -> None:
        for gap in self.tracker.follow(stamped):
            self._on_gap(gap)

    def _on_gap(self, gap: Gap) -> None:
        channel = self.channels.get(gap.sid, str(gap.sid))
        self._metrics.gaps.add(channel)
        self._metrics.missing.add(channel, gap.missing)
        # Read late, what is missing happened before the frame that came before it was received.
        since = gap.from_ts - self.lag.ns
        self._report_gap(
            channel, gap.first, gap.last, gap.from_ts, gap.to_ts, covered_until=iso(since)
        )
        self._repair(channel, since, gap.to_ts)
        if gap.sid in self.channels:
            self._tell(GapFound(sid=gap.sid, channel=channel, first=gap.first, last=gap.last))

    def _on_event(self, said: Parsed, ts: int) -> None:
        event = said.event
        if event is None:
            return
        ended = None
        if isinstance(event, Refused | Unsubscribed):
            ended = self.channels.get(event.sid)
        if isinstance(event, Refused) and self.wire is not None:
            event = replace(event, reason=self.wire.mask(event.reason))
        send = self.subscriptions.take(event)
        match event:
            case Subscribed():
                self._on_subscribed(event, ts)
            case Refused():
                self._on_refused(event, ended, send, ts)
            case Unsubscribed() if ended is not None:
                self._lose(ended, event.sid, ts)
        self._tell(event)
        # After the feed's answer: a channel whose next command follows is not settled yet.
        self._settle(ts)

    def _on_subscribed(self, event: Subscribed, ts: int) -> None:
        self.tracker.open(event.sid, ts)
        self._report("subscribed", channel=event.channel, sid=event.sid)
        lost_at = self.lost.pop(event.channel, None)
        if lost_at is not None:
            self._report_open_gap(event.channel, lost_at, ts)
            self._repair(event.channel, lost_at, ts)

    def _on_refused(self, event: Refused, ended: str | None, send: Send | None, ts: int) -> None:
        channel = ended or (send.subscribes if send else None)
        self._report(
            "refused", channel=channel, sid=event.sid, code=event.code, reason=event.reason
        )
        if event.ends_sid and ended is not None:
            self._lose(ended, event.sid, ts)

    def _lose(self, channel: str, sid: Hashable, ts: int) -> None:
        self.lost[channel] = (self.tracker.end(sid) or ts) - self.lag.ns

    def _settle(self, ts: int) -> None:
        if self.life.state is State.SUBSCRIBING and self.subscriptions.answered():
            self.life.step(Step.ANSWERED)
            # Captured again, so it is known how far the hole of before reaches.
            for channel in self.behind.keys() & set(self.channels.values()):
                self._repair(channel, self.behind.pop(channel), ts)

    def _repair(self, channel: str, from_ts: int, to_ts: int) -> None:
        if self.wire is not None:
            markets = self._plan.markets
            self.wire.repair(Missed(channel=channel, from_ts=from_ts, to_ts=to_ts, markets=markets))

    def _tell(self, fact: Fact) -> None:
        try:
            self.perform(self._feed.on_event(fact, self))
        except Exception as error:  # noqa: BLE001  a timer's would end every connection
            # Not raised through ``on_frames`` either: what a wake-up brought is kept whole.
            _log.exception("the feed failed on a fact", fact=type(fact).__name__)
            if self.wire is not None:
                self.wire.abort(ConnectionEnded("feed_error", self.wire.mask(repr(error))))

    def _last_numbers(self) -> dict[str, int]:
        return {str(sid): number for sid, number in self.tracker.last_numbers().items()}

    def _report_open_gap(self, channel: str, from_ts: int, to_ts: int) -> None:
        """The channel was dead in between; what it would have carried nobody knows."""
        self._metrics.gaps.add(channel)
        self._report_gap(channel, None, None, from_ts, to_ts)

    def _report_gap(
        self,
        channel: str,
        first: int | None,
        last: int | None,
        from_ts: int,
        to_ts: int,
        **more: str,
    ) -> None:
        self._report(
            "gap",
            channel=channel,
            first=first,
            last=last,
            from_ts=iso(from_ts),
            to_ts=iso(to_ts),
            tickers=list(self._plan.markets) or None,
            **more,
        )

    def _report(self, event: str, **fields: Any) -> None:
        self._intake.report(event, session=self.id, conn=self._plan.conn, **fields)
