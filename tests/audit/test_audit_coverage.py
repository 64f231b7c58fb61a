"""A channel is covered from its confirmation to its session's end, less what was lost."""

from ssmd_core.audit.channel_day import Key, Repair
from ssmd_core.clock import NS, iso

NEXT, LATER = "2026-11-23", "2026-11-24"


def seconds(intervals):
    return [each.length_ns / NS for each in intervals]


def holes(channel):
    return [(hole.interval.length_ns / NS, hole.why, hole.repair) for hole in channel.holes]


def test_a_channel_is_covered_from_its_confirmation_to_the_end_of_the_session(capture, covered):
    capture.open()
    capture.subscribed()
    capture.wait(100)
    capture.close()
    channel = covered(capture)
    assert channel.key == Key(0, "trade")
    assert seconds(channel.covered) == [101]
    assert holes(channel) == []


def test_a_channel_that_is_still_captured_is_covered_up_to_now(capture, covered):
    capture.open()
    capture.subscribed()
    capture.wait(100)
    assert seconds(covered(capture, upto=capture.now).covered) == [100]


def test_between_two_sessions_there_is_a_hole_with_the_cause_of_the_end(capture, covered):
    for session, cause in (("a", "cut"), ("b", "stopped")):
        capture.open(session)
        capture.subscribed(session=session)
        capture.wait(9)
        capture.close(session, cause=cause)
        capture.wait(4)
    assert holes(covered(capture)) == [(7, "cut", Repair.NONE)]


def test_a_hole_that_was_brought_back_is_repaired_but_not_covered(capture, covered):
    capture.open("a")
    capture.subscribed(session="a")
    gone = capture.close("a", cause="cut")
    capture.open("b")
    capture.subscribed(session="b")
    back = capture.now
    capture.note("repaired", channel="trade", from_ts=iso(gone), to_ts=iso(back), records=3)
    capture.close("b")
    channel = covered(capture)
    assert holes(channel) == [(3, "cut", Repair.WHOLE)]
    assert (channel.covered_seconds, channel.repaired_seconds) == (3, 3)


def test_a_repair_up_to_the_confirmation_is_whole_though_the_line_comes_later(capture, covered):
    capture.open("a")
    capture.subscribed(session="a")
    gone = capture.close("a", cause="cut")
    capture.open("b")
    confirmed = capture.subscribed(session="b")
    capture.note("repaired", channel="trade", from_ts=iso(gone), to_ts=iso(confirmed), records=3)
    channel = covered(capture)
    assert holes(channel) == [(3, "cut", Repair.WHOLE)]
    assert channel.repaired_seconds == 3


def test_a_hole_that_was_brought_back_in_part_says_so(capture, covered):
    capture.open("a")
    capture.subscribed(session="a")
    gone = capture.close("a", cause="cut")
    capture.wait(10)
    capture.open("b")
    capture.subscribed(session="b")
    fields = {"channel": "trade", "records": 0, "pages": 0}
    middle = iso(gone + 5 * NS)
    capture.note("unrepaired", from_ts=iso(gone), to_ts=middle, reason="too far back", **fields)
    capture.note("repaired", from_ts=middle, to_ts=iso(capture.now), **fields)
    assert holes(covered(capture)) == [(13, "cut, not repaired: too far back", Repair.PART)]


def test_a_repair_of_one_channel_repairs_no_other(capture, covered):
    capture.open("a")
    for sid, channel in enumerate(("trade", "ticker")):
        capture.subscribed(channel, sid, session="a")
    gone = capture.close("a", cause="cut")
    capture.open("b")
    for sid, channel in enumerate(("trade", "ticker")):
        capture.subscribed(channel, sid, session="b")
    capture.note("repaired", channel="trade", from_ts=iso(gone), to_ts=iso(capture.now))
    channels = covered(capture)
    assert [hole.repair for hole in channels["trade"].holes] == [Repair.WHOLE]
    assert [hole.repair for hole in channels["ticker"].holes] == [Repair.NONE]


def test_a_gap_is_a_hole_between_the_frames_around_it(capture, covered):
    capture.open()
    capture.subscribed()
    ts = capture.numbered(1, 5)
    capture.gap(2, 4, ts[1], ts[5])
    capture.close()
    assert holes(covered(capture)) == [(1, "gap 2..4", Repair.NONE)]


def test_a_subscription_that_was_lost_and_came_back_is_a_hole(capture, covered):
    capture.open()
    capture.subscribed()
    lost = capture.wait(5)
    capture.wait(20)
    capture.gap(None, None, lost, capture.now)
    capture.close()
    assert holes(covered(capture)) == [(20, "subscription lost", Repair.NONE)]


def test_the_silence_that_ended_a_connection_is_a_hole(capture, covered):
    capture.open("a")
    capture.subscribed(session="a")
    last = capture.wait(10)
    capture.wait(30)
    capture.note("stale", session="a", cause="stale", last_ts=iso(last))
    capture.close("a", cause="stale")
    capture.open("b")
    capture.subscribed(session="b")
    ((length, why, _),) = [
        (each.interval.length_ns / NS, each.why, each.repair) for each in covered(capture).holes
    ][:1]
    assert (length, why) == (31, "stale")


def test_frames_that_no_disk_took_are_a_hole_of_every_channel(capture, covered):
    capture.open()
    capture.subscribed("trade", 1)
    capture.subscribed("ticker", 2)
    capture.wait(5)
    from_ts, to_ts = capture.wait(), capture.wait(10)
    capture.note("dropped", sink="storage", frames=4, from_ts=iso(from_ts), to_ts=iso(to_ts))
    capture.close()
    for channel in covered(capture).values():
        assert [hole.why for hole in channel.holes] == ["not archived"]


def test_what_the_bus_did_not_take_is_no_hole_of_the_archive(capture, covered):
    capture.open()
    capture.subscribed()
    ts = capture.wait()
    capture.note("dropped", sink="transport", messages=4, from_ts=iso(ts), to_ts=iso(ts + 5))
    capture.close()
    assert holes(covered(capture)) == []


def test_a_pause_delays_and_loses_nothing(capture, covered):
    capture.open()
    capture.subscribed()
    capture.note("paused", reason="slow bus")
    capture.wait(60)
    capture.note("resumed")
    capture.close()
    assert holes(covered(capture)) == []


def test_a_crashed_session_covers_up_to_its_last_frame(capture, covered):
    capture.open("a")
    capture.subscribed(session="a")
    last = capture.wait(50)
    capture.wait(1_000)
    capture.close("a", cause="crashed", last_ts=iso(last))
    capture.open("b")
    capture.subscribed(session="b")
    channel = covered(capture)
    assert seconds(channel.covered)[0] == 50
    assert [hole.why for hole in channel.holes] == ["crashed"]


def test_a_session_that_nothing_closed_covers_up_to_its_last_word(capture, covered):
    capture.open("a")
    capture.subscribed(session="a")
    capture.wait(50)
    capture.open("b")
    capture.subscribed(session="b")
    assert [hole.why for hole in covered(capture).holes] == ["never closed"]


def test_what_the_venue_refuses_is_not_covered_and_says_why(capture, covered):
    capture.open()
    capture.subscribed("ticker", 1)
    capture.note("refused", session="s1", channel="trade", sid=None, code=8, reason="no")
    capture.wait(10)
    trade = covered(capture)["trade"]
    assert trade.covered_seconds == 0
    assert [hole.why for hole in trade.holes] == ["refused: 8 no"]


def test_a_channel_that_a_later_session_does_not_get_stays_a_hole(capture, covered):
    capture.open("a")
    capture.subscribed("trade", 1, session="a")
    capture.subscribed("ticker", 2, session="a")
    capture.close("a", cause="cut")
    capture.open("b")
    capture.subscribed("ticker", 2, session="b")
    capture.wait(50)
    channels = covered(capture)
    assert channels["trade"].holes[-1].interval.length_ns > 50 * NS
    assert [hole.why for hole in channels["trade"].holes] == ["cut"]


def test_a_connection_that_confirms_no_channel_is_covered_as_one(capture, covered):
    capture.open()
    capture.wait(20)
    capture.close()
    channel = covered(capture)
    assert channel.key == Key(0, "*")
    assert seconds(channel.covered) == [21]


def test_connections_are_told_apart(capture, covered):
    capture.open("a", conn=0)
    capture.subscribed("trade", session="a")
    capture.open("b", conn=1)
    capture.subscribed("book", session="b")
    capture.close("b", cause="cut")
    capture.wait(5)
    channels = covered(capture)
    assert holes(channels["trade"]) == []
    assert channels["book"].key.conn == 1
    assert [hole.why for hole in channels["book"].holes] == ["cut"]


def test_a_day_ends_at_midnight_and_the_next_goes_on(capture, covered):
    capture.open()
    capture.subscribed()
    capture.until(NEXT)
    capture.wait(100)
    capture.close()
    assert seconds(covered(capture).covered) == [18 * 3600 - 3]
    assert seconds(covered(capture, NEXT).covered) == [101]


def test_a_day_can_be_read_alone(capture, covered):
    capture.conns["s1"] = 0
    capture.until(NEXT)
    opened = iso(capture.now - 3600 * NS)
    capture.wait(10)
    capture.carry(opened=opened, channels={"1": "trade"}, last={"1": 7})
    capture.wait(10)
    capture.close()
    assert seconds(covered(capture, NEXT).covered) == [22]


def test_a_day_of_which_nothing_was_captured_is_one_hole(capture, covered):
    capture.open("a")
    capture.subscribed(session="a")
    capture.close("a")
    capture.until(LATER)
    capture.open("b")
    capture.subscribed(session="b")
    assert holes(covered(capture, NEXT)) == [(86_400, "stopped", Repair.NONE)]
