import pytest
from hypothesis import given
from hypothesis import strategies as st

from ssmd_core.clock import NS
from ssmd_core.errors import UsageError
from ssmd_core.service.pacing import Pacer, read_speed


@pytest.mark.parametrize(
    ("text", "factor"), [("1x", 1.0), ("10x", 10.0), ("0.5x", 0.5), (".25x", 0.25), ("max", None)]
)
def test_a_speed_is_read(text, factor):
    assert read_speed(text) == factor


@pytest.mark.parametrize("text", ["", "x", "0x", "0.0x", "-1x", "1", "fast", "1e3x", "infx", "MAX"])
def test_what_is_no_speed_is_refused_with_what_is(text):
    with pytest.raises(
        UsageError, match=r"is no speed; write max, or a factor as 1x, 10x or 0\.5x"
    ):
        read_speed(text)


def test_the_first_frame_is_due_at_once():
    assert Pacer(1.0).wait_seconds(5 * NS, 100.0) == 0.0


@pytest.mark.parametrize(("factor", "seconds"), [(1.0, 10.0), (10.0, 1.0), (0.5, 20.0)])
def test_a_frame_is_due_as_long_after_the_first_as_it_was_received_by_the_speed(factor, seconds):
    pacer = Pacer(factor)
    pacer.wait_seconds(5 * NS, 100.0)
    assert pacer.wait_seconds(15 * NS, 100.0) == pytest.approx(seconds)


def test_at_the_greatest_speed_everything_is_due():
    pacer = Pacer(None)
    assert [pacer.wait_seconds(ts, 0.0) for ts in (0, NS, 10**18)] == [0.0, 0.0, 0.0]


@given(late=st.floats(0, 50), factor=st.sampled_from([0.5, 1.0, 3.0]))
def test_what_was_late_once_delays_nothing_after_it(late, factor):
    pacer = Pacer(factor)
    pacer.wait_seconds(0, 0.0)
    pacer.wait_seconds(NS, late)
    assert late + pacer.wait_seconds(100 * NS, late) == pytest.approx(max(late, 100 / factor))
