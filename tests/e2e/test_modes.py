import json
from collections import Counter

import pytest

from ssmd_core.schema import open_trade_v1_decoder
from ssmd_core.testing import LoopbackVenue, Recording
from ssmd_kalshi.venue import market_names, session

pytestmark = pytest.mark.anyio

COUNT = 100_000


@pytest.fixture(scope="module")
def frames():
    stream = session(7, market_names(50))
    return [next(stream) for _ in range(COUNT)]


def expected_messages(sent):
    """What the bus must hold, read from the venue's frames without our parser."""
    for frame in sent:
        body = json.loads(frame)
        kind, msg = body["type"], body["msg"]
        if kind == "trade":
            yield (
                f"prod.kalshi.trade.{msg['market_ticker']}",
                {
                    "timestamp": msg["ts_ms"] * 1_000_000,
                    "ticker": msg["market_ticker"],
                    "price": float(msg["yes_price_dollars"]),
                    "size": round(float(msg["count_fp"])),
                    "side": "buy" if msg["taker_side"] == "yes" else "sell",
                    "tradeId": msg["trade_id"],
                },
            )
        elif kind == "ticker":
            yield (
                f"prod.kalshi.ticker.{msg['market_ticker']}",
                {
                    "timestamp": msg["ts_ms"] * 1_000_000,
                    "ticker": msg["market_ticker"],
                    "bidPrice": float(msg["yes_bid_dollars"]),
                    "askPrice": float(msg["yes_ask_dollars"]),
                    "lastPrice": float(msg["price_dollars"] or 0),
                    "volume": round(float(msg["volume_fp"])),
                    "openInterest": round(float(msg["open_interest_fp"])),
                },
            )


def decoded(messages):
    decoder = open_trade_v1_decoder()
    return [(m.subject, decoder.decode(m.subject.split(".")[2], m.data)) for m in messages]


async def test_file_mode_keeps_every_frame_complete_in_order_and_verbatim(
    program, archive, yaml, face, frames
):
    async with LoopbackVenue(Recording(frames), face) as venue:
        run = program()
        run.write(yaml.feed.format(endpoint=venue.url), yaml.file.format(path=archive.path))
        await run.start().ready()
        await venue.finished(60)
        await run.received(venue.clients[0].sent_count)
        assert await run.stop() == 0
        (client,) = venue.clients
        assert client.close_code == 1000
    assert client.data_count > COUNT * 0.9
    assert archive.frames() == client.sent
    times = archive.times()
    assert times == sorted(set(times))
    assert archive.ledger("gap") == []
    assert [each["event"] for each in archive.ledger()] == [
        "session_opened",
        "subscribed",
        "subscribed",
        "session_closed",
    ]


async def test_nats_mode_stores_every_record_exactly_once_and_in_order(
    program, yaml, face, frames, bus
):
    await bus.add_stream()
    async with LoopbackVenue(Recording(frames), face) as venue:
        run = program()
        run.write(yaml.feed.format(endpoint=venue.url), yaml.nats.format(url=bus.url))
        await run.start().ready()
        await venue.finished(90)
        await run.received(venue.clients[0].sent_count)
        assert await run.stop() == 0
        sent = venue.clients[0].data
    messages = await bus.records()
    assert decoded(messages) == list(expected_messages(sent))
    ids = [m.headers["Nats-Msg-Id"] for m in messages]
    assert len(set(ids)) == len(ids)
    assert {m.headers["Ssmd-Schema"] for m in messages} == {"trade:v1"}
    assert not any("Ssmd-Origin" in m.headers for m in messages)
    assert not list(run.folder.glob("**/*.jsonl"))


async def test_both_modes_from_one_connection_hold_the_same(
    program, archive, yaml, face, frames, bus
):
    await bus.add_stream()
    async with LoopbackVenue(Recording(frames[:30_000]), face) as venue:
        run = program()
        both = yaml.both.format(url=bus.url, path=archive.path)
        run.write(yaml.feed.format(endpoint=venue.url), both)
        await run.start().ready()
        await venue.finished(60)
        await run.received(venue.clients[0].sent_count)
        assert await run.stop() == 0
        assert len(venue.clients) == 1
        client = venue.clients[0]
    assert archive.frames() == client.sent
    messages = await bus.messages()
    records = [m for m in messages if m.subject != "prod.kalshi.status"]
    assert decoded(records) == list(expected_messages(client.data))
    status = [json.loads(m.data) for m in messages if m.subject == "prod.kalshi.status"]
    assert status == archive.ledger()
    kept = {json.loads(line)["ts"] for line in archive.lines()}
    assert len(kept) == len(archive.lines())
    connector = (archive.path / ".kalshi.connector").read_text().strip()
    kinds = Counter(m.headers["Nats-Msg-Id"].split(":")[1] for m in records)
    trades = sum(m.subject.startswith("prod.kalshi.trade.") for m in records)
    assert kinds == {"trade": trades, connector: len(records) - trades}


async def test_production_frames_go_through_both_modes_none_lost_none_misread(
    program, archive, yaml, verbatim, bus, request
):
    samples = request.config.rootpath.parent / "shared" / "kalshi" / "samples" / "captured.jsonl"
    if not samples.exists():
        pytest.skip("the captured production frames are not part of the repository")
    frames = samples.read_bytes().splitlines()
    await bus.add_stream()

    async with LoopbackVenue(Recording(frames), verbatim, silent=True) as venue:
        run = program()
        both = yaml.both.format(url=bus.url, path=archive.path)
        run.write(yaml.feed.format(endpoint=venue.url), both)
        await run.start().ready()
        venue.play()
        await venue.finished()
        await run.received(venue.clients[0].sent_count)
        assert await run.stop() == 0
    assert len(frames) == 26
    assert archive.frames()[2:] == frames
    records = await bus.records()
    got = decoded(records)
    want = [json.loads(frame) for frame in frames]
    want = [body for body in want if body["type"] in {"trade", "ticker"}]
    assert len(got) == len(want)
    for (subject, fields), body in zip(got, want, strict=True):
        msg = body["msg"]
        assert subject == f"prod.kalshi.{body['type']}.{msg['market_ticker']}"
        assert fields["timestamp"] == msg["ts"] * 10**9
        if body["type"] == "trade":
            assert fields["price"] == float(msg["yes_price_dollars"])
            assert fields["size"] == float(msg["count_fp"])
            assert fields["tradeId"] == msg["trade_id"]
            assert fields["side"] == {"yes": "buy", "no": "sell"}[msg["taker_side"]]
        else:
            assert fields["bidPrice"] == float(msg["yes_bid_dollars"])
            assert fields["askPrice"] == float(msg["yes_ask_dollars"])
            assert fields["lastPrice"] == float(msg["price_dollars"] or 0)
            assert fields["volume"] == float(msg.get("volume_fp", msg.get("volume")))
