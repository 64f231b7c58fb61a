"""Frames received, less those declared as dropped, are the lines of the archive."""

import pytest

from ssmd_core.clock import NS, iso

DAY, NEXT = "2026-11-22", "2026-11-23"


def dropped(capture, frames, from_ts, to_ts):
    capture.note(
        "dropped", sink="storage", frames=frames, from_ts=iso(from_ts), to_ts=iso(to_ts), reason="x"
    )


def test_an_archive_that_holds_what_was_received_has_no_findings(capture, audit):
    capture.open()
    capture.subscribed()
    capture.frames({"sid": 1, "seq": 1}, {"sid": 1, "seq": 2})
    capture.close()
    outcome = audit(capture)
    assert list(outcome.findings) == []
    (day,) = outcome.totals
    assert (day.sessions, day.frames, day.ledger_lines) == (1, 3, 3)
    assert day.channels["trade"].frames == 3


def test_a_frame_that_is_not_in_the_archive_is_a_fault(capture, audit):
    capture.open()
    capture.frames({})
    capture.frames({}, {}, archived=False)
    capture.close()
    outcome = audit(capture)
    assert outcome.faults == ["frames_missing"]
    assert "received 3 frames, 1 in the archive: 2 missing" in outcome.text("frames_missing")


def test_a_line_that_nobody_received_is_a_fault(capture, audit):
    capture.open()
    capture.frames({}, {})
    capture.close(frames=1)
    assert audit(capture).faults == ["frames_extra"]


def test_frames_declared_as_dropped_explain_what_is_missing(capture, audit):
    capture.open()
    first = capture.frames({}, archived=False)
    last = capture.frames({}, archived=False)
    dropped(capture, 2, first, last)
    capture.frames({})
    capture.close()
    outcome = audit(capture)
    assert outcome.faults == []
    assert outcome.totals[0].dropped_frames == 2


def test_of_more_missing_than_declared_the_rest_is_a_fault(capture, audit):
    capture.open()
    first = capture.frames({}, {}, {}, archived=False)
    dropped(capture, 1, first - 2, first)
    capture.close()
    assert "2 missing, and not" in audit(capture).text("frames_missing")


def test_frames_declared_as_dropped_and_missing_nowhere_are_a_fault(capture, audit):
    capture.open()
    ts = capture.frames({})
    dropped(capture, 1, ts, ts)
    capture.close()
    assert audit(capture).faults == ["dropped_not_missing"]


def test_dropped_frames_of_two_connections_are_shared_out_among_them(capture, audit):
    capture.open("a", conn=0)
    capture.open("b", conn=1)
    first = capture.frames({}, {}, session="a", archived=False)
    last = capture.frames({}, session="b", archived=False)
    dropped(capture, 3, first - 1, last)
    capture.close("a")
    capture.close("b")
    assert audit(capture).faults == []


def test_a_dropped_body_that_was_fetched_is_no_fault(capture, audit):
    capture.open()
    ts = capture.frames({})
    capture.fetched({})
    dropped(capture, 1, ts, ts)
    capture.close()
    assert audit(capture).faults == []


def test_frames_that_wait_while_the_disk_refuses_them_are_explained(capture, audit):
    capture.open()
    capture.note("sink_failed", sink="storage", reason="no space")
    capture.frames({}, archived=False)
    capture.close()
    outcome = audit(capture)
    assert (outcome.faults, outcome.notes) == ([], ["frames_missing"])


def test_once_the_disk_takes_frames_again_what_is_missing_is_a_fault(capture, audit):
    capture.open()
    capture.note("sink_failed", sink="storage", reason="no space")
    capture.frames({}, archived=False)
    capture.note("sink_recovered", sink="storage")
    capture.close()
    outcome = audit(capture)
    assert outcome.faults == ["frames_missing"]
    assert outcome.totals[0].failing_seconds == 2.0


def test_a_frame_outside_any_session_is_a_fault(capture, audit):
    capture.open()
    capture.frames({})
    capture.close()
    capture.frames({}, {})
    outcome = audit(capture)
    assert outcome.faults == ["outside_session"]
    assert "2 frames of connection 0" in outcome.text("outside_session")


def test_a_frame_of_a_connection_that_never_was_is_a_fault(capture, audit):
    capture.open("a", conn=0)
    capture.conns["b"] = 7
    capture.frames({}, session="b")
    capture.close("a")
    assert audit(capture).faults == ["outside_session"]


def test_an_archive_without_a_ledger_is_one_fault_a_connection(capture, audit):
    capture.conns = {"a": 0, "b": 1}
    for session in "abab":
        capture.frames({}, session=session)
    assert audit(capture).faults == ["outside_session", "outside_session"]


def test_a_crashed_session_has_no_count_and_is_explained(capture, audit):
    capture.open("a")
    last = capture.frames({}, session="a")
    capture.close("a", cause="crashed", frames=None, last_ts=iso(last))
    capture.open("b")
    capture.close("b")
    outcome = audit(capture)
    assert (outcome.faults, outcome.notes) == ([], ["not_counted"])
    assert "crashed and left no count: 1 in the archive" in outcome.text("not_counted")


def test_what_was_dropped_before_a_crash_is_missing_in_no_count(capture, audit):
    capture.open("a")
    ts = capture.frames({}, session="a", archived=False)
    dropped(capture, 1, ts, ts)
    capture.close("a", cause="crashed", frames=None)
    assert audit(capture).faults == []


def test_a_session_that_is_open_while_a_connector_is_at_work_runs(capture, audit):
    capture.open()
    capture.frames({})
    outcome = audit(capture, is_live=True)
    assert (outcome.faults, outcome.notes) == ([], ["not_counted"])
    assert "runs: 1 frame in the archive so far" in outcome.text("not_counted")


def test_a_session_that_is_open_today_where_nobody_can_tell_is_open(capture, audit):
    capture.open()
    capture.frames({})
    outcome = audit(capture)
    assert (outcome.faults, outcome.notes) == ([], ["not_counted"])
    assert "is open, and nobody can see" in outcome.text("not_counted")


def test_a_session_without_an_end_while_no_connector_is_at_work_is_a_fault(capture, audit):
    capture.open()
    capture.frames({})
    outcome = audit(capture, is_live=False)
    assert outcome.faults == ["never_closed"]
    assert "the next start of its connector closes it" in outcome.text("never_closed")


@pytest.mark.parametrize(("days", "faults"), [(1, []), (5, ["never_closed"])])
def test_a_session_is_open_for_a_day_at_most_where_nobody_can_tell(capture, audit, days, faults):
    capture.open()
    capture.frames({})
    assert audit(capture, upto=capture.now + days * 86_400 * NS).faults == faults


def test_a_session_that_reaches_midnight_goes_on_though_the_next_day_is_not_here(capture, audit):
    capture.open()
    capture.wait(18 * 3600 - 60)
    capture.frames({})
    outcome = audit(capture, is_live=False, upto=capture.now + 5 * 86_400 * NS)
    assert (outcome.faults, outcome.notes) == ([], ["not_counted"])
    assert "goes on after what was read" in outcome.text("not_counted")


def test_a_session_that_the_next_day_does_not_know_ended_without_a_word(capture, audit):
    capture.open("a")
    capture.frames({}, session="a")
    capture.until(NEXT)
    capture.open("b", conn=1)
    capture.close("b")
    assert audit(capture, date=DAY, is_live=False).faults == ["never_closed"]


def test_a_frame_that_is_not_json_and_does_not_stand_as_raw_is_a_fault(capture, audit):
    capture.open()
    ts = capture.frames({})
    capture.live()[-1].frames[0] = b"{not json"
    capture.close()
    outcome = audit(capture)
    assert outcome.faults == ["not_json"]
    assert iso(ts) in outcome.text("not_json")


def test_a_session_that_another_followed_without_a_word_is_a_fault(capture, audit):
    capture.open("a")
    capture.frames({}, session="a")
    capture.open("b")
    capture.close("b")
    assert audit(capture).faults == ["never_closed"]


def test_a_session_that_another_followed_while_ledger_lines_were_lost_is_explained(capture, audit):
    capture.open("a")
    ts = capture.frames({}, session="a")
    capture.open("b")
    capture.note("dropped", sink="ledger", lines=1, from_ts=iso(ts - NS), to_ts=iso(ts + NS))
    capture.close("b")
    assert audit(capture).faults == []


def test_a_session_over_midnight_is_counted_over_both_days(capture, audit):
    capture.open()
    capture.frames({}, {})
    capture.until(NEXT)
    capture.carry()
    capture.frames({})
    capture.close()
    outcome = audit(capture)
    assert list(outcome.findings) == []
    assert [(day.day, day.sessions, day.frames) for day in outcome.totals] == [
        (DAY, 1, 2),
        (NEXT, 1, 1),
    ]


@pytest.mark.parametrize("date", [DAY, NEXT])
def test_of_one_day_alone_a_session_over_midnight_is_not_counted(capture, audit, date):
    capture.open()
    capture.frames({}, {})
    capture.until(NEXT)
    capture.carry()
    capture.frames({})
    capture.close()
    outcome = audit(capture, date=date)
    assert (outcome.faults, outcome.notes) == ([], ["not_counted"])
    assert [day.day for day in outcome.totals] == [date]


def test_the_first_day_that_is_left_begins_in_the_middle_of_a_session(capture, audit):
    capture.conns["s1"] = 0
    capture.frames({})
    capture.carry()
    capture.frames({})
    capture.close(frames=9)
    outcome = audit(capture)
    assert (outcome.faults, outcome.notes) == ([], ["not_counted"])


def test_a_session_that_nothing_announced_is_a_fault(capture, audit):
    capture.conns["s1"] = 0
    capture.frames({})
    capture.note("subscribed", session="s1", channel="trade", sid=1)
    running = audit(capture)
    assert "nothing says when session s1 began: 1" in running.text("never_opened")
    capture.close(frames=9)
    assert audit(capture).faults == ["never_opened"]
    capture.note("dropped", sink="ledger", lines=1, from_ts=iso(1), to_ts=iso(capture.now))
    assert audit(capture).faults == []


def test_a_session_that_is_carried_from_a_day_that_is_here_must_have_begun_there(capture, audit):
    capture.open("other", conn=1)
    capture.conns["s1"] = 0
    opened = capture.now
    capture.until(NEXT)
    capture.carry(opened=iso(opened))
    capture.carry("other", opened=iso(opened))
    capture.frames({})
    capture.close(frames=1)
    capture.close("other")
    assert audit(capture).faults == ["never_opened"]
    assert audit(capture, date=NEXT).faults == []


def test_a_session_that_is_only_mentioned_is_not_told_of(capture, audit):
    capture.conns["s1"] = 0
    capture.note("subscribed", session="s1", channel="trade", sid=1)
    assert list(audit(capture).findings) == []


def test_a_session_that_ended_without_a_frame_of_the_day_needs_no_announcement(capture, audit):
    capture.conns["s1"] = 0
    capture.close(frames=9, cause="cut")
    assert audit(capture).faults == []


def test_a_crash_is_closed_by_a_start_on_another_day(capture, audit):
    capture.open("a")
    capture.frames({}, session="a")
    capture.until(NEXT)
    capture.close("a", cause="crashed", frames=None)
    capture.open("b")
    capture.close("b")
    assert "crashed" in audit(capture, date=DAY).text("not_counted")


def test_what_came_while_the_archive_was_read_is_left_out(capture, audit):
    capture.open()
    upto = capture.frames({})
    capture.close()
    capture.open("later")
    capture.frames({}, session="later")
    outcome = audit(capture, upto=upto)
    assert outcome.totals[0].frames == 1
    assert "1 frame in the archive so far" in outcome.text("not_counted")


def test_torn_tails_and_clock_steps_are_on_record(capture, audit):
    capture.open()
    capture.note("clock_stepped", back_seconds=2.5)
    capture.close()
    capture.archive.torn[DAY] = 17
    outcome = audit(capture)
    assert outcome.faults == []
    assert outcome.notes == ["torn", "clock_stepped"]
    assert "2.5 s" in outcome.text("clock_stepped")
