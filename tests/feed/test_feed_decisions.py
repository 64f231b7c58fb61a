import json
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ssmd_core.feed import Acknowledged, Parsed, Refused, Send, Subscribed, Unsubscribed
from ssmd_core.feed.policy import Backoff, Liveness, SilencePatience
from ssmd_core.feed.sequence import SequenceTracker
from ssmd_core.feed.states import Life, State, Step
from ssmd_core.feed.subscriptions import Subscriptions
from ssmd_core.feed.validity import _follows_grammar, is_json, is_utf8


def refuse(constant):
    raise ValueError(constant)


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


class TestValidity:
    @given(json_values, st.booleans())
    def test_whatever_a_json_encoder_writes_is_json(self, value, ascii_only):
        text = json.dumps(value, ensure_ascii=ascii_only, allow_nan=False)
        try:
            data = text.encode()
        except UnicodeEncodeError:
            return
        assert is_json(data)

    @pytest.mark.parametrize(
        "data",
        [
            b"",
            b" ",
            b"NaN",
            b'{"a":NaN}',
            b'{"a":Infinity}',
            b'{"a":-Infinity}',
            b"{'a':1}",
            b'{"a":01}',
            b'{"a":1.}',
            b'{"a":.5}',
            b'{"a":+1}',
            b'{"a":1e}',
            b'{"a":"\t"}',
            b'{"a":"\\x"}',
            b'{"a":"\\u12"}',
            b"[1,]",
            b'{"a":1,}',
            b"{}{}",
            b"tru",
            b'"x',
            b"[" * 20_000 + b"]" * 19_999,
            b"[" * 20_000 + b"]" * 20_001,
            b"[" * 5_000 + b"}" * 5_000,
            b'["\\ud800",]',
            b'["\\ud800" 1]',
            b'{"\\ud800"}',
            b'{"\\ud800":}',
            b'{"\\ud800":1,}',
            b'{"\\ud800":1,2}',
            b"[,]",
            b"\xef\xbb\xbf{}",
            "{\u00a0}".encode(),
            "[\u0661]".encode(),
        ],
    )
    def test_what_the_grammar_forbids_is_not_json(self, data):
        assert not is_json(data)

    @pytest.mark.parametrize(
        "data",
        [
            b'"\\ud800"',
            b"[" * 20_000 + b"]" * 20_000,
            b'{"a":' * 5_000 + b'[1,"\\ud800",{}]' + b"}" * 5_000,
            b'["\\ud800" , {"a" : [ ] , "b":null}\n]',
            b'{"a":1e999}',
            b'{"a":' + b"1" * 9000 + b"}",
            b' {"a" :\r\n1 }\t',
            b"0",
            b'{"a":1,"a":2}',
            b'"\x7f"',
            '"\u2028"'.encode(),
        ],
    )
    def test_what_the_grammar_allows_is_json(self, data):
        assert is_json(data)

    @given(st.text(alphabet='[]{},:"\\u0 1-.eEtruefalsn\n', max_size=14))
    def test_json_like_text_is_judged_like_the_strict_decoder_too(self, text):
        try:
            json.loads(text, parse_constant=refuse)
            expected = True
        except ValueError:
            expected = False
        assert _follows_grammar(text.encode()) is expected
        assert is_json(text.encode()) is expected

    @given(st.binary(max_size=40))
    def test_any_bytes_are_judged_like_the_strict_decoder_of_the_standard_library(self, data):
        if not is_utf8(data):
            with pytest.raises(UnicodeDecodeError):
                data.decode()
            return

        try:
            json.loads(data.decode(), parse_constant=refuse)
            expected = True
        except ValueError:
            expected = False
        assert is_json(data) is expected


class TestSequence:
    def test_consecutive_numbers_are_no_gap(self):
        tracker = SequenceTracker(1)
        assert [tracker.check("a", n, n, n) for n in range(1, 50)] == [None] * 49

    def test_a_missing_head_is_a_gap_where_the_start_is_known(self):
        tracker = SequenceTracker(1)
        tracker.open(7, 100)
        gap = tracker.check(7, 4, 4, 200)
        assert (gap.first, gap.last, gap.from_ts, gap.to_ts) == (1, 3, 100, 200)

    def test_any_start_is_accepted_where_it_is_not_known(self):
        assert SequenceTracker().check(7, 4, 4, 200) is None

    def test_an_old_number_never_moves_the_expectation_back(self):
        tracker = SequenceTracker()
        tracker.check(1, 5, 5, 1)
        assert tracker.check(1, 3, 3, 2) is None
        assert tracker.regressed == 1
        assert tracker.check(1, 6, 6, 3) is None

    def test_channels_are_counted_apart(self):
        tracker = SequenceTracker(1)
        tracker.check(1, 1, 1, 1)
        assert tracker.check(2, 1, 1, 2) is None

    @given(st.lists(st.integers(1, 60), unique=True, min_size=1), st.integers(1, 3))
    def test_gaps_name_exactly_what_never_came(self, numbers, width):
        numbers.sort()
        tracker = SequenceTracker(1)
        missing = set()
        for ts, number in enumerate(numbers):
            first = (number - 1) * width + 1
            gap = tracker.check("c", first, first + width - 1, ts)
            if gap is not None:
                missing.update(range(gap.first, gap.last + 1))
                assert gap.missing == gap.last - gap.first + 1
        came = {(n - 1) * width + 1 + k for n in numbers for k in range(width)}
        assert missing == set(range(1, max(came) + 1)) - came

    @given(st.permutations(range(1, 12)))
    def test_whatever_the_order_gaps_never_overlap(self, order):
        tracker = SequenceTracker(1)
        gaps = [gap for n in order if (gap := tracker.check(0, n, n, n))]
        covered = [n for gap in gaps for n in range(gap.first, gap.last + 1)]
        assert len(covered) == len(set(covered))

    @given(
        st.lists(
            st.tuples(st.integers(1, 2), st.none() | st.integers(1, 8), st.integers(0, 2)),
            max_size=20,
        ),
        st.sampled_from([None, 1]),
    )
    def test_a_wake_up_at_once_finds_what_frame_by_frame_does(self, frames, start):
        together, single = SequenceTracker(start), SequenceTracker(start)
        for tracker in (together, single):
            tracker.open(1, 5)
        parsed = [
            Parsed(
                label="x",
                sid=sid,
                first_seq=first,
                last_seq=None if first is None or not width else first + width - 1,
            )
            for sid, first, width in frames
        ]
        expected = [
            single.check(each.sid, each.first_seq, each.last_seq or each.first_seq, 10 + i)
            for i, each in enumerate(parsed)
            if each.first_seq is not None
        ]
        assert together.follow(enumerate(parsed, 10)) == [gap for gap in expected if gap]
        assert together.last_numbers() == single.last_numbers()
        assert together.numbered_until() == single.numbered_until()
        assert together.regressed == single.regressed


class TestBackoff:
    def test_waits_grow_to_the_cap_and_are_jittered_downwards(self):
        backoff = Backoff(rng=random.Random(1))
        waits = [backoff.next_seconds() for _ in range(40)]
        assert 0.25 <= waits[0] <= 0.5
        assert all(15.0 <= wait <= 30.0 for wait in waits[10:])

    def test_a_minute_live_starts_anew_and_less_does_not(self):
        backoff = Backoff(rng=random.Random(1))
        for _ in range(10):
            backoff.next_seconds()
        assert backoff.next_seconds(59.0) >= 15.0
        assert backoff.next_seconds(60.0) <= 0.5


class TestLiveness:
    def test_bytes_prove_life_but_data_is_asked_for_too(self):
        live = Liveness(stale_seconds=30, opened=0.0)
        live.bytes_at = 119.0
        assert live.overdue(119.5, 120.0) is None
        assert live.overdue(120.5, 120.0).cause == "silent"
        assert live.overdue(120.5, None) is None

    def test_no_bytes_is_stale_even_while_silence_is_normal(self):
        assert Liveness(30, 0.0).overdue(30.1, None).cause == "stale"

    def test_an_unanswered_ping_and_a_stuck_send_are_dead(self):
        live = Liveness(30, 0.0, ping_at=None)
        live.ping_at = 1.0
        assert live.overdue(21.5, None).cause == "ping_timeout"
        live.ping_at, live.stuck_since = None, 5.0
        assert live.overdue(15.5, None).cause == "send_timeout"

    def test_silence_is_borne_longer_each_time_up_to_a_quarter_of_an_hour(self):
        patience = SilencePatience(120.0)
        seen = []
        for _ in range(6):
            seen.append(patience.current())
            patience.grow()
        assert seen == [120, 240, 480, 900, 900, 900]
        patience.reset()
        assert patience.current() == 120
        assert SilencePatience(None).current() is None


class TestLife:
    def test_the_usual_walk(self):
        life = Life()
        walk = [Step.DIAL, Step.REACHED, Step.ACCEPTED, Step.ANSWERED, Step.STOP, Step.END]
        assert [life.step(step) for step in walk] == [
            State.CONNECTING,
            State.AUTHENTICATING,
            State.SUBSCRIBING,
            State.LIVE,
            State.DRAINING,
            State.CLOSED,
        ]

    def test_a_move_the_table_does_not_have_is_our_bug(self):
        with pytest.raises(RuntimeError, match="idle cannot accepted"):
            Life().step(Step.ACCEPTED)

    @given(st.lists(st.sampled_from([s for s in Step if s is not Step.END])))
    def test_every_walk_can_end(self, steps):
        life = Life()
        for step in steps:
            try:
                life.step(step)
            except RuntimeError:
                break
        assert life.step(Step.END) is State.CLOSED


def ask(book, request, channel, markets=0, now=0.0):
    book.ask(Send(data=b"", request=request, subscribes=channel, markets=markets), now)


class TestSubscriptions:
    def test_replies_match_by_id_in_any_order(self):
        book = Subscriptions()
        for request, channel in [(1, "a"), (2, "b"), (3, "c")]:
            ask(book, request, channel, markets=10)
        book.take(Subscribed(request=3, channel="c", sid=1))
        book.take(Subscribed(request=1, channel="a", sid=2))
        assert not book.answered()
        book.take(Refused(request=2, code=8, reason="Unknown channel"))
        assert book.answered()
        assert book.channels == {1: "c", 2: "a"}
        counts = book.counts()
        assert (counts.requested, counts.confirmed, counts.refused) == (3, 2, 1)
        assert (counts.markets_requested, counts.markets_confirmed) == (30, 20)

    def test_a_reply_nobody_waits_for_changes_no_count(self):
        book = Subscriptions()
        ask(book, 1, "a")
        book.take(Acknowledged(request=99))
        assert not book.answered()
        assert book.counts().confirmed == 0

    def test_a_channel_taken_away_and_asked_for_again_counts_once(self):
        book = Subscriptions()
        ask(book, 1, "a", markets=5)
        book.take(Subscribed(request=1, channel="a", sid=1))
        book.take(Refused(request=None, code=25, reason="overflow", sid=1, ends_sid=True))
        assert book.counts().confirmed == 0
        ask(book, 2, "a", markets=5)
        book.take(Subscribed(request=2, channel="a", sid=2))
        assert (book.counts().confirmed, book.counts().markets_confirmed) == (1, 5)

    def test_a_refused_request_tried_again_in_parts_counts_its_markets_once(self):
        book = Subscriptions()
        ask(book, 1, "a", markets=10)
        book.take(Refused(request=1, code=26, reason="too many"))
        assert book.counts().markets_requested == 10
        ask(book, 2, "a", markets=5)
        ask(book, 3, "a", markets=5)
        assert book.counts().markets_requested == 10
        assert book.counts().refused == 0

    def test_an_unsubscribed_channel_is_gone(self):
        book = Subscriptions()
        ask(book, 1, "a")
        book.take(Subscribed(request=1, channel="a", sid=1))
        book.take(Unsubscribed(request=2, sid=1))
        assert book.channels == {}

    def test_overdue_requests_are_told_once(self):
        book = Subscriptions()
        ask(book, 1, "a", now=0.0)
        assert book.overdue(9.0) == []
        assert book.overdue(10.5) == [1]
        assert book.overdue(11.0) == []
