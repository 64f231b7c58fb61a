"""The window: order, bounds, and what is sent again."""

from __future__ import annotations

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from ssmd_core.sink import Message
from ssmd_sink_nats.window import Run, Stage, Window

LIMIT = 12


def message(ts: int, size: int = 1, ticker: str = "A") -> Message:
    return Message(kind="trade", ticker=ticker, payload=b"x" * size, msg_id=str(ts), ts=ts)


def numbers_of(run: Run) -> list[int]:
    return [n for n, message in enumerate(run.messages, run.first) if message is not None]


def send_all(window: Window) -> list[int]:
    run = window.next_unsent(1_000, 1 << 30)
    window.sent(run.end)
    return numbers_of(run)


@pytest.fixture
def window():
    return Window(LIMIT, 1_000)


def test_room_shrinks_with_what_is_taken_and_grows_with_what_is_answered(window):
    window.take([message(ts) for ts in range(10)], 0.0)
    assert window.room == 2
    send_all(window)
    window.answered(range(4))
    assert window.room == 6
    assert len(window) == 6


def test_room_is_bounded_in_bytes_too(window):
    window.take([message(1, size=1_000)], 0.0)
    assert window.room == 0
    send_all(window)
    window.answered([0])
    assert window.room == LIMIT


def test_the_oldest_is_the_least_receipt_time_even_out_of_order(window):
    window.take([message(50), message(60), message(20)], 0.0)
    assert window.oldest_ts == 20
    send_all(window)
    window.answered([2])
    assert window.oldest_ts == 50
    window.answered([0, 1])
    assert window.oldest_ts is None


def test_a_new_connection_sends_everything_again_in_order(window):
    window.take([message(ts) for ts in range(5)], 0.0)
    assert send_all(window) == [0, 1, 2, 3, 4]
    window.answered([1, 3])
    window.restart()
    run = window.next_unsent(99, 99)
    assert numbers_of(run) == [0, 2, 4]
    assert window.sent(run.end) == 3
    assert window.in_flight == 3


def test_after_a_refusal_nothing_is_sent_until_all_is_answered(window):
    window.take([message(ts) for ts in range(4)], 0.0)
    send_all(window)
    window.turned_down(1)
    window.take([message(9)], 0.0)
    assert send_all(window) == []
    assert not window.settle()
    window.answered([0, 2])
    window.turned_down(3)
    assert window.settle()
    assert window.stage is Stage.WAITING


def test_a_retry_tries_the_oldest_alone_then_the_rest_in_order(window):
    window.take([message(ts) for ts in range(3)], 0.0)
    send_all(window)
    for number in (0, 1, 2):
        window.turned_down(number)
    window.settle()
    window.probe()
    assert send_all(window) == [0]
    assert send_all(window) == []
    window.answered([0])
    window.settle()
    assert window.stage is Stage.FLOWING
    assert send_all(window) == [1, 2]


def test_a_retry_that_is_refused_waits_again(window):
    window.take([message(1)], 0.0)
    send_all(window)
    window.turned_down(0)
    window.settle()
    window.probe()
    send_all(window)
    window.turned_down(0)
    assert window.settle()


def test_bytes_are_given_back_before_all_of_a_large_batch_is_answered(window):
    window.take([message(ts, size=250) for ts in range(4)], 0.0)
    assert window.room == 0
    send_all(window)
    window.answered([0, 1])
    assert window.room == LIMIT - 2


def test_answers_that_skip_one_leave_it_to_be_sent_again(window):
    window.take([message(ts) for ts in range(6)], 0.0)
    send_all(window)
    window.answered([0, 1, 3, 4])
    assert window.head == 2
    assert len(window) == 2
    assert window.oldest_ts == 2
    window.restart()
    assert send_all(window) == [2, 5]
    window.answered([2])
    assert window.head == 5


def test_what_is_sent_at_once_is_bounded_in_bytes(window):
    window.take([message(ts, size=100) for ts in range(5)], 0.0)
    assert numbers_of(window.next_unsent(99, 250)) == [0, 1, 2]


def test_carefully_no_subject_is_on_the_way_twice(window):
    tickers = "ABACBA"
    window.take(
        [
            Message(kind="trade", ticker=t, payload=b"", msg_id=t, ts=n)
            for n, t in enumerate(tickers)
        ],
        0.0,
    )
    window.careful = True
    assert send_all(window) == [0, 1]
    assert send_all(window) == []
    window.answered([0])
    assert send_all(window) == []
    window.answered([1])
    assert send_all(window) == [2, 3, 4]
    window.answered([2, 3, 4])
    window.careful = False
    assert send_all(window) == [5]


def test_what_was_sent_is_suspect_until_this_connection_offered_it_again(window):
    window.take([message(1), message(2)], 5.0)
    assert window.oldest_sent is None
    send_all(window)
    assert window.oldest_sent == 5.0
    assert window.oldest_suspect is None
    window.mistrust(suspect=True)
    window.probe()
    assert window.oldest_suspect == 5.0
    send_all(window)
    assert window.oldest_suspect == 5.0
    window.answered([0])
    window.settle()
    send_all(window)
    assert window.oldest_suspect is None
    window.mistrust(suspect=False)
    window.restart()
    assert window.oldest_suspect is None


def test_messages_that_no_answer_will_come_for_are_forgotten(window):
    window.take([message(ts) for ts in range(4)], 0.0)
    window.sent(2)
    window.forget([1, 3])
    assert window.in_flight == 1
    assert numbers_of(window.next_unsent(9, 9)) == [2]
    window.answered([0])
    assert window.in_flight == 0


class Bus(RuleBasedStateMachine):
    """Any course of publishing, answers, refusals and lost connections."""

    def __init__(self):
        super().__init__()
        self.window = Window(LIMIT, 10_000)
        self.next = 0
        self.sent: list[int] = []
        self.stored: list[int] = []

    @rule(tickers=st.text("AB", min_size=1, max_size=5))
    def publish(self, tickers):
        tickers = tickers[: self.window.room]
        messages = [message(self.next + at, ticker=t) for at, t in enumerate(tickers)]
        self.window.take(messages, 0.0)
        self.next += len(messages)
        self.send()

    @rule(careful=st.booleans())
    def take_care(self, careful):
        self.window.careful = careful

    def send(self):
        run = self.window.next_unsent(4, 1 << 20)
        numbers = numbers_of(run)
        assert numbers == sorted(numbers)
        assert not set(numbers) & set(self.sent)
        assert not self.sent or not numbers or numbers[0] > self.sent[-1]
        if self.window.careful:
            assert not (numbers and self.sent)
            tickers = [self.window.find(number).ticker for number in numbers]
            assert len(tickers) == len(set(tickers))
        self.window.sent(run.end)
        self.sent += numbers

    @precondition(lambda self: self.sent)
    @rule(data=st.data())
    def acknowledge(self, data):
        number = data.draw(st.sampled_from(self.sent))
        self.sent.remove(number)
        self.window.answered([number])
        self.stored.append(number)
        self.window.settle()
        self.send()

    @precondition(lambda self: self.sent)
    @rule(data=st.data())
    def acknowledge_many(self, data):
        numbers = self.sent[: data.draw(st.integers(1, len(self.sent)))]
        if data.draw(st.booleans()):
            numbers = data.draw(st.permutations(numbers))
        known = {number for number in numbers if self.window.find(number)}
        assert known == set(numbers)
        assert self.window.answered([*numbers, self.next + 5]) == len(numbers)
        self.sent = [number for number in self.sent if number not in known]
        self.stored += numbers
        self.window.settle()
        self.send()

    @precondition(lambda self: self.stored)
    @rule(data=st.data())
    def hear_an_answer_again(self, data):
        numbers = data.draw(st.lists(st.sampled_from(self.stored), max_size=4))
        assert self.window.answered(numbers) == 0

    @precondition(lambda self: self.sent)
    @rule(data=st.data())
    def refuse(self, data):
        number = data.draw(st.sampled_from(self.sent))
        self.sent.remove(number)
        self.window.turned_down(number)
        self.window.settle()

    @precondition(lambda self: self.window.stage is Stage.WAITING)
    @rule()
    def retry(self):
        assert not self.sent
        self.window.probe()
        self.send()

    @rule()
    def lose_the_connection(self):
        self.sent.clear()
        self.window.restart()
        self.send()

    @invariant()
    def nothing_is_lost(self):
        kept = {number for number in range(self.next) if self.window.find(number)}
        assert kept | set(self.stored) == set(range(self.next))
        assert len(self.window) == len(kept)

    @invariant()
    def the_bounds_hold(self):
        assert len(self.window) <= LIMIT
        assert self.window.in_flight == len(self.sent)
        if len(self.window):
            assert self.window.oldest_ts == min(n for n in range(self.next) if self.window.find(n))


TestBus = Bus.TestCase
TestBus.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
