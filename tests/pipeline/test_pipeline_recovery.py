"""What a start reads from the ledger of a run that did not end in order."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ssmd_core.clock import NS, iso
from ssmd_core.feed import ConnectionPlan
from ssmd_core.pipeline.recovery import PriorRuns, read_prior_runs
from ssmd_core.testing.fakes import MemoryStorage, WindowTransport

pytestmark = pytest.mark.anyio

MIDNIGHT = 1_795_305_600 * NS
T = MIDNIGHT + 6 * 3_600 * NS


def line(ts, event, session="s1", conn=0, **fields):
    said = {"ts": iso(ts), "session": session, "conn": conn, "event": event, **fields}
    return ts, msgspec.json.encode(said)


def opened(ts, session="s1", conn=0):
    return line(ts, "session_opened", session, conn, endpoint="ws://x/")


def subscribed(ts, channel="trade", sid=1, session="s1", conn=0):
    return line(ts, "subscribed", session, conn, channel=channel, sid=sid)


def closed(ts, session="s1", conn=0, **fields):
    return line(ts, "session_closed", session, conn, cause="cut", detail="", frames=3, **fields)


def gap(ts, channel, from_ts, to_ts, first=None, **more):
    ends = {"from_ts": iso(from_ts), "to_ts": iso(to_ts)}
    return line(ts, "gap", channel=channel, first=first, last=first, **ends, **more)


def read(*lines):
    coverage = PriorRuns()
    for ts, text in lines:
        coverage.take(ts, text)
    return coverage


def until(coverage, last_ts=T + 100, conns=(0, 1)):
    return coverage.covered_until(last_ts, conns)


def open_ids(coverage):
    return [ending["session"] for ending in coverage.endings(T)]


def test_a_session_that_nobody_closed_was_open_when_the_run_ended():
    coverage = read(
        opened(T), subscribed(T + 1), closed(T + 5), opened(T + 6, "s2"), opened(T + 7, "s3", 1)
    )
    assert open_ids(coverage) == ["s2", "s3"]
    ending = next(iter(coverage.endings(T + 9)))
    assert (ending["cause"], ending["frames"], ending["last_ts"]) == ("crashed", None, iso(T + 9))
    assert (ending["conn"], ending["detail"]) == (0, "the connector ended without closing it")


def test_a_channel_of_an_open_session_was_covered_until_the_archives_end():
    assert until(read(opened(T), subscribed(T + 1))) == {"trade": T + 100}


def test_a_channel_was_covered_until_its_session_closed():
    assert until(read(opened(T), subscribed(T + 1), closed(T + 5))) == {"trade": T + 5}


def test_a_session_whose_frames_were_read_late_covered_until_where_the_venue_was():
    late = closed(T + 5, covered_until={"trade": iso(T + 2)})
    assert until(read(opened(T), subscribed(T + 1), late)) == {"trade": T + 2}
    # The end of the run cut the repair of that hole short.
    again = [opened(T + 6, "s2"), subscribed(T + 7, session="s2")]
    assert until(read(opened(T), subscribed(T + 1), late, *again)) == {"trade": T + 2}


def test_a_channel_that_a_closing_does_not_name_was_covered_until_then():
    named = closed(T + 5, covered_until={"ticker": iso(T + 2)})
    assert until(read(opened(T), subscribed(T + 1), named)) == {"trade": T + 5}


def test_a_session_that_crashed_covered_until_what_its_closing_says():
    lines = opened(T), subscribed(T + 1), closed(T + 9 * NS, last_ts=iso(T + 5))
    assert until(read(*lines)) == {"trade": T + 5}


def test_a_silent_session_covered_until_its_last_frame():
    stale = line(T + 40 * NS, "stale", cause="stale", detail="", last_ts=iso(T + 7))
    assert until(read(opened(T), subscribed(T + 1), stale)) == {"trade": T + 7}
    closing = closed(T + 41 * NS)
    assert until(read(opened(T), subscribed(T + 1), stale, closing)) == {"trade": T + 7}


def test_a_new_session_that_has_not_confirmed_a_channel_yet_covers_nothing():
    lines = opened(T), subscribed(T + 1), closed(T + 5), opened(T + 6, "s2")
    assert until(read(*lines)) == {"trade": T + 5}


AGAIN = (
    opened(T),
    subscribed(T + 1),
    closed(T + 5),
    opened(T + 6, "s2"),
    subscribed(T + 8, session="s2"),
)


def repair(event, channel="trade", from_ts=T + 4, to_ts=T + 8, **more):
    fields = {"channel": channel, "from_ts": iso(from_ts), "to_ts": iso(to_ts), **more}
    return line(T + 20, event, None, None, **fields)


def test_a_channel_confirmed_again_is_whole_again_once_the_hole_is_repaired():
    assert until(read(*AGAIN)) == {"trade": T + 5}
    assert until(read(*AGAIN, repair("repaired"))) == {"trade": T + 100}


def test_the_repair_of_one_hole_leaves_the_others_to_be_offered_again():
    holes = gap(T + 20, "trade", T + 10, T + 11, 5), gap(T + 40, "trade", T + 30, T + 31, 9)
    first = repair("repaired", from_ts=T + 10, to_ts=T + 11)
    assert until(read(opened(T), subscribed(T + 1), *holes, first)) == {"trade": T + 30}
    second = repair("repaired", from_ts=T + 30, to_ts=T + 31)
    assert until(read(opened(T), subscribed(T + 1), *holes, first, second)) == {"trade": T + 100}


def test_a_hole_whose_repair_was_given_up_stays_declared():
    given_up = repair("unrepaired", reason="HTTP 500")
    assert until(read(*AGAIN, given_up)) == {"trade": T + 100}


def test_a_hole_whose_repair_the_stop_cut_short_is_offered_again():
    assert until(read(*AGAIN, repair("unrepaired", reason="stopped"))) == {"trade": T + 4}


@pytest.mark.parametrize(
    "elsewhere", [repair("repaired", "ticker"), repair("repaired", from_ts=T + 7, to_ts=T + 9)]
)
def test_a_repair_of_something_else_ends_no_hole(elsewhere):
    assert until(read(*AGAIN, elsewhere)) == {"trade": T + 5}


def dropped(ts, from_ts, to_ts, sink="storage"):
    told = {"sink": sink, "reason": "full", "from_ts": iso(from_ts), "to_ts": iso(to_ts)}
    return line(ts, "dropped", None, None, **told)


def test_frames_that_no_disk_took_are_a_hole_of_every_channel_until_it_is_repaired():
    run = [opened(T), subscribed(T + 1), subscribed(T + 2, "book", 2), dropped(T + 9, T + 3, T + 5)]
    assert until(read(*run)) == {"trade": T + 3, "book": T + 3}
    run += [repair("repaired", from_ts=T + 2, to_ts=T + 6)]
    assert until(read(*run)) == {"trade": T + 100, "book": T + 3}


def test_frames_that_were_given_up_at_the_stop_are_a_hole_too():
    run = [opened(T), subscribed(T + 1), closed(T + 8), dropped(T + 9, T + 3, T + 7)]
    assert until(read(*run)) == {"trade": T + 3}


@pytest.mark.parametrize("sink", ["transport", "ledger"])
def test_what_another_sink_dropped_is_no_hole(sink):
    run = [opened(T), subscribed(T + 1), dropped(T + 9, T + 3, T + 7, sink)]
    assert until(read(*run)) == {"trade": T + 100}


def test_missing_numbers_are_a_hole_until_they_are_repaired():
    lines = opened(T), subscribed(T + 1), gap(T + 9, "trade", T + 5, T + 8, first=3)
    assert until(read(*lines)) == {"trade": T + 5}
    assert until(read(*lines, repair("repaired"))) == {"trade": T + 100}


def test_a_channel_that_the_venue_took_away_was_covered_until_then():
    refused = line(T + 4, "refused", channel="trade", sid=1, code=25, reason="overflow")
    lines = opened(T), subscribed(T + 1), subscribed(T + 2, "ticker", 2), refused
    assert until(read(*lines)) == {"trade": T + 4, "ticker": T + 100}


def test_a_gap_among_frames_that_were_read_late_begins_where_the_venue_was():
    late = gap(T + 9, "trade", T + 7, T + 8, first=3, covered_until=iso(T + 2))
    lines = opened(T), subscribed(T + 1), late
    cut_short = repair("unrepaired", from_ts=T + 2, reason="stopped")
    assert until(read(*lines)) == {"trade": T + 2}
    assert until(read(*lines, cut_short)) == {"trade": T + 2}
    assert until(read(*lines, repair("repaired", from_ts=T + 2))) == {"trade": T + 100}


def test_a_channel_that_was_dead_at_the_end_was_covered_until_its_gap():
    lines = opened(T), subscribed(T + 1), gap(T + 9, "trade", T + 5, T + 8), closed(T + 10)
    assert until(read(*lines)) == {"trade": T + 5}


def test_a_gap_that_a_new_confirmation_ended_is_over():
    lines = (
        opened(T),
        subscribed(T + 1),
        subscribed(T + 8, sid=3),
        gap(T + 9, "trade", T + 5, T + 7),
    )
    healed = repair("repaired", from_ts=T + 5, to_ts=T + 7)
    assert until(read(*lines, healed)) == {"trade": T + 100}


def test_of_several_connections_the_one_that_ended_first_counts():
    lines = (
        opened(T),
        subscribed(T + 1),
        opened(T + 2, "s2", 1),
        subscribed(T + 3, "trade", 1, "s2", 1),
    )
    assert until(read(*lines, closed(T + 7, "s2", 1))) == {"trade": T + 7}


def test_a_connection_that_the_feed_no_longer_has_does_not_count():
    lines = (
        opened(T),
        subscribed(T + 1),
        opened(T + 2, "s2", 1),
        subscribed(T + 3, "trade", 1, "s2", 1),
    )
    coverage = read(*lines, closed(T + 7, "s2", 1))
    assert until(coverage, conns=(0,)) == {"trade": T + 100}


def test_a_repair_told_of_a_session_that_is_over_opens_nothing():
    repaired = line(T + 9, "repaired", channel="trade", from_ts=iso(T), to_ts=iso(T + 1))
    assert open_ids(read(opened(T), closed(T + 5), repaired)) == []


@pytest.mark.parametrize(
    "damaged",
    [
        b"",
        b"{",
        b"\xff\xfe",
        b"[]",
        b'"text"',
        b"{}",
        b'{"event":"session_opened","session":"s9"}',
        b'{"event":"session_carried","session":"s1","conn":0,"channels":7}',
        b'{"event":"stale","session":"s1","conn":0,"last_ts":"soon"}',
        b'{"event":["gap"],"session":"s1","conn":0}',
        b'{"event":"session_opened","session":"s9","conn":[]}',
        b'{"event":"session_opened","session":{"id":1},"conn":0}',
    ],
)
def test_damaged_lines_are_passed_over(damaged):
    coverage = read(opened(T), subscribed(T + 1), (T + 2, damaged), closed(T + 5))
    assert open_ids(coverage) == []
    assert until(coverage) == {"trade": T + 5}


_words = st.sampled_from(
    ["session_opened", "session_carried", "subscribed", "refused", "gap", "stale", "session_closed"]
)
_values = st.none() | st.text(max_size=30) | st.integers() | st.just(iso(T))


@given(st.lists(st.tuples(_words, st.sampled_from(["s1", "s2"]), _values, _values), max_size=30))
def test_whatever_stands_in_a_ledger_has_an_answer(script):
    lines = [
        line(
            T + n,
            word,
            session,
            0,
            channel=one,
            sid=two,
            first=None,
            from_ts=one,
            to_ts=two,
            last_ts=one,
            channels={"1": "trade"},
        )
        for n, (word, session, one, two) in enumerate(script)
    ]
    coverage = read(*lines)
    assert set(open_ids(coverage)) <= {"s1", "s2"}
    assert all(isinstance(ts, int) for ts in until(coverage).values())


async def test_a_day_whose_sessions_are_carried_is_enough():
    storage = MemoryStorage()
    storage.notes_kept = [
        opened(MIDNIGHT - 9, "gone"),
        line(MIDNIGHT + 1, "session_carried", "s1", 0, channels={"1": "trade"}, subscriptions=[]),
    ]
    coverage = await read_prior_runs(storage.notes, T)
    assert open_ids(coverage) == ["s1"]
    assert until(coverage) == {"trade": T + 100}


@pytest.mark.parametrize("later", [[], [subscribed(MIDNIGHT + 5)], [closed(MIDNIGHT + 5)]])
async def test_a_day_that_does_not_say_how_a_session_began_is_read_with_the_day_before(later):
    storage = MemoryStorage()
    storage.notes_kept = [opened(MIDNIGHT - 9), subscribed(MIDNIGHT - 8, "ticker", 2), *later]
    coverage = await read_prior_runs(storage.notes, T)
    assert "ticker" in until(coverage)


async def test_a_ledger_that_cannot_be_read_tells_nothing():
    def notes(after, upto):
        raise OSError("EIO")

    coverage = await read_prior_runs(notes, T)
    assert (open_ids(coverage), until(coverage)) == ([], {})


async def test_a_start_closes_what_the_last_run_left_open_and_offers_what_was_covered(rig, storage):
    before = rig(storage)
    before.pipeline.report("session_opened", session="dead", conn=0, endpoint="ws://x/")
    before.pipeline.report("subscribed", session="dead", conn=0, channel="trade", sid=1)
    last_ts = before.deliver(b"1", b"2").last_ts

    after = rig(storage)
    after.clock.advance(60)
    assert await after.pipeline.recover(await storage.open()) == {"trade": last_ts}
    closing = after.events()[-1]
    assert (closing["event"], closing["session"], closing["conn"]) == ("session_closed", "dead", 0)
    assert (closing["cause"], closing["frames"]) == ("crashed", None)
    assert (closing["last_ts"], closing["offset"]) == (iso(last_ts), 2)

    again = rig(storage)
    again.clock.advance(120)
    await again.pipeline.recover(await storage.open())
    assert [e["event"] for e in again.events()].count("session_closed") == 1


async def test_a_first_start_has_nothing_to_recover(rig, storage):
    assert await rig(storage).pipeline.recover(await storage.open()) == {}
    assert await rig(None, WindowTransport()).pipeline.recover(0) == {}
    assert storage.notes_kept == []


async def test_only_connections_that_the_feed_has_count(rig, storage, monkeypatch):
    before = rig(storage)
    for conn in (0, 1):
        before.pipeline.report("session_opened", session=f"s{conn}", conn=conn)
        before.pipeline.report("subscribed", session=f"s{conn}", conn=conn, channel="trade", sid=1)
    before.pipeline.report("session_closed", session="s1", conn=1, cause="cut")
    last_ts = before.deliver(b"1").last_ts
    after = rig(storage)
    after.clock.advance(60)
    monkeypatch.setattr(after.feed, "connections", lambda: (ConnectionPlan(conn=0),))
    assert await after.pipeline.recover(await storage.open()) == {"trade": last_ts}


@pytest.mark.parametrize("event", ["session_opened", "session_carried"])
async def test_a_session_that_opens_or_enters_a_day_says_who_captures(event, rig, storage):
    rig = rig(storage, about={"environment": "prod", "connector": "c0ffee", "plugin": "acme:toy"})
    rig.pipeline.report(event, session="s", conn=0, endpoint="ws://x/")
    rig.pipeline.report("subscribed", session="s", conn=0, channel="trade", sid=1)
    first, second = rig.events()
    assert (first["environment"], first["connector"]) == ("prod", "c0ffee")
    assert (first["plugin"], first["endpoint"]) == ("acme:toy", "ws://x/")
    assert "environment" not in second
