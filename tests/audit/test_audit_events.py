import json

import pytest

from ssmd_core.audit.events import day_start, read_event, read_time
from ssmd_core.clock import iso


def test_a_line_is_read_with_its_fields():
    line = {"ts": "…", "session": "s", "conn": 2, "event": "gap", "first": 3, "channel": "trade"}
    event = read_event(7, json.dumps(line).encode())
    assert (event.ts, event.word, event.session, event.conn) == (7, "gap", "s", 2)
    assert (event.number("first"), event.text("channel")) == (3, "trade")


def test_a_field_of_another_type_counts_as_absent():
    line = {"event": "gap", "session": 1, "conn": "x", "first": "3", "channel": 5, "last": True}
    event = read_event(7, json.dumps(line).encode())
    assert (event.session, event.conn) == (None, None)
    assert (event.number("first"), event.number("last"), event.text("channel")) == (None, None, "")
    assert event.table("channels") == {}


@pytest.mark.parametrize("line", [b"", b"{", b"[]", b"{}", b'{"event":3}', b"\xff", b"[" * 9000])
def test_what_is_no_event_is_none(line):
    assert read_event(7, line) is None


def test_a_time_is_read_back_to_the_nanosecond():
    assert read_time(iso(1_795_327_200_123_456_789)) == 1_795_327_200_123_456_789


@pytest.mark.parametrize(
    "text", ["", "soon", "2026-11-22T06:00:00Z", "2026-13-22T06:00:00.000000000+00:00"]
)
def test_what_is_no_time_is_none(text):
    assert read_time(text) is None


def test_a_day_begins_at_midnight_utc():
    assert iso(day_start("2026-11-22")) == "2026-11-22T00:00:00.000000000+00:00"
