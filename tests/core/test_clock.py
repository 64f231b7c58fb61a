from hypothesis import given
from hypothesis import strategies as st

from ssmd_core.clock import NS, ReceiptClock, SystemClock, day_of, iso
from ssmd_core.testing.fakes import ManualClock

moves = st.lists(
    st.one_of(
        st.tuples(st.just("advance"), st.floats(0, 100)),
        st.tuples(st.just("step"), st.floats(-5000, 5000)),
        st.tuples(st.just("stamp"), st.integers(1, 2000)),
    ),
    max_size=40,
)


@given(moves)
def test_stamps_strictly_increase_whatever_the_wall_clock_does(script):
    clock = ManualClock()
    receipt = ReceiptClock(clock)
    last = 0
    for word, amount in script:
        if word == "advance":
            clock.advance(amount)
        elif word == "step":
            clock.step_wall(amount)
        else:
            first = receipt.stamp(amount)
            assert first > last
            last = first + amount - 1


def test_a_forward_correction_is_followed_at_once():
    clock = ManualClock()
    receipt = ReceiptClock(clock)
    receipt.stamp()
    clock.step_wall(3600)
    assert receipt.stamp() == clock.wall_ns()
    assert receipt.take_step() == 0


def test_a_backward_step_is_slewed_and_told_once():
    clock = ManualClock()
    receipt = ReceiptClock(clock)
    before = receipt.stamp()
    clock.step_wall(-2.0)
    assert before < receipt.stamp() < before + NS
    assert abs(receipt.take_step() - 2 * NS) < NS // 100
    assert receipt.take_step() == 0
    for _ in range(50):
        clock.advance(0.1)
        receipt.stamp()
    assert receipt.stamp() - clock.wall_ns() < NS // 100
    assert receipt.take_step() == 0


def test_a_second_backward_step_while_slewing_does_not_move_back():
    clock = ManualClock()
    receipt = ReceiptClock(clock)
    clock.step_wall(-5.0)
    first = receipt.stamp()
    clock.advance(0.5)
    clock.step_wall(-5.0)
    assert receipt.stamp() > first


def test_jitter_of_the_wall_clock_is_no_step():
    clock = ManualClock()
    receipt = ReceiptClock(clock)
    for _ in range(20):
        clock.advance(0.01)
        clock.step_wall(-0.0005)
        receipt.stamp()
        clock.step_wall(0.0005)
    assert receipt.take_step() == 0


def test_a_start_goes_on_above_what_the_archive_holds():
    clock = ManualClock()
    future = clock.wall_ns() + 10 * NS
    receipt = ReceiptClock(clock, future)
    assert receipt.stamp() > future
    assert receipt.take_step() >= 10 * NS


def test_stamps_of_the_real_clock_are_near_it():
    clock = SystemClock()
    receipt = ReceiptClock(clock)
    assert abs(receipt.stamp() - clock.wall_ns()) < NS


def test_times_are_written_with_nine_digits_and_an_offset():
    ts = 1_795_327_247_123_456_789
    assert iso(ts) == "2026-11-22T06:00:47.123456789+00:00"
    assert iso(ts - 123_456_789) == "2026-11-22T06:00:47.000000000+00:00"
    assert day_of(ts) == "2026-11-22"
    assert day_of(1_795_305_600 * NS - 1) == "2026-11-21"
