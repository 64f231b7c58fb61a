"""Which holes a session finds, and when it wants them repaired."""

import json

import pytest

from ssmd_core.clock import iso
from ssmd_core.errors import ConnectionEnded
from ssmd_core.feed import ConnectionPlan, Send, Subscribed
from ssmd_core.feed.session import FeedSession
from ssmd_core.feed.states import State, Step


class MissingWire:
    """Keeps what a session misses."""

    def __init__(self):
        self.missed = []

    def repair(self, missed):
        self.missed.append((missed.channel, missed.from_ts, missed.to_ts))
        self.markets = missed.markets

    def send(self, data):
        """Send nowhere."""

    def abort(self, why):
        """End nothing."""

    def call_later(self, seconds, name):
        """Keep no time."""

    def monotonic(self):
        return 0.0

    def mask(self, text):
        return text


@pytest.fixture
def wire():
    return MissingWire()


@pytest.fixture
def opened(toy, intake, receipt, metrics, wire):
    def build(feed=None, **behind):
        feed = feed or toy(channels=tuple(behind) or ("trades",))
        session = FeedSession(feed, feed.plan, intake, receipt, metrics, behind=behind)
        session.life.step(Step.DIAL)
        session.life.step(Step.REACHED)
        session.open(wire, "ws://venue/")
        return session

    return build


def take(session, *frames):
    session.on_frames(list(frames), frozenset())
    return session.last_ts


def ok(request, sid=1, channel="trades"):
    return json.dumps({"t": "ok", "id": request, "c": sid, "ch": channel}).encode()


def ended(sid=1):
    return json.dumps({"t": "no", "id": None, "code": 25, "c": sid, "ends": True}).encode()


def test_a_first_start_has_missed_nothing(opened, wire, trade):
    session = opened()
    take(session, ok(1), trade(1))
    assert wire.missed == []


def test_a_skipped_number_is_wanted_back_between_its_neighbours(opened, wire, trade, toy):
    session = opened(toy(plan=ConnectionPlan(markets=("A", "B"))))
    take(session, ok(1))
    before = take(session, trade(1))
    after = take(session, trade(5))
    assert wire.missed == [("trades", before, after)]
    assert wire.markets == ("A", "B")


def test_a_subscription_that_ended_is_wanted_back_once_it_is_confirmed_again(opened, wire, trade):
    session = opened()
    take(session, ok(1))
    last = take(session, trade(1))
    take(session, ended())
    assert wire.missed == []
    again = take(session, ok(None, 2))
    assert wire.missed == [("trades", last, again)]


def test_a_channel_without_numbers_was_covered_until_the_venue_ended_it(
    opened, wire, intake, trade, clock
):
    session = opened()
    take(session, ok(1))
    clock.advance(10)
    take(session, trade(None))
    clock.advance(10)
    over = take(session, ended())
    clock.advance(1)
    again = take(session, ok(None, 2))
    assert wire.missed == [("trades", over, again)]
    (gap,) = intake.of("gap")
    assert (gap["from_ts"], gap["to_ts"]) == (iso(over), iso(again))


def test_after_a_reconnect_a_channel_is_wanted_back_from_where_it_was_covered(opened, wire):
    session = opened(trades=77)
    take(session, ok(1))
    assert wire.missed == [("trades", 77, session.last_ts)]
    take(session, ok(None, 2))
    assert len(wire.missed) == 1


def test_holes_behind_frames_that_were_read_late_begin_where_the_venue_was(
    opened, wire, trade, receipt, clock, intake
):
    late_ns = 9_000_000_000
    session = opened()
    take(session, ok(1))
    before = take(session, trade(1, at=receipt.now_ns() - late_ns))
    after = take(session, trade(3, at=receipt.now_ns()))
    ((_, skipped_from, skipped_to),) = wire.missed
    assert before - late_ns - 10 <= skipped_from <= before - late_ns + 10
    assert skipped_to == after
    (told,) = intake.of("gap")
    assert told["from_ts"] == iso(before)
    assert told["covered_until"] == iso(skipped_from)
    sent_ns = receipt.now_ns()
    clock.advance(9)
    take(session, trade(4, at=sent_ns))
    assert session.covered_until()["trades"] <= session.last_ts - late_ns + 10
    last = session.last_ts
    take(session, ended())
    take(session, ok(None, 2))
    assert last - late_ns - 10 <= wire.missed[1][1] <= last - late_ns + 10


def test_the_closing_says_until_when_each_channel_was_captured(
    opened, wire, trade, receipt, clock, intake
):
    session = opened()
    take(session, ok(1))
    sent_ns = receipt.now_ns()
    clock.advance(9)
    take(session, trade(1, at=sent_ns))
    session.close(ConnectionEnded("cut"))
    (closing,) = intake.of("session_closed")
    assert closing["covered_until"] == {"trades": iso(session.covered_until()["trades"])}
    assert closing["covered_until"]["trades"] <= iso(sent_ns + 10)


def test_a_channel_is_not_wanted_back_before_it_is_captured_again(opened, wire):
    session = opened(a=70, b=80)
    take(session, ok(1, 1, "a"))
    assert wire.missed == []
    take(session, ok(2, 2, "b"))
    assert {(channel, from_ts) for channel, from_ts, _ in wire.missed} == {("a", 70), ("b", 80)}


def test_a_channel_that_was_refused_is_wanted_back_when_it_comes_after_all(opened, wire):
    session = opened(a=70, b=80)
    take(session, ok(1, 1, "a"), b'{"t":"no","id":2,"code":18}')
    assert [channel for channel, *_ in wire.missed] == ["a"]
    session.perform([Send(data=b"{}", request=9, subscribes="b")])
    take(session, ok(9, 2, "b"))
    assert wire.missed[1][:2] == ("b", 80)


def test_a_channel_whose_next_command_follows_is_wanted_back_when_all_is_answered(
    opened, wire, toy
):
    feed = toy(channels=("trades",))
    more = iter([[Send(data=b"{}", request=9, subscribes="trades")]])
    feed.on_event = lambda event, session: next(more, ()) if isinstance(event, Subscribed) else ()
    session = opened(feed, trades=70)
    take(session, ok(1))
    assert session.life.state is State.SUBSCRIBING
    assert wire.missed == []
    last = take(session, ok(9))
    assert wire.missed == [("trades", 70, last)]


def test_a_session_is_covered_until_its_last_frame(opened, trade):
    session = opened()
    take(session, ok(1))
    last = take(session, trade(1))
    session.close(ConnectionEnded("cut"))
    assert session.covered_until() == {"trades": last}


def test_after_the_last_number_nothing_tells_that_a_channel_was_captured(opened, trade):
    session = opened()
    take(session, ok(1), ok(2, 2, "quotes"))
    numbered = take(session, trade(1))
    last = take(session, b'{"t":"beat"}')
    assert session.covered_until() == {"trades": numbered, "quotes": last}


def test_an_ended_subscription_is_covered_until_its_last_numbered_frame(opened, wire, trade):
    session = opened()
    take(session, ok(1))
    last = take(session, trade(1))
    take(session, ended())
    take(session, b'{"t":"other"}')
    session.close(ConnectionEnded("cut"))
    assert session.covered_until() == {"trades": last}
    # The hole goes on into the next session, and is wanted back when it ends there.
    assert wire.missed == []


def test_a_session_that_confirmed_nothing_leaves_the_hole_as_it_was(opened, wire, trade):
    session = opened(trades=77)
    take(session, trade(1))
    session.close(ConnectionEnded("cut"))
    assert session.covered_until() == {"trades": 77}
    assert wire.missed == []


def test_numbers_that_had_passed_are_counted_once(opened, metrics, trade):
    session = opened()
    take(session, ok(1), trade(1), trade(2), trade(3))
    take(session, trade(2), trade(1))
    take(session, trade(4))
    assert metrics.sequence_regressed == 2
    assert metrics.gaps == {}
