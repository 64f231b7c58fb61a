import pytest
from hypothesis import given
from hypothesis import strategies as st

from rig.reading import ListArchive, a_trade
from ssmd_core.clock import NS
from ssmd_core.errors import UsageError
from ssmd_core.records import Batch, Stream
from ssmd_core.service.interval import Interval
from ssmd_core.service.playback import Playback
from ssmd_core.sink.archive import Damaged

NOON = 1_795_348_800 * NS
DAY = 86_400 * NS
OPENED = (NOON - 1, {"event": "session_opened", "connector": "c1"})


def live(ts, count=1):
    return Batch(ts, [a_trade(ts + i) for i in range(count)])


def fetched(ts):
    return Batch(ts, [b"[]"], stream=Stream.REST)


def played(archive, interval=None):
    playback = Playback(archive, "tiny", interval) if interval else Playback(archive, "tiny")
    return list(playback.passages())


def test_live_and_fetched_frames_come_in_order_of_receipt():
    live_ones = [live(NOON), live(NOON + 10, 3), live(NOON + DAY)]
    rest = [fetched(NOON + 5), fetched(NOON + 20), fetched(NOON + DAY + 1)]
    archive = ListArchive([*live_ones, *rest], [OPENED])
    batches = [passage.batch for passage in played(archive)]
    assert batches == sorted([*live_ones, *rest], key=lambda batch: batch.first_ts)


@given(
    begin=st.integers(-2, 12),
    length=st.integers(1, 14),
    raw=st.frozensets(st.integers(0, 4)),
)
def test_of_a_batch_on_the_border_only_what_lies_within_is_played(begin, length, raw):
    whole = Batch(NOON, [b"%d" % i for i in range(10)], 3, raw)
    interval = Interval(NOON + begin, NOON + begin + length)
    got = [passage.batch for passage in played(ListArchive([whole], [OPENED]), interval)]
    frames = {
        batch.first_ts + i: (data, i in batch.raw)
        for batch in got
        for i, data in enumerate(batch.frames)
    }
    assert frames == {NOON + i: (b"%d" % i, i in raw) for i in range(10) if NOON + i in interval}
    assert all(batch.conn == 3 for batch in got)


def test_days_that_lie_outside_are_not_read():
    archive = ListArchive([live(NOON + day * DAY) for day in range(4)], [OPENED])
    interval = Interval(NOON + DAY, NOON + 2 * DAY + 1)
    assert [p.batch.first_ts for p in played(archive, interval)] == [NOON + DAY, NOON + 2 * DAY]
    assert {name[:10] for name in archive.read} == {"2026-11-23", "2026-11-24"}


def test_damaged_lines_are_passed_over_and_counted():
    damage = Damaged("2026-11-22", 2, 3, "not ours")
    playback = Playback(ListArchive([live(NOON), damage, live(NOON + 1)], [OPENED]), "tiny")
    assert [p.batch.first_ts for p in playback.passages()] == [NOON, NOON + 1]
    assert playback.damaged_lines == 3


# ── whose they were ──────────────────────────────────────────────────────────────


def test_each_frame_has_the_connector_that_the_ledger_names_at_its_time():
    notes = [
        (NOON - 1, {"event": "session_opened", "connector": "c1"}),
        (NOON + 50, {"event": "gap"}),
        (NOON + 100, {"event": "session_opened", "connector": "c2"}),
        (NOON + DAY + 100, {"event": "session_opened", "connector": "c3"}),
    ]
    times = [NOON, NOON + 99, NOON + 101, NOON + DAY, NOON + DAY + 101]
    archive = ListArchive(map(live, times), notes, connector=b"later\n")
    assert [p.connector for p in played(archive)] == ["c1", "c1", "c2", "c2", "c3"]


def test_a_day_without_a_session_of_its_own_has_the_connector_of_the_days_before():
    archive = ListArchive([live(NOON), live(NOON + 3 * DAY)], [OPENED], connector=b"later\n")
    (passage,) = played(archive, Interval(NOON + 3 * DAY, NOON + 4 * DAY))
    assert passage.connector == "c1"


def test_where_the_ledger_names_none_the_one_kept_beside_the_archive_holds():
    archive = ListArchive([live(NOON)], [(NOON - 1, {"event": "x"})], connector=b"kept\n")
    assert [p.connector for p in played(archive)] == ["kept"]


def test_where_nobody_names_one_the_replay_is_refused():
    archive = ListArchive([live(NOON)], [(NOON - 1, {"event": "x", "connector": None})])
    with pytest.raises(UsageError, match="message ids would differ from those of the live run"):
        played(archive)


# ── nothing to play ──────────────────────────────────────────────────────────────


def test_an_archive_of_another_feed_is_refused_and_says_what_it_has():
    with pytest.raises(UsageError, match="list holds no frames of acme; feeds that it has: tiny"):
        Playback(ListArchive([live(NOON)]), "acme")


def test_an_interval_that_no_day_meets_is_refused_and_says_which_days_there_are():
    with pytest.raises(UsageError, match="has tiny from 2026-11-22 to 2026-11-23, nothing between"):
        Playback(ListArchive([live(NOON), live(NOON + DAY)]), "tiny", Interval(1, 2))
