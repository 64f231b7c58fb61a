import json

import pytest
from msgspec import structs

from ssmd_core.clock import iso
from ssmd_core.errors import ConnectionEnded
from ssmd_core.feed import (
    FrameKind,
    GapFound,
    Parsed,
    Refused,
    ReplyOverdue,
    Reset,
    Send,
    Subscribed,
    Timer,
    Unsubscribed,
)
from ssmd_core.feed.reading import read_frames
from ssmd_core.feed.session import FeedSession
from ssmd_core.feed.states import State, Step


class ListWire:
    def __init__(self):
        self.sent = []
        self.aborted = []
        self.timers = []
        self.missed = []
        self.now = 0.0

    def send(self, data):
        self.sent.append(json.loads(data))

    def abort(self, why):
        self.aborted.append(why)

    def call_later(self, seconds, name):
        self.timers.append((seconds, name))

    def repair(self, missed):
        self.missed.append(missed)

    def monotonic(self):
        return self.now

    def mask(self, text):
        return text.replace("s3cr3t", "***")


@pytest.fixture
def wire():
    return ListWire()


@pytest.fixture
def make(toy, intake, receipt, metrics, wire):
    def build(feed=None, *, is_open=True, subscribed=True):
        feed = feed or toy()
        session = FeedSession(feed, feed.plan, intake, receipt, metrics)
        if is_open:
            session.life.step(Step.DIAL)
            session.life.step(Step.REACHED)
            session.open(wire, "ws://venue/")
        if is_open and subscribed:
            session.on_frames([ok(1)], frozenset())
        return session

    return build


def ok(request, sid=1, channel="trades"):
    return json.dumps({"t": "ok", "id": request, "c": sid, "ch": channel}).encode()


def no(request, code=8, **more):
    return json.dumps({"t": "no", "id": request, "code": code, **more}).encode()


def test_it_is_live_once_every_subscription_was_answered(make, toy, wire):
    session = make(toy(channels=("a", "b")), subscribed=False)
    assert [sent["sub"] for sent in wire.sent] == ["a", "b"]
    session.on_frames([ok(2, 1, "b")], frozenset())
    assert session.life.state is State.SUBSCRIBING
    session.on_frames([ok(1, 2, "a")], frozenset())
    assert session.life.state is State.LIVE
    assert session.channels == {1: "b", 2: "a"}


def test_frames_of_one_wake_up_are_one_batch_stamped_a_nanosecond_apart(make, intake, trade):
    session = make()
    frames = [trade(1), trade(2), trade(3)]
    session.on_frames(frames, frozenset())
    batch = intake.batches[-1]
    assert batch.frames == frames
    assert batch.last_ts - batch.first_ts == 2
    assert batch.first_ts > intake.batches[-2].last_ts


def test_the_ledger_tells_where_a_session_begins_and_ends(make, intake, trade):
    session = make()
    session.on_frames([trade(1)], frozenset())
    session.close(ConnectionEnded("cut", "gone", code=1006))
    assert intake.words() == ["session_opened", "subscribed", "session_closed"]
    opened, _, closed = intake.events
    assert (opened["file"], opened["offset"]) == ("f", 7)
    assert (closed["cause"], closed["code"], closed["last"]) == ("cut", 1006, {"1": 1})
    assert closed["frames"] == 2
    assert {event["session"] for event in intake.events} == {session.id}


def test_a_session_that_never_opened_leaves_no_ledger_line(make, intake):
    make(is_open=False).close(ConnectionEnded("refused"))
    assert intake.events == []


def test_closing_twice_writes_once(make, intake):
    session = make()
    session.close(ConnectionEnded("stopped"))
    session.close(ConnectionEnded("cut"))
    assert len(intake.of("session_closed")) == 1


def test_a_gap_is_told_with_its_bounds_after_the_frame_is_archived(make, intake, metrics, trade):
    session = make()
    session.on_frames([trade(1), trade(5)], frozenset())
    (gap,) = intake.of("gap")
    batch = intake.batches[-1]
    assert (gap["channel"], gap["first"], gap["last"]) == ("trades", 2, 4)
    assert (gap["from_ts"], gap["to_ts"]) == (iso(batch.first_ts), iso(batch.last_ts))
    assert (metrics.gaps, metrics.missing) == ({"trades": 1}, {"trades": 3})
    assert trade(5) in intake.frames


def test_the_feed_answers_a_gap(make, toy, wire, trade):
    feed = toy()
    feed.answers[GapFound] = [Send(data=b'{"snapshot":1}')]
    make(feed).on_frames([trade(3)], frozenset())
    assert wire.sent[-1] == {"snapshot": 1}


def test_control_frames_that_carry_a_number_are_counted(make, intake):
    session = make()
    session.on_frames([no(None, 11, c=1, n=1)], frozenset())
    session.on_frames([no(None, 11, c=1, n=2)], frozenset())
    assert intake.of("gap") == []


def test_what_the_feed_cannot_read_is_delivered_and_told(make, intake):
    session = make()
    session.on_frames([b'{"x":1}', b"not json"], frozenset())
    assert intake.frames[-2:] == [b'{"x":1}', b"not json"]
    assert intake.batches[-1].raw == frozenset({1})
    assert len(intake.faults) == 2


def test_binary_and_not_utf8_are_raw_and_never_parsed(toy, make):
    frames = [b'{"t":"x"}', b'{"t":"\xff"}', b'{"t":"y"}']
    parsed, raw = read_frames(toy(), frames, frozenset({0}), make())
    assert raw == {0, 1}
    assert [said.label for said in parsed] == ["not_text", "not_text", "y"]


def test_a_feed_that_breaks_on_a_whole_batch_costs_no_frame(toy, make):
    class Broken(toy):
        def parse_batch(self, frames, session):
            raise RuntimeError("bug")

    for binary in (frozenset(), frozenset({2})):
        frames = [b'{"t":"x"}', b"no", b"\x00"][: 2 + len(binary)]
        parsed, raw = read_frames(Broken(), frames, binary, make())
        assert [said.label for said in parsed[:2]] == ["x", "malformed"]
        assert raw == {1} | binary


@pytest.mark.parametrize("answers", [[None, None], [], [Parsed("x")] * 3])
def test_a_batch_that_is_read_into_something_else_is_read_frame_by_frame(toy, make, answers):
    class Wrong(toy):
        def parse_batch(self, frames, session):
            return answers

    parsed, _ = read_frames(Wrong(), [b'{"t":"x"}', b'{"t":"y"}'], frozenset(), make())
    assert [said.label for said in parsed] == ["x", "y"]


def test_a_frame_that_is_read_into_nothing_is_kept_and_told(toy, make, intake):
    class Forgetful(toy):
        def parse(self, data, session):
            return None if b"heartbeat" in data else super().parse(data, session)

    session = make(Forgetful())
    session.on_frames([b'{"t":"heartbeat"}', b'{"t":"y"}'], frozenset())
    assert intake.frames[-2:] == [b'{"t":"heartbeat"}', b'{"t":"y"}']
    assert intake.faults == ["`parse` returned NoneType, not a Parsed"]


def test_a_strict_feed_is_trusted_only_with_what_it_read(toy, make):
    class Strict(toy):
        strict_json = True

        def parse(self, data, session):
            return Parsed("seen") if data != b"bad" else super().parse(data, session)

    _, raw = read_frames(Strict(), [b"NaN", b"bad"], frozenset(), make())
    assert raw == {1}


def test_a_refused_subscription_stands_in_the_ledger(make, intake):
    session = make(subscribed=False)
    session.on_frames([no(1, 8)], frozenset())
    (refused,) = intake.of("refused")
    assert (refused["channel"], refused["code"]) == ("trades", 8)
    assert session.subscriptions.refusals["trades"].code == 8


def test_a_channel_that_the_venue_ends_is_a_gap_until_it_is_back(make, toy, intake, wire, trade):
    feed = toy()
    again = Send(data=b'{"again":1}', request=50, subscribes="trades")
    feed.answers[Refused] = [again]
    session = make(feed)
    session.on_frames([trade(1)], frozenset())
    last_ts = intake.batches[-1].last_ts
    session.on_frames([no(None, 25, c=1, n=2, ends=True)], frozenset())
    assert session.life.state is State.SUBSCRIBING
    assert wire.sent[-1] == {"again": 1}
    session.on_frames([ok(50, 2)], frozenset())
    (gap,) = intake.of("gap")
    assert (gap["channel"], gap["first"], gap["last"]) == ("trades", None, None)
    assert gap["from_ts"] >= iso(last_ts)
    assert gap["to_ts"] == iso(intake.batches[-1].last_ts)


def test_an_overdue_reply_resets_the_connection(make, toy, wire):
    feed = toy()
    session = make(feed, subscribed=False)
    session.on_tick(9.9)
    assert wire.aborted == []
    session.on_tick(10.1)
    assert isinstance(feed.facts[-1], ReplyOverdue)
    assert wire.aborted[0].cause == "reset"


def test_nothing_is_sent_after_a_reset(make, toy, wire):
    feed = toy()
    feed.answers[Subscribed] = [Reset(reason="enough"), Timer(seconds=1, name="late")]
    make(feed)
    assert wire.aborted
    assert wire.timers == []


def test_at_midnight_the_open_session_is_carried_over(make, intake, trade):
    session = make()
    session.on_frames([trade(1), trade(2)], frozenset())
    session.carry()
    (carried,) = intake.of("session_carried")
    assert carried["channels"] == {"1": "trades"}
    assert carried["last"] == {"1": 2}
    assert carried["subscriptions"] == ["trades"]


def test_errors_alone_are_no_sign_of_data(make, trade):
    session = make()
    session.on_frames([no(None, 1), b"garbage"], frozenset())
    assert session.data_frames == 0
    session.on_frames([b'{"t":"new_channel"}'], frozenset())
    assert session.data_frames == 1
    session.on_frames([trade(1)], frozenset())
    assert session.data_frames == 2


def test_what_is_skimmed_is_read_in_full_at_the_ends_of_much_and_now_and_then(
    toy, intake, receipt, metrics, wire, trade, clock
):
    class SkimmingFeed(toy):
        def skim_batch(self, frames, session):
            return [structs.replace(said, records=()) for said in self.parse_batch(frames, session)]

    feed = SkimmingFeed()
    session = FeedSession(feed, feed.plan, intake, receipt, metrics, skims=True)
    session.life.step(Step.DIAL)
    session.life.step(Step.REACHED)
    session.open(wire, "ws://venue/")
    session.on_frames([ok(1)], frozenset())
    numbers = iter(range(1, 1000))

    def records_of(count):
        session.on_frames([trade(next(numbers)) for _ in range(count)], frozenset())
        return [i for i, said in enumerate(intake.parsed[-count:]) if said.records]

    clock.advance(1)
    assert records_of(1) == [0]
    assert records_of(1) == []
    assert records_of(200) == [0, 199]
    assert records_of(2) == []
    clock.advance(0.1)
    assert records_of(3) == [0, 2]
    assert session.tracker.last_numbers() == {1: next(numbers) - 1}


def test_labels_that_a_venue_invents_are_bounded(make, metrics):
    session = make()
    for number in range(200):
        session.on_frames([json.dumps({"t": f"type{number}"}).encode()], frozenset())
    assert len(metrics.messages) <= 65
    assert sum(metrics.messages.values()) == 201


def test_a_channel_left_and_taken_up_again_is_a_gap_in_between(make, intake, trade, toy):
    class Leaving(toy):
        def parse(self, data, session):
            if data == b"left":
                event = Unsubscribed(request=None, sid=1)
                return Parsed("left", kind=FrameKind.REPLY, event=event)
            return super().parse(data, session)

    session = make(Leaving())
    session.on_frames([trade(1)], frozenset())
    session.on_frames([b"left"], frozenset())
    assert intake.of("gap") == []
    session.on_frames([ok(9, 2)], frozenset())
    (gap,) = intake.of("gap")
    assert (gap["channel"], gap["first"]) == ("trades", None)


def test_data_ahead_of_its_confirmation_is_no_gap(make, intake, trade):
    session = make(subscribed=False)
    session.on_frames([trade(1), trade(2), ok(1), trade(3)], frozenset())
    assert intake.of("gap") == []


def test_what_comes_after_the_end_of_a_channel_is_no_gap(make, intake, trade):
    session = make()
    session.on_frames([trade(1), no(None, 25, c=1, n=2, ends=True)], frozenset())
    session.on_frames([no(None, 7, c=1, n=3)], frozenset())
    assert intake.of("gap") == []
    assert list(session.lost) == ["trades"]


def test_a_channel_still_lost_at_the_end_of_the_session_is_a_gap(make, intake, trade):
    session = make()
    session.on_frames([trade(1), no(None, 25, c=1, n=2, ends=True)], frozenset())
    session.close(ConnectionEnded("cut"))
    (gap,) = intake.of("gap")
    assert (gap["channel"], gap["first"]) == ("trades", None)
    assert intake.events[-1]["last"] == {"1": 2}


def test_credentials_that_a_venue_repeats_are_not_written_down(make, intake, toy):
    class Echoing(toy):
        def parse(self, data, session):
            event = Refused(request=None, code=9, reason="no s3cr3t here")
            return Parsed("error", kind=FrameKind.REPLY, event=event)

    make(Echoing(), subscribed=False).on_frames([b"{}"], frozenset())
    (refused,) = intake.of("refused")
    assert refused["reason"] == "no *** here"
