"""How far behind the venue the frames that are read stand."""

from ssmd_core.clock import NS
from ssmd_core.feed import Parsed
from ssmd_core.feed.lag import Lag
from ssmd_core.records import Side, Trade

NOW = 1_795_327_200 * NS


def said(*times):
    return [Parsed("trade", (Trade("KX", ns, 1, 1, Side.BUY),)) for ns in times]


def test_frames_read_at_once_are_not_late():
    lag = Lag()
    lag.note(NOW, said(NOW))
    assert lag.ns == 0


def test_the_last_record_of_a_wake_up_says_how_late_it_was_read():
    lag = Lag()
    lag.note(NOW, [*said(NOW - 9 * NS, NOW - 5 * NS), Parsed("ok")])
    assert lag.ns == 5 * NS + 1


def test_of_two_wake_ups_the_later_read_one_counts():
    lag = Lag()
    lag.note(NOW, said(NOW - 5 * NS))
    lag.note(NOW + NS, said(NOW + NS))
    assert lag.ns == 5 * NS
    lag.note(NOW + 2 * NS, said(NOW + 2 * NS))
    assert lag.ns == 0


def test_an_old_quote_after_new_ones_is_no_sign_of_being_late():
    lag = Lag()
    lag.note(NOW, said(NOW))
    lag.note(NOW + 10, said(NOW - 3_600 * NS))
    assert lag.ns == 10


def test_a_time_from_the_future_hides_no_later_lag():
    lag = Lag()
    lag.note(NOW, said(NOW + 3_600 * NS))
    lag.note(NOW + 20 * NS, said(NOW + 13 * NS))
    assert lag.ns == 7 * NS


def test_what_says_no_time_or_one_of_long_ago_says_nothing():
    lag = Lag()
    lag.note(NOW, said(0))
    lag.note(NOW, [Parsed("ok")])
    lag.note(NOW, said(7))
    assert lag.ns == 0
