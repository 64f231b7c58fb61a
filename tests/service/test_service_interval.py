import pytest
from hypothesis import given
from hypothesis import strategies as st

from ssmd_core.clock import NS, day_of, iso
from ssmd_core.errors import UsageError
from ssmd_core.service.interval import EVER, Interval, read_interval

NOV_22 = 1_795_305_600 * NS
HOUR = 3_600 * NS


@pytest.mark.parametrize(
    ("text", "ts"),
    [
        ("2026-11-22", NOV_22),
        ("2026-11-22T06:00", NOV_22 + 6 * HOUR),
        ("2026-11-22T06:00:47", NOV_22 + 6 * HOUR + 47 * NS),
        ("2026-11-22 06:00:47Z", NOV_22 + 6 * HOUR + 47 * NS),
        ("2026-11-22T06:00:47.5", NOV_22 + 6 * HOUR + 47_500_000_000),
        ("2026-11-22T06:00:47.123456789+00:00", NOV_22 + 6 * HOUR + 47_123_456_789),
        ("2026-11-22T06:00+02:00", NOV_22 + 4 * HOUR),
        ("2026-11-21T22:00:00-02:00", NOV_22),
    ],
)
def test_a_time_is_read_and_is_utc_without_a_zone(text, ts):
    assert read_interval(text, None).from_ts == ts


@given(ts=st.integers(0, (1 << 63) - 1))
def test_a_time_as_the_archive_writes_it_is_read_to_the_nanosecond(ts):
    assert read_interval(iso(ts), None).from_ts == ts


def test_a_date_as_the_end_is_its_whole_day():
    assert read_interval("2026-11-22", "2026-11-22") == Interval(NOV_22, NOV_22 + 24 * HOUR)


def test_a_time_as_the_end_is_the_first_that_is_left_out():
    interval = read_interval(None, "2026-11-22T06:00")
    assert NOV_22 + 6 * HOUR not in interval
    assert NOV_22 + 6 * HOUR - 1 in interval


def test_without_times_it_is_ever():
    assert read_interval(None, None) == EVER
    assert 0 in EVER
    assert NOV_22 in EVER


@pytest.mark.parametrize(
    "text",
    [
        "",
        "yesterday",
        "22.11.2026",
        "2026-13-01",
        "2026-11-22T25:00",
        "2026-11-22T06",
        "2026-11-22T06:00.5.5",
        "2026-11-22T06:00:47.1234567890",
        "2026-11-22T06:00+99:00",
    ],
)
def test_what_is_no_time_is_refused_with_the_form_that_is_wanted(text):
    with pytest.raises(UsageError, match=r"--to `.*` is no time.*2026-11-22T06:00:47"):
        read_interval(None, text)


@pytest.mark.parametrize("text", ["1969-12-31", "2300-01-01"])
def test_a_time_that_no_archive_can_hold_is_refused(text):
    with pytest.raises(UsageError, match="before 1970 or after 2262"):
        read_interval(text, None)


def test_an_end_before_the_beginning_is_refused():
    with pytest.raises(UsageError, match="nothing lies between --from 2026-11-22 and --to"):
        read_interval("2026-11-22", "2026-11-21T23:59:59Z")


@given(
    ts=st.integers(NOV_22 - 48 * HOUR, NOV_22 + 48 * HOUR),
    begin=st.integers(NOV_22 - 48 * HOUR, NOV_22),
    length=st.integers(1, 48 * HOUR),
)
def test_the_day_of_a_time_that_lies_in_it_meets_it(ts, begin, length):
    interval = Interval(begin, begin + length)
    assert interval.meets(day_of(ts)) or ts not in interval
    assert EVER.meets(day_of(ts))


def test_a_day_of_which_nothing_lies_in_it_does_not_meet_it():
    interval = read_interval("2026-11-22", "2026-11-22")
    assert [interval.meets(f"2026-11-{day}") for day in (21, 22, 23)] == [False, True, False]
