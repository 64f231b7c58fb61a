"""The bus holds what the archive would publish: each id once, in order, and no other."""

import pytest

from ssmd_core.audit.comparison import Comparison
from ssmd_core.audit.findings import Findings
from ssmd_core.audit.holdings import Holdings
from ssmd_core.clock import NS, iso
from ssmd_core.sink.bus import StoredMessage

SCHEMA = "plain:v1"
DAY = "2026-11-22"


class PlainEncoder:
    label = SCHEMA
    kinds = frozenset({"trade"})

    def encode(self, record, ts):
        return b""


class PlainSchemas:
    def schema(self, label):
        assert label == SCHEMA
        return self

    def open(self, metrics):
        return PlainEncoder()


class Stream:
    """Messages in the order in which they were stored."""

    def __init__(self):
        self.messages = []

    def put(self, msg_id, ts, subject="prod.plain.trade.GOLD", origin="", schema=SCHEMA):
        place = len(self.messages) + 1
        self.messages.append(StoredMessage(place, subject, msg_id, ts, origin, schema, b""))

    def trade(self, name, ts, **more):
        self.put(f"plain:trade:{name}", ts, **more)

    def line(self, ts, **more):
        self.put(f"plain:me:{ts}", ts, "prod.plain.status", schema="", **more)


@pytest.fixture
def stream():
    return Stream()


@pytest.fixture
def compare(audit):
    """Compare an archive with a stream; return findings and totals."""

    def run(capture, stream, *, upto=None, connector="", parsers=None, lags=False):
        held = Holdings("plain", after=0, upto=upto or capture.now)
        held.take(stream.messages)
        comparison = Comparison(
            "plain", "prod", held, PlainSchemas(), connector=connector, lags=lags
        )
        outcome = audit(capture, bus=comparison, parsers=parsers)
        assert list(outcome.faults) == []
        if held.begun and comparison.has_extras:
            comparison.take_extras(stream.messages)
        findings = Findings()
        outcome.bus = comparison.judge(
            outcome.audit.declared, findings, unread=outcome.audit.unread
        )
        outcome.findings = findings
        return outcome

    return run


@pytest.fixture
def both(capture, stream):
    """An archive of four trades, and the stream that holds all of it."""
    stream.line(capture.open(connector="me", environment="prod"))
    for name in "abcd":
        stream.trade(name, capture.frames({"trades": [name]}))
    stream.line(capture.close())
    return capture, stream


def test_a_bus_that_holds_the_archive_has_no_findings(compare, both):
    outcome = compare(*both)
    assert list(outcome.findings) == []
    assert (outcome.bus.stored, outcome.bus.expected) == (6, 6)


def test_a_message_that_is_missing_is_a_fault_with_its_id(compare, both):
    capture, stream = both
    del stream.messages[2]
    outcome = compare(capture, stream)
    assert outcome.faults == ["bus_missing"]
    assert "plain:trade:b" in outcome.text("bus_missing")
    assert outcome.bus.missing.count == 1


def test_a_ledger_line_that_is_missing_is_a_fault(compare, both):
    capture, stream = both
    del stream.messages[-1]
    outcome = compare(capture, stream)
    assert "plain:me:" in outcome.text("bus_missing")


def test_a_message_that_is_in_no_frame_is_a_fault(compare, both):
    capture, stream = both
    stream.trade("z", stream.messages[-1].ts - NS)
    outcome = compare(capture, stream)
    assert "bus_extra" in outcome.faults
    assert "plain:trade:z" in outcome.text("bus_extra")


def test_what_is_later_than_the_last_frame_is_not_uploaded_yet_where_the_archive_lags(
    compare, both
):
    capture, stream = both
    last_ts = stream.messages[-2].ts
    stream.trade("y", last_ts - 1)
    stream.trade("z", last_ts + NS)
    outcome = compare(capture, stream, upto=last_ts + 2 * NS, lags=True)
    assert "1 message later than the last frame" in outcome.text("bus_ahead")
    assert "not uploaded yet" in outcome.text("bus_ahead")
    assert "plain:trade:y" in outcome.text("bus_extra")
    assert "plain:trade:z" not in outcome.text("bus_extra")
    assert outcome.bus.extra.count == 1
    late = compare(capture, stream, upto=last_ts + 2 * NS)
    assert late.bus.extra.count == 2, "an archive that does not lag lacks it"


def test_a_message_without_our_headers_is_a_fault(compare, both):
    capture, stream = both
    stream.put("", 0, schema="")
    assert compare(capture, stream).faults == ["bus_extra"]


def test_a_message_that_is_stored_twice_is_a_fault(compare, both):
    capture, stream = both
    stream.trade("d", stream.messages[4].ts)
    outcome = compare(capture, stream)
    assert outcome.faults == ["bus_duplicate"]
    assert outcome.bus.duplicates.count == 1


def test_a_replay_of_what_is_there_is_no_duplicate(compare, both):
    capture, stream = both
    stream.trade("b", stream.messages[2].ts, origin="replay")
    assert compare(capture, stream).faults == []


def test_a_message_behind_a_later_one_of_its_subject_is_a_fault(compare, both):
    capture, stream = both
    stream.messages[2], stream.messages[3] = stream.messages[3], stream.messages[2]
    outcome = compare(capture, stream)
    assert outcome.faults == ["bus_disorder"]
    assert outcome.bus.disordered.count == 1


def test_subjects_have_an_order_each_of_its_own(compare, both):
    capture, stream = both
    stream.messages[2] = stream.messages[2]._replace(subject="prod.plain.trade.SILVER")
    stream.messages[2], stream.messages[3] = stream.messages[3], stream.messages[2]
    assert compare(capture, stream).faults == []


def test_what_was_fetched_may_stand_anywhere(compare, capture, stream):
    stream.line(capture.open(connector="me"))
    late = capture.frames({"trades": ["a"]})
    fetched = capture.fetched({"trades": ["a", "b"]})
    stream.trade("b", fetched, origin="backfill")
    stream.trade("a", late)
    stream.line(capture.close())
    outcome = compare(capture, stream)
    assert list(outcome.findings) == []
    assert outcome.bus.expected == 4


def test_a_trade_that_came_twice_is_expected_once(compare, capture, stream):
    stream.line(capture.open(connector="me"))
    stream.trade("a", capture.frames({"trades": ["a"]}))
    capture.frames({"trades": ["a"]})
    stream.line(capture.close())
    assert list(compare(capture, stream).findings) == []


def test_what_the_stream_has_forgotten_is_not_missing(compare, both):
    capture, stream = both
    del stream.messages[:3]
    outcome = compare(capture, stream)
    assert (outcome.faults, outcome.notes) == ([], ["bus_older"])
    assert outcome.bus.after == stream.messages[0].ts
    assert (outcome.bus.expected, outcome.bus.older) == (3, 3)
    text = outcome.text("bus_older")
    assert text.startswith("2 records and 1 ledger line of the archive are older than the first")
    assert "made anew" not in text


def test_a_stream_that_was_made_anew_says_that_it_begins_behind_the_archive(compare, both):
    capture, stream = both
    del stream.messages[:3]
    stream.messages = [m._replace(place=n) for n, m in enumerate(stream.messages, 1)]
    outcome = compare(capture, stream)
    assert outcome.faults == []
    assert "the first its stream ever took" in outcome.text("bus_older")


def test_of_a_frame_whose_first_record_is_forgotten_the_rest_is_expected(compare, capture, stream):
    stream.line(capture.open(connector="me"))
    ts = capture.frames({"trades": ["a", "b", "c"]})
    stream.trade("b", ts)
    stream.trade("c", ts)
    stream.line(capture.close())
    del stream.messages[:1]
    outcome = compare(capture, stream)
    assert outcome.faults == []
    assert (outcome.bus.stored, outcome.bus.expected) == (3, 3)


def test_a_bus_that_holds_nothing_says_of_how_much(compare, both):
    capture, stream = both
    stream.messages.clear()
    outcome = compare(capture, stream)
    assert (outcome.faults, outcome.notes, outcome.bus) == ([], ["bus_unchecked"], None)
    text = "the bus holds nothing of prod.plain: none of 4 records and 2 ledger lines"
    assert text in outcome.text("bus_unchecked")


def test_a_bus_that_holds_only_a_replay_says_so(compare, both):
    capture, stream = both
    stream.messages = [m._replace(origin="replay") for m in stream.messages[1:5]]
    outcome = compare(capture, stream)
    assert (outcome.faults, outcome.bus) == ([], None)
    assert "that are replayed, 4 of them" in outcome.text("bus_unchecked")


def test_what_the_bus_has_not_taken_yet_is_told_and_no_fault(compare, both):
    capture, stream = both
    upto = stream.messages[2].ts
    del stream.messages[3:]
    outcome = compare(capture, stream, upto=upto)
    assert (outcome.faults, outcome.notes) == ([], ["bus_behind"])
    assert "3 messages not compared" in outcome.text("bus_behind")


def test_what_the_bus_took_beyond_the_cursor_is_not_extra(compare, both):
    capture, stream = both
    outcome = compare(capture, stream, upto=stream.messages[2].ts)
    assert outcome.faults == []


def test_messages_declared_as_dropped_are_missing_without_fault(compare, both):
    capture, stream = both
    gone = [stream.messages.pop(2), stream.messages.pop(2)]
    capture.open("s2", connector="me", environment="prod")
    first, last = (iso(message.ts) for message in gone)
    upto = capture.now - NS
    capture.note("dropped", sink="transport", messages=2, from_ts=first, to_ts=last)
    outcome = compare(capture, stream, upto=upto)
    assert outcome.faults == []
    assert "2 messages missing, and declared" in outcome.text("bus_declared")


def test_one_refused_message_is_declared_by_its_frame(compare, both):
    capture, stream = both
    gone, upto = stream.messages.pop(2), capture.now
    capture.open("s2", connector="me")
    capture.note("dropped", sink="transport", frame=iso(gone.ts), message=gone.msg_id)
    assert compare(capture, stream, upto=upto).faults == []


def test_messages_dropped_without_a_time_explain_as_many(compare, both):
    capture, stream = both
    del stream.messages[2:4]
    upto = capture.now
    capture.open("s2", connector="me")
    capture.note("dropped", sink="transport", messages=1)
    assert compare(capture, stream, upto=upto).faults == ["bus_missing"]
    capture.note("dropped", sink="transport", messages=1)
    assert compare(capture, stream, upto=upto).faults == []


def test_another_connector_beside_ours_explains_what_is_extra(compare, both):
    capture, stream = both
    ts = stream.messages[3].ts + 1
    stream.put(f"plain:other:{ts}", ts, "prod.plain.status", schema="")
    stream.trade("theirs", ts)
    outcome = compare(capture, stream)
    assert outcome.faults == []
    assert "other" in outcome.text("bus_foreign")


def test_frames_of_another_environment_are_not_expected(compare, both):
    capture, stream = both
    capture.open("s2", connector="me", environment="test")
    upto = capture.now - NS
    capture.frames({"trades": ["t"]}, session="s2")
    capture.close("s2")
    assert compare(capture, stream, upto=upto).faults == []


def test_the_connector_kept_with_the_archive_serves_where_sessions_tell_none(
    compare, capture, stream
):
    stream.line(capture.open())
    stream.trade("a", capture.frames({"trades": ["a"]}))
    stream.line(capture.close())
    assert list(compare(capture, stream, connector="me").findings) == []


def test_without_a_connector_nothing_is_compared_and_that_is_said(compare, capture, stream):
    stream.line(capture.open())
    stream.trade("a", capture.frames({"trades": ["a"]}))
    outcome = compare(capture, stream)
    assert outcome.faults == []
    assert "connector" in outcome.text("bus_unchecked")


def test_without_a_plugin_records_are_not_compared_and_that_is_said(compare, both, unread):
    outcome = compare(*both, parsers=unread)
    assert outcome.faults == []
    assert "some frames could not be read" in outcome.text("bus_unchecked")


def test_a_stream_tells_its_schema_at_each_time(stream):
    stream.trade("a", 100, schema="trade:v1")
    stream.line(150)
    stream.trade("b", 200, schema="trade:v2")
    held = Holdings("plain", after=0, upto=1_000)
    held.take(stream.messages)
    assert [held.schema_at(ts) for ts in (1, 100, 199, 200, 999)] == [
        "trade:v1",
        "trade:v1",
        "trade:v1",
        "trade:v2",
        "trade:v2",
    ]
