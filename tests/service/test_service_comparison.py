from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rig.reading import ListBus
from ssmd_core.service.comparison import Difference, Matcher, What
from ssmd_core.sink import Message


def a_message(ts, *, identity="", kind="trade", ticker="KX", payload=b"12345678"):
    return Message(kind, ticker, payload, identity or f"tiny:c1:{ts}", ts, "trade:v1")


def stored(messages):
    return ListBus.holding(messages).stored


def compared(archived, on_bus, **more):
    """Feed both sides as they are read: archived ones up to each stored one first."""
    comparison = Matcher(**more)
    waiting = list(archived)
    for message in on_bus:
        while waiting and waiting[0].ts <= message.ts:
            ahead = waiting.pop(0)
            comparison.take_archived(ahead, f"lab.tiny.{ahead.kind}.{ahead.ticker}")
        comparison.take_stored(message)
    for ahead in waiting:
        comparison.take_archived(ahead, f"lab.tiny.{ahead.kind}.{ahead.ticker}")
    comparison.close()
    return comparison


def test_equal_sides_have_no_difference():
    messages = [a_message(ts) for ts in range(1, 50)]
    comparison = compared(messages, stored(messages))
    assert (comparison.differences, comparison.shown) == (0, [])
    assert comparison.counts == {"trade": Counter(archived=49, stored=49, same=49)}


@given(
    lost=st.frozensets(st.integers(1, 40)),
    added=st.frozensets(st.integers(1, 40)),
)
def test_what_is_missing_and_what_is_too_much_is_found_wherever_it_is(lost, added):
    messages = [a_message(ts) for ts in range(1, 41)]
    foreign = [a_message(ts, identity=f"tiny:c2:{ts}") for ts in sorted(added)]
    kept = [message for message in messages if message.ts not in lost]
    on_bus = sorted([*kept, *foreign], key=lambda message: message.ts)
    comparison = compared(messages, stored(on_bus))
    found = {(d.what, d.ts) for d in comparison.shown}
    wanted = {(What.MISSING, ts) for ts in lost} | {(What.EXTRA, ts) for ts in added}
    assert comparison.differences == len(wanted)
    assert found <= wanted
    assert len(found) == min(20, len(wanted))


@pytest.mark.parametrize(
    ("change", "what", "detail"),
    [
        ({"payload": b"12345679"}, What.PAYLOAD, "differs from byte 7 on"),
        ({"payload": b"1234"}, What.PAYLOAD, "4 bytes stored, 8 archived"),
        ({"schema": "trade:v2"}, What.SCHEMA, "trade:v2 stored, trade:v1 asked for"),
        ({"subject": "lab.tiny.trade.KY"}, What.SUBJECT, "archived for lab.tiny.trade.KX"),
    ],
)
def test_what_was_stored_differently_is_told_with_how(change, what, detail):
    (on_bus,) = stored([a_message(5)])
    comparison = compared([a_message(5)], [on_bus._replace(**change)])
    subject = change.get("subject", "lab.tiny.trade.KX")
    assert comparison.shown == [Difference(what, "tiny:c1:5", 5, subject, detail)]
    assert comparison.counts["trade"]["same"] == 0


def test_what_was_stored_twice_is_told():
    messages = [a_message(ts) for ts in range(1, 6)]
    comparison = compared(messages, stored([*messages, messages[2]]))
    assert [(d.what, d.ts) for d in comparison.shown] == [(What.TWICE, 3)]


def test_what_stands_after_a_younger_one_of_its_subject_is_told():
    one, two, three = (a_message(ts) for ts in range(1, 4))
    comparison = compared([one, two, three], stored([two, one, three]))
    assert [(d.what, d.ts) for d in comparison.shown] == [(What.ORDER, 1)]


def test_the_order_of_different_subjects_is_free():
    one, two = a_message(1), a_message(2, ticker="KY")
    assert compared([one, two], stored([two, one])).differences == 0


def test_a_record_that_the_archive_has_twice_is_wanted_once():
    first, again = a_message(1, identity="tiny:trade:7"), a_message(9, identity="tiny:trade:7")
    comparison = compared([first, a_message(5), again], stored([first, a_message(5)]))
    assert comparison.differences == 0
    assert comparison.counts["trade"]["archived"] == 2


def test_a_record_stored_by_a_connector_that_was_earlier_is_found():
    ours = [a_message(ts, identity=f"tiny:trade:{ts}") for ts in (10, 20, 30)]
    (theirs,) = stored([ours[1]])
    on_bus = [*stored([ours[0]]), theirs._replace(ts=15), *stored([ours[2]])]
    assert compared(ours, on_bus).differences == 0


def test_memory_stays_within_the_window_however_much_differs():
    comparison = Matcher(window=10)
    for ts in range(1, 1_001):
        comparison.take_archived(a_message(ts), "lab.tiny.trade.KX")
        comparison.take_stored(stored([a_message(ts, identity=f"other:{ts}")])[0])
        held = len(comparison._archived) + len(comparison._stored) + len(comparison._matched)
        assert held <= 30
    comparison.close()
    assert comparison.counts["trade"] == Counter(
        archived=1_000, stored=1_000, missing=1_000, extra=1_000
    )
    assert len(comparison.shown) == 20


def test_kinds_are_counted_apart():
    messages = [a_message(1), a_message(2, kind="ticker"), a_message(3, kind="ticker")]
    comparison = compared(messages, stored(messages[:2]))
    assert comparison.counts == {
        "trade": Counter(archived=1, stored=1, same=1),
        "ticker": Counter(archived=2, stored=1, same=1, missing=1),
    }


def test_what_is_stored_further_behind_than_a_window_is_out_of_order_and_not_extra():
    messages = [a_message(ts) for ts in range(1, 51)]
    comparison = compared(messages, stored(messages[40:] + messages[:40]), window=10)
    assert {found.what for found in comparison.shown} == {What.ORDER}
    assert comparison.differences == 40
    counts = comparison.counts["trade"]
    assert (counts["missing"], counts["extra"], counts["order"]) == (0, 0, 40)
