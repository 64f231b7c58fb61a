from ssmd_core.audit.channel_day import ChannelDay, Hole, Key, Repair
from ssmd_core.audit.events import DAY_NS, day_start
from ssmd_core.audit.intervals import Interval, subtract
from ssmd_core.cli.coverage_view import CELLS, bar, hole_rows
from ssmd_core.clock import NS

DAY = "2026-01-05"
START = day_start(DAY)
HOUR = 3600 * NS


def between(first, last):
    return Interval(START + round(first * HOUR), START + round(last * HOUR))


def channel(*holes, span=(0, 24)):
    span = between(*span)
    found = [Hole(between(first, last), why, repair) for first, last, why, repair in holes]
    missing = [hole.interval for hole in found]
    return ChannelDay(
        key=Key(0, "trade"),
        span=span,
        covered=subtract([span], missing),
        repaired=[hole.interval for hole in found if hole.repair is Repair.WHOLE],
        holes=found,
    )


def test_a_covered_day_is_one_bar():
    assert bar(channel(), DAY) == "█" * CELLS


def test_each_mark_is_half_an_hour_and_shows_the_worst_of_it():
    drawn = bar(
        channel(
            (1.1, 1.1001, "cut", Repair.NONE),
            (2, 3, "cut", Repair.WHOLE),
            (4.2, 4.3, "cut", Repair.WHOLE),
            (4.4, 4.45, "cut", Repair.PART),
        ),
        DAY,
    )
    assert drawn[:10] == "██░█▓▓██░█"
    assert set(drawn[10:]) == {"█"}


def test_what_was_not_asked_for_is_no_hole():
    drawn = bar(channel(span=(6, 12)), DAY)
    assert drawn == "·" * 12 + "█" * 12 + "·" * 24


def test_holes_are_told_in_their_order_with_length_and_repair():
    holes = channel((1, 2, "cut", Repair.WHOLE), (3, 3.5, "stale", Repair.PART))
    assert list(hole_rows(holes, can_repair=True)) == [
        ("01:00:00.000", "02:00:00.000", "3,600.000", "cut", "yes"),
        ("03:00:00.000", "03:30:00.000", "1,800.000", "stale", "in part"),
    ]


def test_a_channel_that_cannot_be_repaired_says_so_at_each_hole():
    holes = channel((1, 2, "cut", Repair.NONE))
    (row,) = hole_rows(holes, can_repair=False)
    assert row[-1] == "cannot be"
    (row,) = hole_rows(holes, can_repair=None)
    assert row[-1] == "no"


def test_of_very_many_holes_the_longest_are_told():
    holes = [(n / 10, n / 10 + 0.01 + n / 10_000, "cut", Repair.NONE) for n in range(100)]
    rows = list(hole_rows(channel(*holes), can_repair=None))
    assert len(rows) == 40
    assert rows == sorted(rows)
    assert rows[-1][0] == "09:54:00.000"


def test_the_last_mark_ends_at_midnight():
    assert between(23.5, 24).to_ts == START + DAY_NS
    assert bar(channel((23.5, 24, "cut", Repair.NONE)), DAY)[-2:] == "█░"
