"""Real frames, where they are at hand: none is misread, by an independent reckoning."""

import json
from decimal import Decimal
from pathlib import Path

import pytest

from ssmd_core.feed import FrameKind
from ssmd_core.records import SCALE, Lifecycle, Side, Ticker, Trade
from ssmd_kalshi.messages import parse

NEARBY = [parent / "shared" / "kalshi" / "samples" for parent in Path(__file__).parents]
SAMPLES = next((folder for folder in NEARBY if folder.is_dir()), None)

pytestmark = pytest.mark.skipif(SAMPLES is None, reason="the sample frames are not at hand")


def frames(name):
    if SAMPLES is None:
        return []
    return [line for line in (SAMPLES / f"{name}.jsonl").read_bytes().split(b"\n") if line]


def worth(msg, dollars, cents=None, unit=Decimal(1)):
    """Return a number times 1e9; the newest form that is there says it."""
    if dollars in msg:
        return int(Decimal(msg[dollars]) * SCALE) if msg[dollars] else None
    return int(Decimal(msg[cents]) * unit * SCALE) if cents in msg else None


def expected(message):
    msg, cent = message["msg"], Decimal("0.01")
    common = {"seq": message.get("seq")}
    match message["type"]:
        case "ticker":
            return Ticker(
                ticker=msg["market_ticker"],
                venue_ns=msg["ts"] * 10**9,
                bid_e9=worth(msg, "yes_bid_dollars", "yes_bid", cent),
                ask_e9=worth(msg, "yes_ask_dollars", "yes_ask", cent),
                last_e9=worth(msg, "price_dollars", "price", cent),
                volume_e9=worth(msg, "volume_fp", "volume"),
                open_interest_e9=worth(msg, "open_interest_fp", "open_interest"),
                bid_size_e9=worth(msg, "yes_bid_size_fp"),
                ask_size_e9=worth(msg, "yes_ask_size_fp"),
                **common,
            )
        case "trade":
            return Trade(
                ticker=msg["market_ticker"],
                venue_ns=msg["ts"] * 10**9,
                price_e9=worth(msg, "yes_price_dollars", "yes_price", cent),
                size_e9=worth(msg, "count_fp", "count"),
                side={"yes": Side.BUY, "no": Side.SELL}[msg["taker_side"]],
                trade_id=msg["trade_id"],
                **common,
            )
        case "market_lifecycle_v2":
            return Lifecycle(
                ticker=msg["market_ticker"],
                venue_ns=msg.get("determination_ts", msg.get("settled_ts")) * 10**9,
                event=msg["event_type"],
                detail=json.dumps(msg, separators=(",", ":")).encode(),
                **common,
            )
    raise AssertionError(message["type"])


@pytest.mark.parametrize("data", frames("captured"), ids=range(len(frames("captured"))))
def test_a_captured_frame_is_read_as_it_was_meant(data):
    message, parsed = json.loads(data), parse(data)
    assert parsed.fault == ""
    assert parsed.kind is FrameKind.DATA
    assert (parsed.label, parsed.sid) == (message["type"], message["sid"])
    assert parsed.first_seq == parsed.last_seq == message.get("seq")
    assert parsed.records == (expected(message),)


@pytest.mark.parametrize("data", frames("handmade"), ids=range(len(frames("handmade"))))
def test_an_edge_case_keeps_its_label_and_its_place(data):
    message, parsed = json.loads(data), parse(data)
    assert parsed.fault == ""
    assert parsed.label == message.get("type", "untyped")
    assert (parsed.sid, parsed.first_seq) == (message.get("sid"), message.get("seq"))


def test_all_captured_frames_are_there():
    assert len(frames("captured")) == 26
