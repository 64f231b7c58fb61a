import pytest

from ssmd_core.errors import RecordError
from ssmd_core.feed import Parsed
from ssmd_core.metrics import Metrics
from ssmd_core.pipeline.encoding import Encoding
from ssmd_core.records import Batch, Side, Ticker, Trade
from ssmd_core.testing.fakes import WindowTransport

pytestmark = pytest.mark.anyio


async def test_a_batch_is_archived_before_it_is_published(rig, storage):
    seen = []

    class Watching(WindowTransport):
        def publish(self, messages):
            seen.append(list(storage.frames))
            super().publish(messages)

    rig = rig(storage, Watching())
    rig.deliver(b"1", b"2")
    assert seen == [[b"1", b"2"]]
    assert rig.trades() == [b"1", b"2"]


async def test_without_a_transport_nothing_is_encoded(rig, storage):
    rig = rig(storage)
    rig.deliver(b"1")
    assert storage.frames == [b"1"]


async def test_the_tap_sees_a_batch_after_the_sinks(rig, storage):
    seen = []
    rig = rig(storage)
    object.__setattr__(rig.pipeline._parts, "tap", lambda *a: seen.append(list(storage.frames)))
    rig.deliver(b"1")
    assert seen == [[b"1"]]


class AnyEncoder:
    label = "any:v1"
    kinds = frozenset({"trade", "ticker"})

    def encode(self, record, ts):
        if record.ticker == "bad":
            raise RecordError("no ticker called bad")
        if record.ticker == "bug":
            raise ZeroDivisionError
        return b"x"


def ticker(name):
    return Ticker(name, 1, None, None, None, 0, 0)


def test_a_message_is_named_after_the_venues_key_or_the_frame():
    encoding = Encoding(AnyEncoder(), "toy", "c0ffee", Metrics())
    keyed = Trade("A", 1, 1, 1, Side.BUY, "T1")
    keyless = Trade("A", 1, 1, 1, Side.BUY)
    said = Parsed("mix", (keyed, ticker("A"), keyless))
    batch = Batch(100, [b"", b""])
    messages = encoding.messages(batch, [Parsed("x", (ticker("B"),)), said], "catchup")
    assert [m.msg_id for m in messages] == [
        "toy:c0ffee:100",
        "toy:trade:T1",
        "toy:c0ffee:101:1",
        "toy:c0ffee:101:2",
    ]
    assert {m.origin for m in messages} == {"catchup"}
    assert {m.schema for m in messages} == {"any:v1"}
    assert [m.ts for m in messages] == [100, 101, 101, 101]


def test_what_the_schema_cannot_carry_is_counted_and_left_out():
    metrics = Metrics()
    encoding = Encoding(AnyEncoder(), "toy", "c0ffee", metrics)
    said = [Parsed("t", (ticker(name),)) for name in ("bad", "bug", "good")]
    messages = encoding.messages(Batch(1, [b""] * 3), said)
    assert [m.ticker for m in messages] == ["good"]
    assert metrics.unpublishable == {
        "no ticker called bad": 1,
        "encoder failed: ZeroDivisionError": 1,
    }


class Nameless(Trade, frozen=True):
    @property
    def key(self):
        raise LookupError("bug in a key")


def test_a_record_that_cannot_name_itself_costs_no_other():
    metrics = Metrics()
    encoding = Encoding(AnyEncoder(), "toy", "c0ffee", metrics)
    records = (Nameless("A", 1, 1, 1, Side.BUY), Trade("B", 1, 1, 1, Side.BUY))
    messages = encoding.messages(Batch(1, [b""]), [Parsed("t", records)])
    assert [m.ticker for m in messages] == ["B"]
    assert metrics.unpublishable == {"encoder failed: LookupError": 1}
