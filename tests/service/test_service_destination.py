import pytest

from rig.reading import ListBus
from ssmd_core.errors import UsageError
from ssmd_core.service.destination import Held, look_into
from ssmd_core.service.interval import EVER, Interval
from ssmd_core.sink import Message
from ssmd_core.sink.bus import StoredMessage

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend():
    return "asyncio"


def stored(number, *, origin="replay", subject="lab.tiny.trade.KX"):
    return StoredMessage(number, subject, f"tiny:trade:{number}", number, origin, "trade:v1", b"")


def a_message(number):
    return Message("trade", "KX", b"", f"tiny:trade:{number}", number)


async def test_a_stream_of_replayed_messages_takes_a_replay_and_says_which_it_has():
    bus = ListBus(stored(number) for number in range(1, 30))
    held = await look_into(bus, "lab", "tiny", EVER, into_live=False)
    assert len(held) == 29
    assert a_message(29) in held
    assert a_message(30) not in held


async def test_only_what_lies_in_the_interval_is_remembered():
    bus = ListBus(stored(number) for number in range(1, 30))
    held = await look_into(bus, "lab", "tiny", Interval(10, 20), into_live=False)
    assert [number for number in range(1, 30) if a_message(number) in held] == [*range(10, 20)]


@pytest.mark.parametrize("origin", ["", "catchup", "backfill"])
async def test_a_stream_that_holds_what_is_not_of_a_replay_is_refused(origin):
    bus = ListBus([*(stored(number) for number in range(1, 20)), stored(20, origin=origin)])
    with pytest.raises(UsageError, match=r"holds what is not of a replay.*`name: lab-replay`"):
        await look_into(bus, "lab", "tiny", EVER, into_live=False)


async def test_ledger_lines_of_a_live_run_count_as_live():
    line = StoredMessage(1, "lab.tiny.status", "tiny:c1:5", 5, "", "", b"")
    with pytest.raises(UsageError, match=r"lab\.tiny\.status"):
        await look_into(ListBus([line]), "lab", "tiny", EVER, into_live=False)


async def test_a_live_stream_is_read_where_that_is_asked_for():
    bus = ListBus([stored(1, origin=""), stored(2)])
    held = await look_into(bus, "lab", "tiny", EVER, into_live=True)
    assert len(held) == 2


async def test_what_other_environments_hold_is_nothing_to_it():
    bus = ListBus([stored(1, origin="", subject="prod.tiny.trade.KX")])
    assert len(await look_into(bus, "lab", "tiny", EVER, into_live=False)) == 0


async def test_more_than_can_be_remembered_is_refused_with_what_to_do():
    bus = ListBus(stored(number) for number in range(1, 30))
    with pytest.raises(UsageError, match=r"more than 20 messages.*purge it, narrow --from"):
        await look_into(bus, "lab", "tiny", EVER, into_live=False, held=Held(limit=20))
