import pytest

from rig.reading import ListArchive, ListBus, TinyFeed, a_ticker, a_trade
from ssmd_core.clock import NS
from ssmd_core.metrics import Metrics
from ssmd_core.records import Batch, Stream
from ssmd_core.schema import open_trade_v1
from ssmd_core.service.comparison import What
from ssmd_core.service.diff import Diff
from ssmd_core.service.interval import EVER, Interval
from ssmd_core.service.playback import Playback
from ssmd_core.service.rereading import Rereading
from ssmd_core.sink.bus import StoredMessage

pytestmark = pytest.mark.anyio

NOON = 1_795_348_800 * NS
OPENED = (NOON - 1, {"event": "session_opened", "connector": "c1"})
BATCHES = [
    *(Batch(NOON + 10 * n, [a_trade(n), a_ticker(n), a_ticker(n, "KY")]) for n in range(20)),
    Batch(NOON + 105, [b"[%s,%s]" % (a_ticker(1), a_trade("fetched"))], stream=Stream.REST),
]


@pytest.fixture
def anyio_backend():
    return "asyncio"


def rereading():
    metrics = Metrics()
    return Rereading(TinyFeed(), "tiny", open_trade_v1(metrics), metrics)


def published():
    """What the bus has after a live run."""
    passages = Playback(ListArchive(BATCHES, [OPENED]), "tiny").passages()
    again = rereading()
    return [message for passage in passages for message in again.messages(passage)]


async def diff(bus, interval=EVER):
    return await Diff(
        Playback(ListArchive(BATCHES, [OPENED]), "tiny", interval),
        rereading(),
        bus,
        environment="lab",
        feed="tiny",
        interval=interval,
    ).run()


async def test_a_stream_that_holds_what_was_archived_is_equal():
    findings = await diff(ListBus.holding(published(), origin=""))
    assert findings.equal
    assert (findings.first_ts, findings.last_ts, findings.later) == (NOON, NOON + 192, 0)
    assert {kind: counts["same"] for kind, counts in findings.comparison.counts.items()} == {
        "trade": 21,
        "ticker": 41,
    }


async def test_ledger_lines_on_the_stream_are_nothing_to_it():
    bus = ListBus.holding(published())
    line = StoredMessage(0, "lab.tiny.status", "tiny:c1:1", NOON - 1, "", "", b"{}")
    bus.stored.insert(0, line)
    findings = await diff(bus)
    assert (findings.equal, findings.first_ts) == (True, NOON)


@pytest.mark.parametrize("gone", range(7))
async def test_what_a_stream_has_let_go_of_is_no_difference(gone):
    findings = await diff(ListBus.holding(published()[gone:]))
    assert findings.equal


async def test_a_frame_of_which_it_has_let_go_of_the_first_record_is_no_difference():
    messages = published()
    (fetched,) = [i for i, message in enumerate(messages) if message.msg_id.endswith("fetched")]
    assert messages[fetched - 1].ts == messages[fetched].ts
    findings = await diff(ListBus.holding(messages[fetched:]))
    assert findings.equal


async def test_what_was_archived_after_the_last_one_stored_is_counted_and_no_difference():
    findings = await diff(ListBus.holding(published()[:-5]))
    assert (findings.equal, findings.later) == (True, 5)


async def test_a_hole_in_the_middle_is_found():
    messages = published()
    del messages[30:33]
    findings = await diff(ListBus.holding(messages))
    assert not findings.equal
    assert [found.what for found in findings.comparison.shown] == [What.MISSING] * 3


async def test_only_what_lies_in_the_interval_is_compared():
    messages = published()
    del messages[30:33]
    interval = Interval(NOON, messages[29].ts + 1)
    findings = await diff(ListBus.holding(messages), interval)
    assert findings.equal
    assert findings.last_ts == messages[29].ts


async def test_a_stream_that_holds_nothing_is_not_equal():
    findings = await diff(ListBus())
    assert (findings.equal, findings.first_ts, findings.later) == (False, 0, 62)
    assert findings.earlier == 0


async def test_what_is_older_than_all_that_is_stored_is_counted():
    findings = await diff(ListBus.holding(published()[7:]))
    assert (findings.equal, findings.earlier) == (True, 7)


async def test_what_is_stored_behind_younger_ones_is_out_of_order_and_not_extra():
    messages = published()
    findings = await diff(ListBus.holding(messages[30:] + messages[:30]))
    assert (findings.first_ts, findings.earlier) == (NOON, 0)
    assert {found.what for found in findings.comparison.shown} == {What.ORDER}
    counts = findings.comparison.counts.values()
    assert sum(each["stored"] for each in counts) == len(messages)


async def test_a_stream_that_forgets_while_it_is_read_begins_where_it_is_found():
    bus = ListBus.holding(published())
    read = bus.messages

    def forgetting(*arguments, payloads, **more):
        if payloads:
            del bus.stored[:9]
        return read(*arguments, payloads=payloads, **more)

    bus.messages = forgetting
    findings = await diff(bus)
    assert (findings.equal, findings.earlier) == (True, 9)


async def test_a_message_without_a_time_does_not_begin_the_stream():
    bus = ListBus.holding(published())
    bus.stored.insert(0, StoredMessage(1, "lab.tiny.trade.KX", "", 0, "", "", b""))
    findings = await diff(bus)
    assert findings.first_ts == NOON
    assert [found.what for found in findings.comparison.shown] == [What.EXTRA]
