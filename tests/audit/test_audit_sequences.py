"""Sequences are counted anew, and every hole has to be declared."""

from hypothesis import given
from hypothesis import strategies as st

from ssmd_core.audit.sequences import Recount
from ssmd_core.audit.sessions import Session
from ssmd_core.clock import iso
from ssmd_core.feed import Parsed
from ssmd_core.feed.sequence import SequenceTracker
from ssmd_core.records import Batch
from ssmd_core.sink.archive import Content

NEXT = "2026-11-23"


class Numbered:
    first_sequence = 1

    def new_state(self, plan):
        return None


def test_a_hole_that_is_declared_with_the_same_bounds_is_no_finding(capture, audit):
    capture.open()
    capture.subscribed()
    ts = capture.numbered(1, 2, 6)
    capture.gap(3, 5, ts[2], ts[6])
    capture.close()
    outcome = audit(capture)
    assert list(outcome.findings) == []
    channel = outcome.totals[0].channels["trade"]
    assert (channel.gaps, channel.missing) == (1, 3)


def test_a_hole_that_nobody_declared_is_a_fault(capture, audit):
    capture.open()
    capture.subscribed()
    capture.numbered(1, 4)
    capture.close()
    outcome = audit(capture)
    assert outcome.faults == ["hole_undeclared"]
    assert "trade skips 2..3" in outcome.text("hole_undeclared")
    assert outcome.findings.unexplained_of("plain", "2026-11-22", "trade") == 1


def test_a_hole_before_the_first_number_of_a_channel_counts(capture, audit):
    capture.open()
    capture.subscribed()
    capture.numbered(3)
    capture.close()
    assert "skips 1..2" in audit(capture).text("hole_undeclared")


def test_a_gap_with_other_bounds_than_the_hole_is_two_faults(capture, audit):
    capture.open()
    capture.subscribed()
    ts = capture.numbered(1, 5)
    capture.gap(2, 3, ts[1], ts[5])
    capture.close()
    assert sorted(audit(capture).faults) == ["gap_not_there", "hole_undeclared"]


def test_a_gap_that_is_declared_and_not_there_is_a_fault(capture, audit):
    capture.open()
    capture.subscribed()
    ts = capture.numbered(1, 2)
    capture.gap(2, 2, ts[1], ts[2])
    capture.close()
    assert audit(capture).faults == ["gap_not_there"]


def test_a_gap_without_numbers_says_that_the_channel_was_dead(capture, audit):
    capture.open()
    capture.subscribed()
    ts = capture.numbered(1)
    capture.gap(None, None, ts[1], ts[1] + 5)
    capture.close()
    outcome = audit(capture)
    assert list(outcome.findings) == []
    channel = outcome.totals[0].channels["trade"]
    assert (channel.gaps, channel.missing) == (1, 0)


def test_a_hole_where_frames_were_declared_as_dropped_is_explained(capture, audit):
    capture.open()
    capture.subscribed()
    capture.numbered(1)
    lost = capture.numbered(2, 3, archived=False)
    capture.numbered(4)
    capture.note("dropped", sink="storage", frames=2, from_ts=iso(lost[2]), to_ts=iso(lost[3]))
    capture.close()
    outcome = audit(capture)
    assert (outcome.faults, outcome.notes) == ([], ["hole_declared"])


def test_a_gap_whose_frames_were_dropped_cannot_be_seen_and_is_explained(capture, audit):
    capture.open()
    capture.subscribed()
    ts = capture.numbered(1)
    lost = capture.numbered(4, 5, archived=False)
    capture.gap(2, 3, ts[1], lost[4])
    capture.numbered(6)
    capture.note("dropped", sink="storage", frames=2, from_ts=iso(lost[4]), to_ts=iso(lost[5]))
    capture.close()
    outcome = audit(capture)
    assert (outcome.faults, sorted(outcome.notes)) == ([], ["gap_not_there", "hole_declared"])


def test_a_hole_where_ledger_lines_were_lost_is_explained(capture, audit):
    capture.open()
    capture.subscribed()
    ts = capture.numbered(1, 3)
    capture.note("dropped", sink="ledger", lines=1, from_ts=iso(ts[3]), to_ts=iso(ts[3] + 9))
    capture.close()
    assert audit(capture).faults == []


def test_a_hole_in_the_last_moment_before_a_crash_is_explained(capture, audit):
    capture.open()
    capture.subscribed()
    capture.numbered(1, 3)
    capture.close(cause="crashed", frames=None)
    outcome = audit(capture)
    assert outcome.faults == []
    assert "the last moment before a crash" in outcome.text("hole_declared")


def test_an_earlier_hole_of_a_crashed_session_is_a_fault(capture, audit):
    capture.open()
    capture.subscribed()
    capture.numbered(1, 3, 4, 5)
    capture.close(cause="crashed", frames=None)
    assert audit(capture).faults == ["hole_undeclared"]


def test_every_session_counts_for_itself(capture, audit):
    for session in ("a", "b"):
        capture.open(session)
        capture.subscribed(session=session)
        capture.numbered(1, 2, session=session)
        capture.close(session)
    assert list(audit(capture).findings) == []


def test_two_channels_of_a_session_count_apart(capture, audit):
    capture.open()
    capture.subscribed("trade", 1)
    capture.subscribed("book", 2)
    capture.numbered(1, 2, sid=1)
    capture.numbered(1, sid=2)
    capture.numbered(3, sid=1)
    capture.numbered(3, sid=2)
    capture.close()
    outcome = audit(capture)
    assert outcome.faults == ["hole_undeclared"]
    assert "book skips 2..2" in outcome.text("hole_undeclared")
    assert {name: c.frames for name, c in outcome.totals[0].channels.items()} == {
        "trade": 4,
        "book": 3,
    }


def test_a_channel_that_ended_and_began_anew_starts_over(capture, audit):
    capture.open()
    for event in ("unsubscribed", "ended"):
        capture.subscribed()
        capture.numbered(1, 2)
        capture.frames({"is": event, "sid": 1})
        capture.numbered(9)  # an afterthought
    capture.subscribed()
    capture.numbered(1)
    capture.close()
    assert list(audit(capture).findings) == []


def test_sequences_go_on_over_midnight(capture, audit):
    capture.open()
    capture.subscribed()
    capture.numbered(1, 2)
    capture.until(NEXT)
    capture.carry()
    capture.numbered(4)
    capture.close()
    outcome = audit(capture)
    assert outcome.faults == ["hole_undeclared"]
    assert next(iter(outcome.findings)).day == NEXT


def test_a_day_alone_goes_on_where_session_carried_says(capture, audit):
    capture.open()
    capture.subscribed()
    capture.numbered(1, 2)
    capture.until(NEXT)
    capture.carry(channels={"1": "trade"}, last={"1": 2})
    capture.numbered(4)
    capture.close()
    outcome = audit(capture, date=NEXT)
    assert outcome.faults == ["hole_undeclared"]
    assert "trade skips 3..3" in outcome.text("hole_undeclared")


def test_a_day_alone_goes_on_where_the_first_session_carried_says(capture, audit):
    capture.open()
    capture.subscribed()
    capture.numbered(1, 2)
    capture.until(NEXT)
    capture.carry(channels={"1": "trade"}, last={"1": 2})
    capture.numbered(4)
    capture.carry(channels={"1": "trade"}, last={"1": 4})
    capture.numbered(5)
    capture.close()
    outcome = audit(capture, date=NEXT)
    assert "trade skips 3..3" in outcome.text("hole_undeclared")


def test_a_day_alone_that_goes_on_without_a_hole_has_none(capture, audit):
    capture.open()
    capture.subscribed()
    capture.numbered(1, 2)
    capture.until(NEXT)
    capture.carry(channels={"1": "trade"}, last={"1": 2})
    capture.numbered(3, 4)
    capture.close()
    outcome = audit(capture, date=NEXT)
    assert outcome.faults == []
    assert outcome.totals[0].channels["trade"].frames == 2


def test_a_session_joined_in_the_middle_may_stand_at_any_number(capture, audit):
    capture.conns["s1"] = 0
    capture.numbered(17, 18)
    capture.close()
    assert audit(capture).faults == ["never_opened"]


def test_a_gap_that_shows_after_midnight_is_looked_for_there(capture, audit):
    capture.open()
    capture.subscribed()
    ts = capture.numbered(1)
    capture.until(NEXT)
    ts |= capture.numbered(3)
    capture.gap(2, 2, ts[1], ts[3])
    capture.close()
    assert list(audit(capture).findings) == []


def test_without_a_plugin_sequences_are_not_checked_and_that_is_no_fault(capture, audit, unread):
    capture.open()
    capture.subscribed()
    ts = capture.numbered(1, 4)
    capture.gap(2, 3, ts[1], ts[4])
    capture.close()
    outcome = audit(capture, parsers=unread)
    assert (outcome.faults, outcome.notes) == ([], ["sequence_unchecked"])
    assert "not checked: nobody provides it" in outcome.text("sequence_unchecked")
    assert outcome.totals[0].channels["trade"].frames is None


@given(st.lists(st.integers(1, 12), min_size=1, max_size=30))
def test_the_recount_finds_the_holes_that_the_connector_found(numbers):
    tracker = SequenceTracker(1)
    live = [tracker.check("x", n, n, ts) for ts, n in enumerate(numbers, 100)]
    recount = Recount(Numbered(), Session(id="s", conn=0, opened_ts=1))
    for ts, n in enumerate(numbers, 100):
        said = Parsed(label="x", sid="x", first_seq=n, last_seq=n)
        recount.follow(Batch(ts, [b""]), [said])
    found = [(h.first, h.last, h.from_ts, h.to_ts) for h in recount.take_holes()]
    assert found == [(g.first, g.last, g.from_ts, g.to_ts) for g in live if g is not None]


def test_a_frame_that_is_no_text_keeps_its_place_among_the_others(capture, audit):
    capture.open()
    capture.subscribed()
    capture.numbered(1)
    looks_like_one = b'{"sid":1,"seq":9}'
    batch = Batch(capture.wait(), [b"{}", looks_like_one], raw=frozenset({1}))
    capture.archive.put("plain", "2026-11-22", Content.LIVE, batch)
    capture.received["s1"] += 2
    capture.numbered(2)
    capture.close()
    assert list(audit(capture).findings) == []
