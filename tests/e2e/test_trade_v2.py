"""The program with ``schema: "trade:v2"``, read by readers of both versions."""

import json

import pytest

from ssmd_core.records import SCALE
from ssmd_core.schema import open_decoder
from ssmd_core.testing import LoopbackVenue, Recording
from ssmd_kalshi.venue import market_names, session

pytestmark = pytest.mark.anyio

COUNT = 2_000


def exact(text):
    """Return a decimal text of at most nine decimals as a scaled integer, without a float."""
    whole, _, fraction = text.partition(".")
    return int(whole) * SCALE + int(fraction.ljust(9, "0") or 0)


async def test_trade_v2_says_exactly_what_the_venue_sent_and_v1_readers_read_it(
    program, archive, yaml, face, bus
):
    await bus.add_stream()
    stream = session(5, market_names(20))
    recording = Recording([next(stream) for _ in range(COUNT)])
    async with LoopbackVenue(recording, face) as venue:
        run = program()
        both = yaml.both.format(url=bus.url, path=archive.path)
        run.write(yaml.feed.format(endpoint=venue.url), both.replace("trade:v1", "trade:v2"))
        await run.start().ready()
        await venue.finished(60)
        await run.received(venue.clients[0].sent_count)
        assert await run.stop() == 0, run.log()
        sent = [json.loads(frame) for frame in venue.clients[0].data]
    records = await bus.records()
    wanted = [body for body in sent if body["type"] in {"trade", "ticker"}]
    assert len(records) == len(wanted)
    read_v1, read_v2 = open_decoder("trade:v1").decode, open_decoder("trade:v2").decode
    for message, body in zip(records, wanted, strict=True):
        kind, msg = body["type"], body["msg"]
        assert message.headers["Ssmd-Schema"] == "trade:v2"
        fields = read_v2(kind, message.data)
        old = read_v1(kind, message.data)
        assert {name: fields[name] for name in old} == old
        assert fields["receivedAt"] == int(message.headers["Ssmd-Ts"])
        assert fields["hasSequence"] == ("seq" in body)
        assert fields["sequence"] == body.get("seq", 0)
        if kind == "trade":
            assert fields["priceE9"] == exact(msg["yes_price_dollars"])
            assert fields["sizeE9"] == exact(msg["count_fp"])
        else:
            assert fields["volumeE9"] == exact(msg["volume_fp"])
            assert fields["openInterestE9"] == exact(msg["open_interest_fp"])
            assert fields["bidSizeE9"] == exact(msg["yes_bid_size_fp"])
            assert fields["askSizeE9"] == exact(msg["yes_ask_size_fp"])
            for side in ("bid", "ask"):
                if fields[f"has{side.title()}Price"]:
                    assert fields[f"{side}PriceE9"] == exact(msg[f"yes_{side}_dollars"])
                else:
                    # An empty side of the book: Kalshi sends a price all the same.
                    assert msg[f"yes_{side}_size_fp"] == "0.00"
    kinds = {body["type"] for body in wanted}
    assert kinds == {"trade", "ticker"}
