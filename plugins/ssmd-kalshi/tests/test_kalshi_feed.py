"""Connections, commands, and what is done when Kalshi refuses, ends or skips something."""

import json

import pytest

from ssmd_core.errors import ConnectionEnded
from ssmd_core.feed import (
    Acknowledged,
    ConnectionPlan,
    FrameKind,
    GapFound,
    Refused,
    ReplyOverdue,
    Reset,
    Send,
    Subscribed,
    Timer,
    TimerFired,
    Unsubscribed,
    Verdict,
)
from ssmd_kalshi.config import KalshiConfig
from ssmd_kalshi.feed import KalshiFeed, plan_connections
from ssmd_kalshi.remedies import Remedy, remedy, restart_seconds, retry_seconds

URL = "wss://example.com/trade-api/ws/v2"
SECOND = 10**9


class FakeSigner:
    def headers(self, url, now_ms):
        return {"KALSHI-ACCESS-TIMESTAMP": str(now_ms), "url": url}


class FakeClock:
    now_ns = 1795000000_123_456_789

    def wall_ns(self):
        return self.now_ns

    def monotonic_ns(self):
        return self.now_ns


class FakeSession:
    """A session that numbers requests and tells the time; the test plays the host."""

    def __init__(self, feed, plan):
        self.feed, self.plan = feed, plan
        self.state = feed.new_state(plan)
        self.channels = {}
        self.clock_ns = 1000 * SECOND
        self._last = 0

    def next_id(self):
        self._last += 1
        return self._last

    def now_ns(self):
        return self.clock_ns

    def open(self):
        return list(self.feed.on_open(self))

    def tell(self, fact):
        return list(self.feed.on_event(fact, self))


def session(conn=0, **settings):
    feed = KalshiFeed(KalshiConfig.model_validate(settings), URL, FakeSigner(), FakeClock())
    return FakeSession(feed, feed.connections()[conn])


def markets(count, start=0):
    return [f"KXTEST-{number}" for number in range(start, start + count)]


def books(count, **settings):
    return session(
        channels=["orderbook_delta"],
        market_tickers=markets(count),
        book_markets_per_connection=100_000,
        **settings,
    )


def said(action):
    assert isinstance(action, Send)
    message = json.loads(action.data)
    assert message["id"] == action.request
    return message["cmd"], message["params"]


def only(actions):
    (action,) = actions
    return action


def held_books(count=2, sid=7):
    """Return a session whose one book subscription the venue has confirmed."""
    it = books(count)
    request = only(it.open()).request
    assert it.tell(Subscribed(request=request, channel="orderbook_delta", sid=sid)) == []
    return it


def refused(request, code, **more):
    return Refused(request=request, code=code, reason="because", **more)


def over(sid, code=25, request=None):
    return refused(request, code, sid=sid, ends_sid=True)


# ── connections ──────────────────────────────────────────────────────────────────


def test_all_markets_need_one_connection_that_must_not_be_silent():
    assert plan_connections(KalshiConfig()) == (
        ConnectionPlan(conn=0, channels=("ticker", "trade"), silent_seconds=120.0),
    )


def test_books_are_shared_out_over_connections_of_their_own():
    config = KalshiConfig.model_validate(
        {
            "channels": ["ticker", "orderbook_delta", "market_lifecycle_v2"],
            "market_tickers": markets(5),
            "book_markets_per_connection": 2,
            "stale_seconds": 11,
        }
    )
    plans = plan_connections(config)
    assert [plan.conn for plan in plans] == [0, 1, 2, 3]
    assert plans[0].channels == ("ticker", "market_lifecycle_v2")
    assert [plan.channels for plan in plans[1:]] == [("orderbook_delta",)] * 3
    assert [len(plan.markets) for plan in plans] == [5, 2, 2, 1]
    assert {market for plan in plans[1:] for market in plan.markets} == set(markets(5))
    assert {plan.silent_seconds for plan in plans} == {None}
    assert {plan.stale_seconds for plan in plans} == {11}


def test_lifecycle_alone_may_be_silent():
    config = KalshiConfig.model_validate({"channels": ["market_lifecycle_v2"]})
    assert only(plan_connections(config)).silent_seconds is None


def test_books_alone_begin_at_connection_zero():
    assert books(3).plan.conn == 0


def test_only_kinds_that_are_subscribed_to_are_declared():
    assert session().feed.kinds == {"ticker", "trade"}
    assert books(1).feed.kinds == {"orderbook"}
    assert session(channels=["market_lifecycle_v2"]).feed.kinds == {"lifecycle"}


def test_each_attempt_to_connect_gets_a_fresh_signature():
    it = session(max_frame_bytes=2048, compression=True)
    first = it.feed.endpoint(it.plan)
    assert first.url == URL
    assert first.headers == {"KALSHI-ACCESS-TIMESTAMP": "1795000000123", "url": URL}
    assert (first.max_frame_bytes, first.compression) == (2048, True)
    it.feed._clock.now_ns += SECOND
    assert it.feed.endpoint(it.plan).headers["KALSHI-ACCESS-TIMESTAMP"] == "1795000001123"


@pytest.mark.parametrize(
    ("status", "verdict"),
    [(401, Verdict.FATAL), (403, Verdict.FATAL), (429, Verdict.RETRY), (None, Verdict.RETRY)],
)
def test_only_refused_credentials_are_fatal(status, verdict):
    assert session().feed.classify(ConnectionEnded("refused", status=status)) is verdict


def test_a_channel_that_does_not_begin_with_one_has_lost_its_beginning():
    assert session().feed.first_sequence == 1


# ── commands ─────────────────────────────────────────────────────────────────────


def test_each_channel_is_subscribed_to_with_a_command_of_its_own():
    first, second = session().open()
    assert said(first) == ("subscribe", {"channels": ["ticker"], "skip_ticker_ack": True})
    assert said(second) == ("subscribe", {"channels": ["trade"], "skip_ticker_ack": True})
    assert (first.subscribes, second.subscribes) == ("ticker", "trade")
    assert (first.request, second.request) == (1, 2)
    assert first.markets == 0


@pytest.mark.parametrize("wanted", [True, False])
def test_listed_markets_are_named_and_their_tickers_asked_for_at_once(wanted):
    it = session(market_tickers=markets(2), send_initial_snapshot=wanted)
    ticker, trade = it.open()
    assert said(ticker)[1]["market_tickers"] == markets(2)
    assert said(ticker)[1]["send_initial_snapshot"] is wanted
    assert said(trade)[1]["market_tickers"] == markets(2)
    assert "send_initial_snapshot" not in said(trade)[1]
    assert ticker.markets == 2


def test_lifecycle_is_never_filtered():
    it = session(channels=["market_lifecycle_v2"], market_tickers=markets(2))
    assert "market_tickers" not in said(only(it.open()))[1]


def test_books_are_always_asked_for_on_both_scales():
    command, params = said(only(books(2).open()))
    assert command == "subscribe"
    assert params == {
        "channels": ["orderbook_delta"],
        "skip_ticker_ack": True,
        "use_yes_price": False,
        "market_tickers": markets(2),
    }


def test_many_markets_are_added_one_command_after_the_other():
    it = books(1200)
    first = only(it.open())
    assert said(first)[1]["market_tickers"] == markets(500)
    second = only(it.tell(Subscribed(request=1, channel="orderbook_delta", sid=7)))
    assert said(second) == (
        "update_subscription",
        {"sids": [7], "action": "add_markets", "market_tickers": markets(500, 500)},
    )
    third = only(it.tell(Acknowledged(request=second.request, sid=7)))
    assert said(third)[1]["market_tickers"] == markets(200, 1000)
    assert it.tell(Acknowledged(request=third.request, sid=7)) == []
    assert [send.subscribes for send in (first, second, third)] == ["orderbook_delta"] * 3
    assert sum(send.markets for send in (first, second, third)) == 1200


def test_tickers_of_added_markets_are_asked_for_at_once_too():
    it = session(channels=["ticker"], market_tickers=markets(501))
    it.open()
    added = only(it.tell(Subscribed(request=1, channel="ticker", sid=7)))
    assert said(added)[1]["send_initial_snapshot"] is True


def test_markets_go_on_when_a_subscription_is_acknowledged_without_its_sid():
    it = books(501)
    it.open()
    command, params = said(only(it.tell(Acknowledged(request=1))))
    assert command == "subscribe"
    assert params["market_tickers"] == markets(1, 500)


@pytest.mark.parametrize(
    "fact",
    [
        Subscribed(request=99, channel="ticker", sid=1),
        Acknowledged(request=99),
        Acknowledged(request=None, sid=3),
        Unsubscribed(request=99, sid=3),
        refused(99, 26),
        refused(None, 10),
        over(99),
        ReplyOverdue(request=99),
        TimerFired(name="nobody's"),
        GapFound(sid=99, channel="99", first=1, last=2),
    ],
)
def test_a_fact_about_nothing_of_ours_changes_nothing(fact):
    it = session()
    it.open()
    assert it.tell(fact) == []


# ── refusals ─────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("codes", "expected"),
    [
        ((1, 2, 3, 4, 5, 6, 8, 11, 12, 13, 14, 15, 16), Remedy.LEAVE),
        ((19, 20, 21, 22, 23, 24, 28), Remedy.LEAVE),
        ((7, 10, 17, 25), Remedy.RESTART),
        ((9,), Remedy.RESET),
        ((18, 27, 0, 29, 999, "unknown"), Remedy.RETRY),
        ((26,), Remedy.SPLIT),
    ],
)
def test_every_code_has_its_remedy(codes, expected):
    assert {remedy(code) for code in codes} == {expected}


def test_waits_grow_and_are_bounded():
    assert [retry_seconds(n) for n in (0, 1, 2, 5, 6, 10_000)] == [1, 2, 4, 32, 60, 60]
    assert [restart_seconds(n) for n in (0, 1, 2, 5, 6, 10_000)] == [0, 1, 2, 16, 30, 30]


@pytest.mark.parametrize("code", [2, 3, 8, 11, 14])
def test_a_request_that_is_wrong_is_not_repeated(code):
    it = session()
    it.open()
    assert it.tell(refused(1, code)) == []


def test_the_other_markets_are_still_asked_for_when_some_are_refused():
    it = books(501)
    it.open()
    command, params = said(only(it.tell(refused(1, 11))))
    assert (command, params["market_tickers"]) == ("subscribe", markets(1, 500))


@pytest.mark.parametrize("code", [18, 27, 999, 10, 25])
def test_a_request_that_failed_for_now_is_repeated_later_and_later(code):
    it = session()
    first, _ = it.open()
    waits = []
    request = first.request
    for _ in range(8):
        timer = only(it.tell(refused(request, code)))
        assert isinstance(timer, Timer)
        waits.append(timer.seconds)
        again = only(it.tell(TimerFired(name=timer.name)))
        assert said(again) == said(first)
        assert again.request != request
        request = again.request
    assert waits == [1, 2, 4, 8, 16, 32, 60, 60]


def test_the_next_markets_do_not_inherit_the_patience_of_those_before():
    it = books(501)
    it.open()
    timer = only(it.tell(refused(1, 18)))
    again = only(it.tell(TimerFired(name=timer.name)))
    added = only(it.tell(Subscribed(request=again.request, channel="orderbook_delta", sid=7)))
    assert only(it.tell(refused(added.request, 18))).seconds == 1


def test_a_timer_lets_a_request_go_once():
    it = session()
    it.open()
    timer = only(it.tell(refused(1, 18)))
    assert len(it.tell(TimerFired(name=timer.name))) == 1
    assert it.tell(TimerFired(name=timer.name)) == []


def test_authentication_required_gives_the_connection_up():
    it = session()
    it.open()
    assert isinstance(only(it.tell(refused(1, 9))), Reset)


class CappedVenue:
    """A venue that takes so many markets a subscription, and plays along."""

    def __init__(self, cap):
        self.cap, self.taken, self.commands = cap, [], 0

    def answer(self, send):
        self.commands += 1
        command, params = said(send)
        if len(self.taken) + len(params["market_tickers"]) > self.cap:
            return refused(send.request, 26)
        self.taken += params["market_tickers"]
        if command == "subscribe":
            return Subscribed(request=send.request, channel="orderbook_delta", sid=7)
        return Acknowledged(request=send.request, sid=7)


@pytest.mark.parametrize("cap", [0, 1, 7, 499, 500, 501, 999, 1000, 1199, 1200, 5000])
def test_as_many_markets_as_the_venue_takes_are_found_with_few_commands(cap):
    it, venue = books(1200), CappedVenue(cap)
    actions = it.open()
    while actions:
        actions = it.tell(venue.answer(only(actions)))
    assert venue.taken == markets(min(cap, 1200))
    assert venue.commands < 40


# ── subscriptions that end ───────────────────────────────────────────────────────


@pytest.mark.parametrize("code", [10, 17, 25])
def test_a_subscription_that_the_venue_ended_is_ended_and_begun_again(code):
    it = held_books()
    end = only(it.tell(over(7, code)))
    assert said(end) == ("unsubscribe", {"sids": [7]})
    assert end.subscribes is None
    again = only(it.tell(Unsubscribed(request=end.request, sid=7)))
    assert said(again)[0] == "subscribe"
    assert said(again)[1]["market_tickers"] == markets(2)
    assert again.subscribes == "orderbook_delta"


def test_a_stream_of_all_markets_that_ended_is_again_one_of_all():
    it = session()
    it.open()
    it.tell(Subscribed(request=1, channel="ticker", sid=1))
    end = only(it.tell(over(1)))
    again = only(it.tell(Unsubscribed(request=end.request, sid=1)))
    assert said(again) == ("subscribe", {"channels": ["ticker"], "skip_ticker_ack": True})


@pytest.mark.parametrize(
    "answer",
    [
        lambda end: refused(end.request, 7),
        lambda end: Unsubscribed(request=None, sid=7),
        lambda end: Acknowledged(request=end.request),
    ],
    ids=["not known any more", "an end without id", "a bare ok"],
)
def test_it_begins_again_however_the_venue_confirms_the_end(answer):
    it = held_books()
    end = only(it.tell(over(7)))
    again = only(it.tell(answer(end)))
    assert said(again)[0] == "subscribe"
    assert said(again)[1]["market_tickers"] == markets(2)


def test_an_end_that_is_refused_gives_the_connection_up():
    it = held_books()
    end = only(it.tell(over(7)))
    assert isinstance(only(it.tell(refused(end.request, 4))), Reset)


def test_an_end_that_failed_for_now_is_repeated():
    it = held_books()
    end = only(it.tell(over(7)))
    timer = only(it.tell(refused(end.request, 27)))
    assert said(only(it.tell(TimerFired(name=timer.name)))) == said(end)


def test_an_end_that_nobody_asked_for_is_undone():
    it = held_books()
    again = only(it.tell(Unsubscribed(request=None, sid=7)))
    assert said(again)[1]["market_tickers"] == markets(2)


def test_markets_that_were_being_added_are_not_forgotten():
    it = books(1200)
    it.open()
    adding = only(it.tell(Subscribed(request=1, channel="orderbook_delta", sid=7)))
    end = only(it.tell(over(7)))
    first = only(it.tell(Unsubscribed(request=end.request, sid=7)))
    assert said(first)[1]["market_tickers"] == markets(500)
    second = only(it.tell(Subscribed(request=first.request, channel="orderbook_delta", sid=8)))
    third = only(it.tell(Acknowledged(request=second.request, sid=8)))
    assert said(third)[1]["market_tickers"] == markets(200, 1000)
    assert it.tell(Acknowledged(request=adding.request, sid=7)) == []


def test_markets_refused_because_the_subscription_is_gone_are_not_forgotten():
    it = books(501)
    it.open()
    adding = only(it.tell(Subscribed(request=1, channel="orderbook_delta", sid=7)))
    end = only(it.tell(refused(adding.request, 7)))
    assert said(end) == ("unsubscribe", {"sids": [7]})
    again = only(it.tell(refused(end.request, 7)))
    rest = only(it.tell(Subscribed(request=again.request, channel="orderbook_delta", sid=8)))
    asked = said(again)[1]["market_tickers"] + said(rest)[1]["market_tickers"]
    assert asked == markets(501)


def test_a_request_for_another_channel_survives_the_end_of_this_one():
    it = session()
    it.open()
    it.tell(Subscribed(request=1, channel="ticker", sid=1))
    end, timer = it.tell(over(1, 10, request=2))
    assert said(end) == ("unsubscribe", {"sids": [1]})
    assert said(only(it.tell(TimerFired(name=timer.name))))[1]["channels"] == ["trade"]


def restart(it, sid):
    """End the subscription; return how long the feed waits before it begins again."""
    action = only(it.tell(over(sid)))
    seconds = 0
    if isinstance(action, Timer):
        seconds = action.seconds
        action = only(it.tell(TimerFired(name=action.name)))
    again = only(it.tell(Unsubscribed(request=action.request, sid=sid)))
    it.tell(Subscribed(request=again.request, channel="orderbook_delta", sid=sid + 1))
    return seconds


def test_a_subscription_that_keeps_ending_is_begun_again_ever_more_slowly():
    it = held_books()
    assert [restart(it, sid) for sid in range(7, 15)] == [0, 1, 2, 4, 8, 16, 30, 30]


def test_a_minute_without_trouble_forgives():
    it = held_books()
    waits = []
    for sid in range(7, 10):
        it.clock_ns += 61 * SECOND
        waits.append(restart(it, sid))
    assert waits == [0, 0, 0]


# ── gaps ─────────────────────────────────────────────────────────────────────────


def gap(sid=7, channel="orderbook_delta"):
    return GapFound(sid=sid, channel=channel, first=5, last=6)


def test_a_gap_in_books_is_mended_by_snapshots_of_all_of_them():
    it = held_books()
    asked = only(it.tell(gap()))
    assert said(asked) == (
        "update_subscription",
        {"sids": [7], "action": "get_snapshot", "market_tickers": markets(2)},
    )
    assert asked.request is not None
    assert asked.subscribes is None
    assert it.tell(Acknowledged(request=asked.request, sid=7)) == []


def test_a_gap_before_the_snapshots_came_needs_no_second_request():
    it = held_books()
    asked = only(it.tell(gap()))
    assert it.tell(gap()) == []
    it.tell(Acknowledged(request=asked.request, sid=7))
    assert said(only(it.tell(gap())))[1]["market_tickers"] == markets(2)


def test_many_books_are_mended_in_turns():
    it = books(501)
    it.open()
    it.tell(Subscribed(request=1, channel="orderbook_delta", sid=7))
    it.tell(Acknowledged(request=2, sid=7))
    first = only(it.tell(gap()))
    assert said(first)[1]["market_tickers"] == markets(500)
    second = only(it.tell(Acknowledged(request=first.request, sid=7)))
    assert said(second)[1]["market_tickers"] == markets(1, 500)
    # The first 500 have been answered, so another gap is new to them and only to them.
    assert said(only(it.tell(gap())))[1]["market_tickers"] == markets(500)


@pytest.mark.parametrize("channel", ["trade", "ticker", "market_lifecycle_v2"])
def test_a_gap_elsewhere_asks_for_nothing(channel):
    it = session(channels=[channel])
    it.open()
    it.tell(Subscribed(request=1, channel=channel, sid=7))
    assert it.tell(gap(channel=channel)) == []


@pytest.mark.parametrize("code", [7, 11, 13, 14])
def test_books_whose_snapshots_are_refused_are_subscribed_to_again(code):
    it = held_books()
    asked = only(it.tell(gap()))
    end = only(it.tell(refused(asked.request, code)))
    assert said(end) == ("unsubscribe", {"sids": [7]})
    again = only(it.tell(Unsubscribed(request=end.request, sid=7)))
    assert said(again)[1]["market_tickers"] == markets(2)


def test_snapshots_that_do_not_come_cost_the_subscription_and_not_the_connection():
    it = held_books()
    asked = only(it.tell(gap()))
    assert said(only(it.tell(ReplyOverdue(request=asked.request)))) == (
        "unsubscribe",
        {"sids": [7]},
    )


def test_snapshots_of_too_many_books_are_asked_for_in_halves():
    it = held_books(4)
    asked = only(it.tell(gap()))
    half = only(it.tell(refused(asked.request, 26)))
    assert said(half)[1]["market_tickers"] == markets(2)
    rest = only(it.tell(Acknowledged(request=half.request, sid=7)))
    assert said(rest)[1]["market_tickers"] == markets(2, 2)


# ── replies that do not come ─────────────────────────────────────────────────────


def test_a_subscription_that_is_not_answered_gives_the_connection_up():
    it = session()
    it.open()
    reset = only(it.tell(ReplyOverdue(request=1)))
    assert isinstance(reset, Reset)
    assert "subscribe of ticker" in reset.reason


@pytest.mark.parametrize("code", [10, 17, 25])
def test_a_dead_subscription_whose_end_is_not_answered_is_begun_again(code):
    it = held_books()
    end = only(it.tell(over(7, code)))
    assert end.reply_seconds == 2
    again = only(it.tell(ReplyOverdue(request=end.request)))
    assert said(again)[0] == "subscribe"
    assert said(again)[1]["market_tickers"] == markets(2)
    assert again.reply_seconds == 10
    assert it.tell(Subscribed(request=again.request, channel="orderbook_delta", sid=8)) == []
    assert said(only(it.tell(gap(sid=8))))[1]["sids"] == [8]


def test_an_answer_for_a_dead_subscription_that_comes_late_means_nothing():
    it = held_books()
    end = only(it.tell(over(7)))
    again = only(it.tell(ReplyOverdue(request=end.request)))
    assert it.tell(Unsubscribed(request=end.request, sid=7)) == []
    assert it.tell(Unsubscribed(request=None, sid=7)) == []
    assert it.tell(Subscribed(request=again.request, channel="orderbook_delta", sid=8)) == []


def test_a_dead_subscription_found_by_a_request_need_not_be_answered_for_either():
    it = books(501)
    it.open()
    adding = only(it.tell(Subscribed(request=1, channel="orderbook_delta", sid=7)))
    end = only(it.tell(refused(adding.request, 7)))
    again = only(it.tell(ReplyOverdue(request=end.request)))
    assert said(again)[1]["market_tickers"] == markets(500)


def test_an_end_that_was_put_off_need_not_be_answered_for_either():
    it = held_books()
    restart(it, 7)
    timer = only(it.tell(over(8)))
    end = only(it.tell(TimerFired(name=timer.name)))
    assert said(only(it.tell(ReplyOverdue(request=end.request))))[0] == "subscribe"


def test_the_other_channels_go_on_when_the_end_of_one_is_not_answered():
    it = session()
    it.open()
    it.tell(Subscribed(request=1, channel="ticker", sid=1))
    it.tell(Subscribed(request=2, channel="trade", sid=2))
    end = only(it.tell(over(1)))
    again = only(it.tell(ReplyOverdue(request=end.request)))
    assert said(again) == ("subscribe", {"channels": ["ticker"], "skip_ticker_ack": True})
    assert said(only(it.tell(over(2)))) == ("unsubscribe", {"sids": [2]})


def test_a_living_subscription_whose_end_is_not_answered_gives_the_connection_up():
    it = held_books()
    asked = only(it.tell(gap()))
    end = only(it.tell(ReplyOverdue(request=asked.request)))
    assert end.reply_seconds == 10
    reset = only(it.tell(ReplyOverdue(request=end.request)))
    assert isinstance(reset, Reset)
    assert "unsubscribe of orderbook_delta" in reset.reason


# ── frames ───────────────────────────────────────────────────────────────────────


def test_a_batch_is_read_frame_by_frame_whatever_one_of_them_is():
    it = session()
    frames = [b'{"type":"ok","id":1}', b"[]", b'{"type":"trade","seq":3,"msg":{}}']
    parsed = it.feed.parse_batch(frames, it)
    assert [one.label for one in parsed] == ["ok", "malformed", "trade"]
    assert parsed[1].kind is FrameKind.MALFORMED
    assert parsed[2].first_seq == 3
    assert it.feed.parse(frames[0], it) == parsed[0]
    assert it.feed.parse_batch(frames[::2], it) == parsed[::2]
