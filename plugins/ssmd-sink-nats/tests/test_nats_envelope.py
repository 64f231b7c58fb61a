"""Messages on the wire, and those that are kept from costing the connection."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ssmd_core.sink import Message
from ssmd_sink_nats.envelope import Envelope
from ssmd_sink_nats.subjects import Subjects
from ssmd_sink_nats.window import Run

INBOX = "_INBOX.a1"


def message(**fields) -> Message:
    given_fields = {
        "kind": "trade",
        "ticker": "A",
        "payload": b"pay",
        "msg_id": "id",
        "ts": 5,
        "schema": "trade:v1",
    }
    return Message(**(given_fields | fields))


def pack(*messages: Message, max_payload: int = 1024 * 1024):
    envelope = Envelope(Subjects("prod", "kalshi"))
    return envelope.pack(Run(7, messages), inbox=INBOX, max_payload=max_payload)


def test_a_live_message_has_three_headers():
    headers = b"NATS/1.0\r\nNats-Msg-Id: id\r\nSsmd-Schema: trade:v1\r\nSsmd-Ts: 5\r\n\r\n"
    assert pack(message()).data == (
        b"HPUB prod.kalshi.trade.A _INBOX.a1.7 %d %d\r\n%bpay\r\n"
        % (len(headers), len(headers) + 3, headers)
    )


def test_what_is_not_live_says_its_origin_and_a_status_no_schema():
    data = pack(message(kind="status", ticker="", schema="", origin="backfill")).data
    assert data.startswith(b"HPUB prod.kalshi.status _INBOX.a1.7 ")
    assert b"\r\nNats-Msg-Id: id\r\nSsmd-Ts: 5\r\nSsmd-Origin: backfill\r\n\r\npay" in data
    assert b"Schema" not in data


def test_origin_and_schema_may_change_within_a_batch():
    data = pack(message(origin="catchup"), message(), message(schema="trade:v2")).data
    assert data.count(b"Ssmd-Origin") == 1
    assert data.count(b"Ssmd-Schema: trade:v1") == 2
    assert data.count(b"Ssmd-Schema: trade:v2") == 1


def test_what_is_remembered_of_a_message_changes_no_byte_of_the_next():
    envelope = Envelope(Subjects("prod", "kalshi"))
    kinds = [message(), message(ticker="B", ts=10**18), message(kind="ticker", origin="replay")]
    for each in (*kinds, message(kind="status", ticker=""), message(ticker="€"), message(ts=-1)):
        first, again = (
            envelope.pack(Run(7, [each, each]), inbox=INBOX, max_payload=1_000) for _ in range(2)
        )
        assert first == again
        assert first.data == pack(each).data + pack(each).data.replace(b"a1.7 ", b"a1.8 ")


def test_answered_messages_are_left_out_and_keep_their_numbers():
    envelope = Envelope(Subjects("prod", "kalshi"))
    packed = envelope.pack(Run(7, [None, message(), None]), inbox=INBOX, max_payload=1_000)
    assert packed.data == pack(message()).data.replace(b"a1.7 ", b"a1.8 ")
    assert envelope.pack(Run(7, [None]), inbox=INBOX, max_payload=1_000).data == b""


@settings(deadline=None)
@given(
    st.lists(
        st.tuples(
            st.text(st.characters(exclude_categories=["Cs"]), max_size=8),
            st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=8),
            st.binary(max_size=8),
        ),
        max_size=5,
    )
)
def test_the_sizes_on_the_line_are_those_of_the_bytes(parts):
    packed = pack(*(message(ticker=t, msg_id=i, payload=p) for t, i, p in parts))
    rest = packed.data
    for number, (_, msg_id, payload) in enumerate(parts, 7):
        line, _, rest = rest.partition(b"\r\n")
        verb, _, reply, head, total = line.split(b" ")
        assert (verb, reply) == (b"HPUB", b"_INBOX.a1.%d" % number)
        headers, body = rest[: int(head)], rest[int(head) : int(total)]
        assert headers.endswith(b"\r\n\r\n")
        assert f"Nats-Msg-Id: {msg_id}\r\n".encode() in headers
        assert body == payload
        assert rest[int(total) : int(total) + 2] == b"\r\n"
        rest = rest[int(total) + 2 :]
    assert rest == b""


@pytest.mark.parametrize(
    ("bad", "label"),
    [
        (message(payload=b"x" * 1_000), "too_large"),
        (message(ticker="T" * 5_000), "bad_subject"),
        (message(ticker="€" * 1_500), "bad_subject"),
        (message(msg_id="a\r\nNats-Rollup: all"), "bad_header"),
        (message(msg_id="\ud800"), "bad_header"),
    ],
)
def test_what_would_cost_the_connection_is_left_out_and_the_rest_goes_on(bad, label):
    packed = pack(message(), bad, message(), max_payload=1_000)
    assert packed.data.count(b"HPUB ") == 2
    assert [(r.number, r.message, r.label) for r in packed.rejected] == [(8, bad, label)]
    assert packed.rejected[0].reason


def test_the_limit_counts_the_headers():
    size = len(pack(message()).data.partition(b"\r\n")[2]) - 2
    assert not pack(message(), max_payload=size).rejected
    assert pack(message(), max_payload=size - 1).rejected
