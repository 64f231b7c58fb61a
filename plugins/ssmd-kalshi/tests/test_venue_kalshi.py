import base64
import json
import time
from collections import Counter
from decimal import Decimal
from itertools import islice

import anyio
import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from ssmd_core.testing import LoopbackVenue, Recording
from ssmd_kalshi.venue import KalshiFace, new_key, session

pytestmark = pytest.mark.anyio

KEY = new_key()
EDWARDS = new_key(ed25519_key=True)
MARKETS = ["KXA-1", "KXB-26DEC31-T15.99", "KXC-3"]
PSS = padding.PSS(mgf=padding.MGF1(hashes.SHA256()), salt_length=32)


@pytest.fixture
def anyio_backend():
    return "asyncio"


def signed(key=KEY, *, path="/trade-api/ws/v2", skew_ms=0, key_id=None):
    stamp = str(time.time_ns() // 1_000_000 + skew_ms)
    private, message = load_pem_private_key(key.pem.encode(), None), f"{stamp}GET{path}".encode()
    raw = private.sign(message) if key is EDWARDS else private.sign(message, PSS, hashes.SHA256())
    return {
        "KALSHI-ACCESS-KEY": key_id or key.key_id,
        "KALSHI-ACCESS-TIMESTAMP": stamp,
        "KALSHI-ACCESS-SIGNATURE": base64.b64encode(raw).decode(),
    }


def venue_of(frames=(), **options):
    keys = {key.key_id: key.public for key in (KEY, EDWARDS)}
    recording = frames if isinstance(frames, Recording) else Recording(list(frames))
    return LoopbackVenue(recording, KalshiFace(keys, **options), silent=True)


def dial(venue):
    return connect(venue.url, additional_headers=signed(), max_queue=None)


async def refusal(venue, headers, path=""):
    with pytest.raises(InvalidStatus) as refused:
        await connect(venue.url + path, additional_headers=headers)
    return refused.value.response.status_code, json.loads(refused.value.response.body)


async def receive(ws, count=1):
    with anyio.fail_after(20):
        got = [json.loads(await ws.recv()) for _ in range(count)]
    return got[0] if count == 1 else got


async def ask(ws, cmd, request=1, replies=1, **params):
    message = {"id": request, "cmd": cmd}
    await ws.send(json.dumps(message | ({"params": params} if params else {})))
    return await receive(ws, replies)


async def subscribe(ws, *channels, request=1, **params):
    count = len(channels)
    return await ask(ws, "subscribe", request, count, channels=list(channels), **params)


# ── handshake ────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("key", [KEY, EDWARDS], ids=["rsa", "ed25519"])
async def test_a_signed_handshake_is_let_in(key):
    async with venue_of() as venue, connect(venue.url, additional_headers=signed(key)):
        assert venue.url.endswith("/trade-api/ws/v2")


async def test_the_query_is_not_signed():
    async with venue_of() as venue, connect(venue.url + "?x=1", additional_headers=signed()):
        pass


@pytest.mark.parametrize(
    ("make_headers", "details"),
    [
        (dict, "MISSING_HEADERS"),
        (lambda: signed(key_id="6d6f6e6b-0000-4000-8000-000000000000"), "NOT_FOUND"),
        (lambda: signed(skew_ms=60_000), "TIMESTAMP_OUT_OF_RANGE"),
        (lambda: signed(skew_ms=-60_000), "TIMESTAMP_OUT_OF_RANGE"),
        (lambda: signed() | {"KALSHI-ACCESS-TIMESTAMP": "soon"}, "TIMESTAMP_OUT_OF_RANGE"),
        (lambda: signed(path="/trade-api/v2"), "INVALID_SIGNATURE"),
        (lambda: signed(EDWARDS, key_id=KEY.key_id), "INVALID_SIGNATURE"),
        (lambda: signed() | {"KALSHI-ACCESS-SIGNATURE": "not base64"}, "INVALID_SIGNATURE"),
    ],
)
async def test_any_other_handshake_gets_401(make_headers, details):
    async with venue_of() as venue:
        status, body = await refusal(venue, make_headers())
        assert (status, body) == (401, {"code": "authentication_error", "details": details})


async def test_a_signature_over_another_timestamp_is_refused():
    async with venue_of() as venue:
        headers = signed()
        headers["KALSHI-ACCESS-TIMESTAMP"] = str(int(headers["KALSHI-ACCESS-TIMESTAMP"]) + 1)
        assert (await refusal(venue, headers))[1]["details"] == "INVALID_SIGNATURE"


async def test_another_path_is_not_found():
    async with venue_of() as venue:
        assert (await refusal(venue, signed(), path="/x"))[0] == 404


def test_keys_have_the_form_of_a_download_and_show_nothing():
    assert KEY.pem.startswith("-----BEGIN RSA PRIVATE KEY-----")
    assert EDWARDS.pem.startswith("-----BEGIN PRIVATE KEY-----")
    assert "PRIVATE" not in repr(KEY)
    assert KEY.environ == {"KALSHI_API_KEY": KEY.key_id, "KALSHI_PRIVATE_KEY": KEY.pem}


# ── subscriptions ────────────────────────────────────────────────────────────────


async def test_each_channel_is_acknowledged_with_the_next_sid():
    async with venue_of() as venue, dial(venue) as ws:
        acks = await subscribe(ws, "ticker", "trade", request=5)
        assert acks == [
            {"type": "subscribed", "id": 5, "msg": {"channel": "ticker", "sid": 1}},
            {"type": "subscribed", "id": 5, "msg": {"channel": "trade", "sid": 2}},
        ]
        listed = await ask(ws, "list_subscriptions", 6)
        assert listed["msg"] == [ack["msg"] for ack in acks]


async def test_sids_are_not_used_again():
    async with venue_of() as venue, dial(venue) as ws:
        await subscribe(ws, "trade")
        gone = await ask(ws, "unsubscribe", 9, sids=[1])
        assert gone == {"id": 9, "sid": 1, "seq": 1, "type": "unsubscribed"}
        assert (await subscribe(ws, "trade"))["msg"]["sid"] == 2


async def test_subscribing_again_adds_markets_and_uses_up_a_sequence_number():
    async with venue_of() as venue, dial(venue) as ws:
        await subscribe(ws, "trade", market_tickers=["A"])
        ok = await subscribe(ws, "trade", request=4, market_tickers=["A", "B"])
        assert ok == {
            "type": "ok", "id": 4, "sid": 1, "seq": 1, "msg": {"market_tickers": ["A", "B"]}
        }  # fmt: skip


async def test_markets_are_added_and_deleted():
    async with venue_of() as venue, dial(venue) as ws:
        await subscribe(ws, "trade", market_ticker="A")
        added = await ask(
            ws, "update_subscription", 2, sid=1, action="add_markets", market_tickers=["B"]
        )
        gone = await ask(
            ws, "update_subscription", 3, sids=[1], action="delete_markets", market_tickers=["A"]
        )
        assert [added["msg"], gone["msg"]] == [
            {"market_tickers": ["A", "B"]},
            {"market_tickers": ["B"]},
        ]
        assert [added["seq"], gone["seq"]] == [1, 2]


async def test_short_acknowledgements_leave_the_list_out():
    async with venue_of() as venue, dial(venue) as ws:
        await subscribe(ws, "trade", market_tickers=["A"], skip_ticker_ack=True)
        assert (await subscribe(ws, "trade", market_tickers=["B"]))["msg"] == {}


BOTH = {"market_ticker": "A", "market_tickers": ["B"]}


@pytest.mark.parametrize(
    ("cmd", "params", "code"),
    [
        ("subscribe", {}, 2),
        ("subscribe", {"channels": []}, 3),
        ("subscribe", {"channels": ["ticker_v2"]}, 8),
        ("subscribe", {"channels": ["orderbook_delta"]}, 14),
        ("subscribe", {"channels": ["trade"]} | BOTH, 11),
        ("subscribe", {"channels": ["ticker"], "market_tickers": list("ABCDEF")}, 26),
        ("dance", {"x": 1}, 5),
        ("unsubscribe", {"x": 1}, 4),
        ("unsubscribe", {"sids": [77]}, 7),
        ("update_subscription", {"action": "add_markets"}, 4),
        ("update_subscription", {"sids": [1, 2]}, 12),
        ("update_subscription", {"sid": 77, "action": "add_markets"}, 7),
        ("update_subscription", {"sid": 1}, 15),
        ("update_subscription", {"sid": 1, "action": "add_markets"}, 14),
        ("update_subscription", {"sid": 1, "action": "get_snapshot", "market_tickers": ["A"]}, 13),
        ("update_subscription", {"sid": 1, "action": "dance"}, 13),
    ],
)
async def test_a_wrong_command_gets_its_error_code(cmd, params, code):
    async with venue_of(max_markets=5) as venue, dial(venue) as ws:
        await subscribe(ws, "trade")
        error = await ask(ws, cmd, 3, **params)
        assert (error["type"], error["id"], error["msg"]["code"]) == ("error", 3, code)
        assert "seq" not in error


@pytest.mark.parametrize("command", ["{", "[1]", b"\xff\xfe"])
async def test_what_is_no_command_gets_error_one_without_an_id(command):
    async with venue_of() as venue, dial(venue) as ws:
        await ws.send(command)
        error = await receive(ws)
        assert error["msg"]["code"] == 1
        assert "id" not in error


async def test_one_bad_channel_does_not_stop_the_others():
    async with venue_of() as venue, dial(venue) as ws:
        replies = await subscribe(ws, "nonsense", "trade")
        assert [reply["type"] for reply in replies] == ["error", "subscribed"]


# ── data ─────────────────────────────────────────────────────────────────────────


async def test_only_subscribed_channels_and_markets_are_sent():
    frames = list(session(1, MARKETS, 2_000))
    async with venue_of(frames) as venue, dial(venue) as ws:
        await subscribe(ws, "trade", market_tickers=MARKETS[:2])
        venue.play()
        await venue.finished()
        wanted = [
            json.loads(frame)["msg"]
            for frame in frames
            if b'"type":"trade"' in frame and MARKETS[2].encode() not in frame
        ]
        got = await receive(ws, len(wanted))
        assert [frame["msg"] for frame in got] == wanted
        assert venue.clients[0].data_count == len(wanted)


async def test_a_hundred_thousand_frames_are_numbered_without_a_hole():
    frames = list(session(3, MARKETS, 100_000))
    async with venue_of(frames) as venue, dial(venue) as ws:
        await subscribe(ws, "ticker", "trade", "market_lifecycle_v2")
        await subscribe(ws, "orderbook_delta", market_tickers=MARKETS)
        venue.play()
        got = await receive(ws, 100_000)
        assert [frame["msg"] for frame in got] == [json.loads(frame)["msg"] for frame in frames]
        seen = Counter()
        for frame in got:
            if "seq" in frame:
                seen[frame["sid"]] += 1
                assert frame["seq"] == seen[frame["sid"]]
        assert {frame["sid"] for frame in got if frame["type"] == "ticker"} == {1}
        assert set(seen) == {2, 3, 4}


async def test_replies_and_data_share_one_sequence():
    frames = list(session(1, MARKETS, 1_000))
    async with venue_of(Recording(frames, rate=2000)) as venue, dial(venue) as ws:
        await subscribe(ws, "trade", market_tickers=MARKETS)
        venue.play()
        await receive(ws, 5)
        await ws.send('{"id":2,"cmd":"subscribe","params":{"channels":["trade"]}}')
        await venue.finished()
        sent = [json.loads(message) for message in venue.clients[0].sent[1:]]
        assert "ok" in {frame["type"] for frame in sent}
        assert [frame["seq"] for frame in sent] == list(range(1, len(sent) + 1))


async def test_a_late_subscriber_gets_the_book_of_that_moment():
    frames = list(session(1, MARKETS[:1], 4_000))
    book = {}
    for frame in map(json.loads, frames):
        msg = frame["msg"]
        if frame["type"] == "orderbook_snapshot":
            book = {p: Decimal(s) for p, s in msg["yes_dollars_fp"]}
        elif frame["type"] == "orderbook_delta" and msg["side"] == "yes":
            price = msg["price_dollars"]
            book[price] = book.get(price, Decimal(0)) + Decimal(msg["delta_fp"])
    expected = {price: size for price, size in book.items() if size}
    async with venue_of(frames) as venue, dial(venue) as ws:
        await subscribe(ws, "market_lifecycle_v2")
        venue.play()
        await venue.finished()
        await receive(ws, venue.clients[0].data_count)
        await subscribe(ws, "orderbook_delta", market_tickers=MARKETS[:1])
        snapshot = await receive(ws)
        assert (snapshot["type"], snapshot["sid"], snapshot["seq"]) == ("orderbook_snapshot", 2, 1)
        assert "id" not in snapshot
        got = {price: Decimal(size) for price, size in snapshot["msg"]["yes_dollars_fp"]}
        assert got == expected


async def test_get_snapshot_echoes_the_id_within_the_sequence():
    frames = list(session(1, MARKETS, 9))
    async with venue_of(frames) as venue, dial(venue) as ws:
        await subscribe(ws, "orderbook_delta", market_tickers=MARKETS)
        venue.play()
        await receive(ws, 3)
        snapshots = await ask(
            ws, "update_subscription", 44, 2, sid=1, action="get_snapshot",
            market_tickers=[MARKETS[0], "KXNOWHERE"],
        )  # fmt: skip
        assert [(s["id"], s["seq"]) for s in snapshots] == [(44, 4), (44, 5)]
        assert snapshots[0]["msg"]["market_ticker"] == MARKETS[0]
        assert snapshots[1]["msg"] == {"market_ticker": "KXNOWHERE", "market_id": ""}


async def test_the_first_tickers_come_at_once_when_asked_for():
    async with venue_of(session(1, MARKETS, 9)) as venue, dial(venue) as ws:
        await subscribe(ws, "trade")
        venue.play()
        await venue.finished()
        await subscribe(ws, "ticker", market_tickers=MARKETS, send_initial_snapshot=True)
        tickers = await receive(ws, 3)
        assert [ticker["msg"]["market_ticker"] for ticker in tickers] == MARKETS


@pytest.mark.parametrize("code", [10, 25])
async def test_an_ended_subscription_is_told_in_sequence_and_sends_no_more(code):
    frames = list(session(1, MARKETS, 3_000))
    async with venue_of(Recording(frames, rate=1000)) as venue, dial(venue) as ws:
        await subscribe(ws, "ticker", "trade")
        venue.play()
        await receive(ws, 50)
        client = venue.clients[0]
        venue.inject(venue.face.end_subscription(client, 2, code), client=client)
        sent = [json.loads(message) for message in client.sent]
        assert sent[-1]["msg"]["code"] == code
        assert sent[-1]["seq"] == 1 + sum(frame["type"] == "trade" for frame in sent)
        before = len(sent)
        venue.flood(3_000)
        await venue.finished()
        after = [json.loads(message) for message in client.sent[before:]]
        assert {frame["type"] for frame in after} == {"ticker"}
        with pytest.raises(LookupError, match="no subscription 2"):
            venue.face.end_subscription(client, 2)


async def test_an_archive_is_played_without_the_replies_it_holds(tmp_path):
    frames = list(islice(session(1, MARKETS), 200))
    line = b'{"ts":"2026-11-22T06:00:47.123456789+00:00","feed":"kalshi","data":%b}\n'
    acks = [b'{"type":"subscribed","id":1,"msg":{"channel":"trade","sid":1}}', b"null", b'"x"']
    path = tmp_path / "kalshi.jsonl"
    path.write_bytes(b"".join(line % frame for frame in acks + frames))
    async with venue_of(Recording.load(path)) as venue, dial(venue) as ws:
        await subscribe(ws, "trade")
        venue.play()
        await venue.finished()
        assert venue.played == 200
