from hypothesis import given
from hypothesis import strategies as st

from ssmd_core.feed.holes import Holes
from ssmd_core.feed.repair import Missed


def hole(from_ts, to_ts, channel="trade", markets=()):
    return Missed(channel=channel, from_ts=from_ts, to_ts=to_ts, markets=markets)


def spans(holes):
    return [(waiting.from_ts, waiting.to_ts) for waiting in holes]


def test_holes_are_taken_in_the_order_in_which_they_were_found():
    holes = Holes()
    for from_ts in (50, 10, 30):
        holes.add(hole(from_ts, from_ts + 5))
    assert [holes.take().from_ts for _ in range(3)] == [50, 10, 30]
    assert holes.take() is None


def test_overlapping_holes_are_one():
    holes = Holes()
    for from_ts, to_ts in ((10, 20), (40, 50), (18, 42)):
        holes.add(hole(from_ts, to_ts))
    assert spans(holes) == [(10, 50)]


def test_holes_of_other_channels_and_markets_stay_apart():
    holes = Holes()
    for other in (hole(1, 9), hole(1, 9, "ticker"), hole(1, 9, markets=("A",))):
        holes.add(other)
    assert len(holes) == 3


def test_past_the_limit_a_hole_is_joined_with_the_nearest():
    holes = Holes(limit=2)
    holes.add(hole(10, 20))
    holes.add(hole(100, 110))
    assert holes.add(hole(30, 40)) is None
    assert spans(holes) == [(10, 40), (100, 110)]


def test_past_the_limit_the_oldest_goes_where_none_can_be_joined():
    holes = Holes(limit=2)
    oldest = hole(1, 2, "a")
    holes.add(oldest)
    holes.add(hole(1, 2, "b"))
    assert holes.add(hole(1, 2, "c")) is oldest
    assert [waiting.channel for waiting in holes] == ["b", "c"]


@given(
    st.integers(1, 6),
    st.lists(
        st.tuples(st.integers(0, 200), st.integers(0, 20), st.sampled_from("abc")), max_size=40
    ),
)
def test_no_hole_is_lost_and_none_overlap(limit, found):
    holes, displaced = Holes(limit), []
    for from_ts, length, channel in found:
        gone = holes.add(hole(from_ts, from_ts + length, channel))
        if gone is not None:
            displaced.append(gone)
    waiting = list(holes)
    assert len(waiting) <= limit
    for from_ts, length, channel in found:
        assert any(
            one.channel == channel and one.from_ts <= from_ts and from_ts + length <= one.to_ts
            for one in waiting + displaced
        )
    for one in waiting:
        for other in waiting:
            if one is not other and one.channel == other.channel:
                assert one.to_ts < other.from_ts or other.to_ts < one.from_ts
