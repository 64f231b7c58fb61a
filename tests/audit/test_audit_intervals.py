import itertools

from hypothesis import given
from hypothesis import strategies as st

from ssmd_core.audit.intervals import Interval, intersect, subtract, total_ns, union

POINTS = st.integers(0, 40)
INTERVALS = st.lists(st.builds(Interval, POINTS, POINTS), max_size=8)


def points(intervals):
    return {at for each in intervals for at in range(each.from_ts, each.to_ts)}


def is_tidy(intervals):
    pairs = itertools.pairwise(intervals)
    return all(a.to_ts < b.from_ts for a, b in pairs) and all(a.length_ns > 0 for a in intervals)


@given(INTERVALS)
def test_a_union_covers_what_any_of_them_covers(some):
    assert points(union(some)) == points(some)
    assert is_tidy(union(some))


@given(INTERVALS, INTERVALS)
def test_a_difference_covers_what_only_the_first_covers(some, others):
    assert points(subtract(some, others)) == points(some) - points(others)
    assert is_tidy(subtract(some, others))


@given(INTERVALS, INTERVALS)
def test_an_intersection_covers_what_both_cover(some, others):
    assert points(intersect(some, others)) == points(some) & points(others)


@given(INTERVALS)
def test_the_total_is_the_number_of_points(some):
    assert total_ns(union(some)) == len(points(some))
