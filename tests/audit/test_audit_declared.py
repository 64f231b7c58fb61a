"""What the ledger says was confirmed or repaired stands in the frames, and the other way round."""

from ssmd_core.clock import NS, iso

NEXT = "2026-11-23"


def test_a_channel_that_was_confirmed_and_no_line_says_so_is_a_fault(capture, audit):
    capture.open()
    capture.subscribed("trade", sid=1, noted=False)
    capture.numbered(1, 2)
    capture.close()
    outcome = audit(capture)
    assert outcome.faults == ["confirmed_undeclared"]
    assert "the venue confirmed trade, and no `subscribed` line" in outcome.text(
        "confirmed_undeclared"
    )


def test_a_line_of_another_session_covers_nothing(capture, audit):
    capture.open("a")
    capture.subscribed(session="a")
    capture.close("a")
    capture.open("b")
    capture.subscribed(session="b", noted=False)
    capture.close("b")
    (finding,) = audit(capture).findings
    assert (finding.session, finding.channel) == ("b", "trade")


def test_a_line_lost_with_others_is_explained(capture, audit):
    capture.open()
    ts = capture.subscribed(noted=False)
    first, last = iso(ts), iso(capture.wait())
    capture.note("dropped", sink="ledger", lines=1, from_ts=first, to_ts=last)
    capture.close()
    outcome = audit(capture)
    assert (outcome.faults, outcome.notes) == ([], ["confirmed_undeclared"])


def test_the_last_moment_before_a_crash_may_lack_its_line(capture, audit):
    capture.open()
    capture.subscribed(noted=False)
    capture.close(cause="crashed", frames=None)
    assert audit(capture).faults == []


def test_a_line_that_comes_after_what_was_read_is_not_missed(capture, audit):
    capture.open()
    upto = capture.subscribed()
    assert audit(capture, upto=upto, is_live=True).faults == []


# ── repairs ──────────────────────────────────────────────────────────────────────


def test_a_repair_whose_pages_stand_there_has_no_findings(capture, audit):
    capture.open()
    capture.fetched({"trades": ["a", "b"]})
    capture.fetched({"trades": ["c"]})
    capture.repaired(2, 3)
    capture.close()
    assert list(audit(capture).findings) == []


def test_a_page_that_is_gone_is_a_fault(capture, audit):
    capture.open()
    capture.fetched({"trades": ["a", "b"]}, archived=False)
    capture.fetched({"trades": ["c"]})
    capture.repaired(2, 3)
    capture.close()
    outcome = audit(capture)
    assert outcome.faults == ["repair_missing"]
    assert "trade was repaired with 2 pages, 1 in the archive" in outcome.text("repair_missing")


def test_pages_that_hold_less_than_was_fetched_are_a_fault(capture, audit):
    capture.open()
    capture.fetched({"trades": ["a"]})
    capture.repaired(1, 3)
    capture.close()
    assert "3 records, 1 in the archive" in audit(capture).text("repair_missing")


def test_pages_of_another_repair_do_not_count(capture, audit):
    capture.open()
    for name in "ab":
        capture.fetched({"trades": [name]})
    capture.repaired(2, 2)
    capture.fetched({"trades": ["c"]}, archived=False)
    capture.repaired(1, 1)
    capture.close()
    assert audit(capture).faults == ["repair_missing"]


def test_pages_that_a_crash_left_without_a_line_do_not_count(capture, audit):
    capture.open("a")
    capture.fetched({"trades": ["a", "b", "c"]})
    capture.close("a", cause="crashed", frames=None)
    capture.open("b")
    capture.fetched({"trades": ["a"]})
    capture.repaired(1, 3)
    capture.close("b")
    assert audit(capture).faults == ["repair_missing"]


def test_without_a_plugin_pages_are_counted_and_their_records_are_not(capture, audit, unread):
    capture.open()
    capture.fetched({"trades": []})
    capture.repaired(1, 3)
    capture.repaired(1, 3)
    capture.close()
    assert audit(capture, parsers=unread).faults == ["repair_missing"]


def test_a_page_declared_as_dropped_is_explained(capture, audit):
    capture.open()
    ts = capture.fetched({"trades": ["a"]}, archived=False)
    capture.fetched({"trades": ["b"]})
    at = {"from_ts": iso(ts), "to_ts": iso(ts)}
    capture.note("dropped", sink="storage", frames=1, reason="full", **at)
    capture.repaired(2, 2)
    capture.close()
    outcome = audit(capture)
    assert (outcome.faults, outcome.notes) == ([], ["repair_missing"])


def test_a_repair_over_midnight_has_its_pages_on_the_day_before(capture, audit):
    capture.open()
    capture.fetched({"trades": ["early"]})
    capture.repaired(1, 1)
    capture.wait(18 * 3600 - 10)
    capture.fetched({"trades": ["a"]})
    capture.until(NEXT)
    capture.carry(opened=iso(capture.now - NS))
    capture.fetched({"trades": ["b"]})
    capture.repaired(2, 2)
    capture.close()
    assert audit(capture).faults == []
    assert audit(capture, date=NEXT).faults == []


def test_a_repair_that_may_have_begun_on_a_day_that_is_gone_is_not_judged(capture, audit):
    capture.carry(opened=iso(capture.now - NS))
    capture.fetched({"trades": ["b"]})
    capture.repaired(2, 2)
    capture.close()
    assert audit(capture).faults == []
