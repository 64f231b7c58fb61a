"""The venue's time: the most precise of those it sent."""

from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ssmd_kalshi.times import venue_ns

SECOND = 1_795_000_000
NS = 10**9
TEXT = "2026-11-18T11:06:40"


@pytest.mark.parametrize(
    ("ts", "ts_ms", "time", "expected"),
    [
        (SECOND, None, None, SECOND * NS),
        (SECOND, SECOND * 1000 + 7, None, SECOND * NS + 7_000_000),
        (f"{TEXT}.123456Z", SECOND * 1000 + 123, None, SECOND * NS + 123_456_000),
        (f"{TEXT}.123456789Z", SECOND * 1000 + 123, None, SECOND * NS + 123_456_789),
        (f"{TEXT}.1234567891Z", None, None, SECOND * NS + 123_456_789),
        (f"{TEXT}.12Z", SECOND * 1000 + 123, None, SECOND * NS + 123_000_000),
        (f"{TEXT}Z", None, None, SECOND * NS),
        (f"{TEXT}+00:00", None, None, SECOND * NS),
        ("2026-11-18T06:06:40.5-05:00", None, None, SECOND * NS + 500_000_000),
        (SECOND, SECOND * 1000 + 7, f"{TEXT}Z", SECOND * NS + 7_000_000),
        (SECOND, SECOND * 1000 + 7, f"{TEXT}.007654Z", SECOND * NS + 7_654_000),
        (SECOND, None, f"{TEXT}.25Z", SECOND * NS + 250_000_000),
        (None, None, f"{TEXT}Z", SECOND * NS),
        (str(SECOND), None, None, SECOND * NS),
        (None, str(SECOND * 1000 + 7), None, SECOND * NS + 7_000_000),
        (Decimal(f"{SECOND}.5"), None, None, SECOND * NS + 500_000_000),
        ("garbage", SECOND * 1000 + 7, "rubbish", SECOND * NS + 7_000_000),
        ("2026-13-99T11:06:40.123456Z", SECOND * 1000, None, SECOND * NS),
    ],
)
def test_the_most_precise_time_wins(ts, ts_ms, time, expected):
    assert venue_ns(ts, ts_ms, time) == expected


@pytest.mark.parametrize(
    "value", [None, "", 0, -1, "soon", True, 10**30, Decimal("1e500"), [], {}, "2026-11-18"]
)
def test_what_is_no_time_counts_as_none(value):
    assert venue_ns(value, None) == 0
    assert venue_ns(None, value) == 0
    assert venue_ns(None, None, value) == 0


@given(
    st.datetimes(datetime(1971, 1, 1), datetime(2200, 1, 1)),  # noqa: DTZ001  zones come below
    st.integers(-14 * 60, 14 * 60),
)
def test_every_microsecond_is_kept_in_every_zone(moment, minutes):
    moment = moment.replace(tzinfo=timezone(timedelta(minutes=minutes)))
    expected = (moment - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1) * 1000
    assert venue_ns(moment.isoformat(timespec="microseconds"), None) == expected
    zulu = moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    assert venue_ns(zulu, None) == expected


scalars = st.none() | st.booleans() | st.integers() | st.decimals() | st.text()


@given(scalars, scalars, scalars)
def test_no_input_raises(ts, ts_ms, time):
    assert 0 <= venue_ns(ts, ts_ms, time) < 2**64


def test_thousands_of_different_seconds_are_read():
    for second in range(SECOND, SECOND + 3000):
        text = datetime.fromtimestamp(second, UTC).strftime("%Y-%m-%dT%H:%M:%S")
        assert venue_ns(f"{text}.000001Z", None) == second * NS + 1000
