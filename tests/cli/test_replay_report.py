from collections import Counter

from ssmd_core.cli.replay_report import compared, replayed
from ssmd_core.metrics import Metrics
from ssmd_core.service.comparison import Difference, What
from ssmd_core.service.diff import Findings
from ssmd_core.service.replay import Replayed

NOON = 1_795_348_800_000_000_000


def facts(so_far, metrics=None):
    return {line[:16].strip(): line[16:] for line in replayed(so_far, metrics or Metrics())}


def test_what_was_replayed_is_told_by_kind_with_its_time():
    kinds = Counter(trade=1_000, ticker=9_000)
    told = facts(Replayed(NOON, NOON + 5, frames=12_345, kinds=kinds, seconds=2.0))
    assert told == {
        "frames": "12,345, 2026-11-22T12:00:00.000000000+00:00 to "
        "2026-11-22T12:00:00.000000005+00:00",
        "messages": "10,000: 9,000 ticker, 1,000 trade",
        "already there": "0",
        "unacknowledged": "0",
        "time": "2.0 s, 5,000 messages/s",
    }


def test_what_went_wrong_is_told_and_where_to_go_on():
    metrics = Metrics()
    metrics.unpublishable.add("no venue time", 3)
    so_far = Replayed(NOON, NOON + 5, unread=2, damaged_lines=4, rejected=1, unacknowledged=7)
    so_far.rejection = "tiny:trade:1: too large"
    so_far.fault = "the bus at nats://u:hunter2@host took nothing"
    told = facts(so_far, metrics)
    assert told["unreadable"] == "2 frames that the feed cannot read"
    assert told["damaged"] == "4 lines of the archive"
    assert told["not published"] == "3: no venue time"
    assert told["refused"] == "1, the first tiny:trade:1: too large"
    assert told["unacknowledged"] == "7"
    assert told["stopped"].startswith("go on with --from 2026-11-22T12:00:00.000000005+00:00")
    assert "hunter2" not in told["given up"]


def test_stopped_before_the_first_message_it_names_no_time():
    assert facts(Replayed(stopped=True))["stopped"] == "before anything was sent"


def test_a_comparison_is_a_table_and_its_first_differences():
    findings = Findings(first_ts=NOON, last_ts=NOON + 9, earlier=1, later=1_200)
    comparison = findings.comparison
    comparison.counts["trade"] = Counter(archived=1_000, stored=999, same=998, missing=1, payload=1)
    comparison.differences = 22
    comparison.shown = [
        Difference(What.MISSING, "tiny:trade:1", NOON, "lab.tiny.trade.KX"),
        Difference(What.PAYLOAD, "tiny:trade:2", NOON + 1, "lab.tiny.trade.KX", "byte 7"),
    ]
    at = "2026-11-22T12:00:00.00000000"
    assert list(compared(findings, "lab.tiny")) == [
        f"compared with lab.tiny, {at}0+00:00 to {at}9+00:00",
        "",
        "kind   archived  stored  same  missing  extra  subject  schema  payload  order  twice",
        "trade     1,000     999   998        1      0        0       0        1      0      0",
        "",
        f"missing  {at}0+00:00 lab.tiny.trade.KX tiny:trade:1",
        f"payload  {at}1+00:00 lab.tiny.trade.KX tiny:trade:2: byte 7",
        "and 20 more",
        "1 archived message earlier than the stream's first one, not compared",
        "1,200 archived messages later than the stream's last one, not compared",
        "22 differences",
    ]


def test_a_stream_that_holds_nothing_is_told():
    assert list(compared(Findings(), "lab.tiny")) == [
        "the stream holds no record of lab.tiny to compare with"
    ]
    assert list(compared(Findings(later=7), "lab.tiny")) == [
        "the stream holds no record of lab.tiny to compare with: 7 messages archived"
    ]


def test_one_difference_is_one_and_a_message_without_a_time_has_none():
    findings = Findings(first_ts=NOON, last_ts=NOON)
    findings.comparison.differences = 1
    findings.comparison.shown = [Difference(What.EXTRA, "", 0, "lab.tiny.trade.KX")]
    assert list(compared(findings, "lab.tiny"))[-2:] == [
        "extra    no Ssmd-Ts lab.tiny.trade.KX ",
        "1 difference",
    ]


def test_what_was_taken_for_a_duplicate_and_is_not_there_is_no_success():
    so_far = Replayed(NOON, NOON + 5, doubted=3)
    so_far.settle(2)
    assert not so_far.complete
    told = facts(so_far)
    assert told["already there"] == "1"
    assert told["not stored"].startswith("2 messages taken for duplicates, and not in the stream")
    assert "wait for its duplicate_window and run again" in told["not stored"]


def test_what_was_taken_for_a_duplicate_and_is_there_is_there():
    so_far = Replayed(NOON, NOON + 5, doubted=3)
    so_far.settle(0)
    assert so_far.complete
    assert facts(so_far)["already there"] == "3"


def test_what_was_taken_for_a_duplicate_while_nobody_looked_is_no_success():
    so_far = Replayed(NOON, NOON + 5, doubted=1)
    assert not so_far.complete
    assert facts(so_far)["in doubt"].startswith("1 message taken for duplicates")
