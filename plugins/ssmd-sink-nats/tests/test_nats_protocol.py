"""The protocol reader: the same events however the bytes are cut."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ssmd_sink_nats.protocol import (
    Acks,
    Delivery,
    Info,
    Nack,
    Reader,
    Refusal,
    Reply,
    Verb,
    connect_line,
    listen_line,
    publish_line,
    request_line,
    subscribe_line,
    unlisten_line,
)

INBOX = "_INBOX.a1"


def answer(number, payload: bytes, sid: bytes = b"1") -> bytes:
    return b"MSG %b.%b %b %d\r\n%b\r\n" % (
        INBOX.encode(),
        str(number).encode(),
        sid,
        len(payload),
        payload,
    )


def headed(number, headers: bytes, payload: bytes = b"") -> bytes:
    return b"HMSG %b.%b 1 %d %d\r\n%b%b\r\n" % (
        INBOX.encode(),
        str(number).encode(),
        len(headers),
        len(headers) + len(payload),
        headers,
        payload,
    )


STORED = b'{"stream":"PROD_KALSHI", "seq":7}'
AGAIN = b'{"stream":"PROD_KALSHI", "seq":7, "duplicate": true}'
FULL = (
    b'{"error":{"code":429,"err_code":10167,"description":"too many requests"},'
    b'"stream":"PROD_KALSHI","seq":0}'
)

PIECES = [
    (b'INFO {"server_id":"S","max_payload":99,"connect_urls":["h:1"],"future":{"x":1}} \r\n'),
    b"PING\r\n",
    b"PONG\r\n",
    b"+OK\r\n",
    b"-ERR 'Stale Connection'\r\n",
    answer(1, STORED),
    answer(2, AGAIN),
    answer(3, FULL),
    headed(4, b"NATS/1.0 503\r\n\r\n"),
    answer("r5", b'{"streams":["A"]}'),
    headed("r6", b"NATS/1.0 503\r\n\r\n"),
    answer(7, b'{"stream":"a{b}c", "seq":7}'),
    answer(8, b'{"stream":"S","domain":"hub","seq":1}'),
    b"HMSG prod.t.A 12 $JS.ACK.S.C.1.3.1.17.7 21 24\r\nNATS/1.0\r\nSsmd-Ts:2\r\nabc\r\n",
    b"HMSG _INBOX.a1.12.many 12 16 16\r\nNATS/1.0 404\r\n\r\n\r\n",
    b"MSG prod.t.A 12 2\r\nhi\r\n",
]
EVENTS = [
    Info(server_id="S", max_payload=99, connect_urls=("h:1",)),
    Verb.PING,
    Verb.PONG,
    Verb.OK,
    Refusal("Stale Connection"),
    Acks([1], 0),
    Acks([2], 1),
    Nack(3, 429, 10167, "too many requests"),
    Nack(4, 503, 0, "no stream takes the subject"),
    Reply(5, 0, b'{"streams":["A"]}'),
    Reply(6, 503, b""),
    Acks([7], 0),
    Acks([8], 0),
    Delivery(12, b"prod.t.A", b"$JS.ACK.S.C.1.3.1.17.7", 0, b"NATS/1.0\r\nSsmd-Ts:2\r\n", b"abc"),
    Delivery(12, b"_INBOX.a1.12.many", b"", 404, b"NATS/1.0 404\r\n\r\n", b""),
    Delivery(12, b"prod.t.A", b"", 0, b"", b"hi"),
]


def flatten(events):
    """Take runs of acknowledgements apart: how many come together is chance."""
    flat, duplicates = [], 0
    for event in events:
        if isinstance(event, Acks):
            flat += [Acks([number], 0) for number in event.numbers]
            duplicates += event.duplicates
        else:
            flat.append(event)
    return flat, duplicates


@settings(deadline=None)
@given(
    st.lists(st.integers(0, len(PIECES) - 1), max_size=30),
    st.lists(st.integers(1, 60), min_size=1, max_size=20),
)
def test_events_do_not_depend_on_how_the_bytes_are_cut(choice, cuts):
    data = b"".join(PIECES[index] for index in choice)
    reader, found, at, turn = Reader(INBOX), [], 0, 0
    while at < len(data):
        size = cuts[turn % len(cuts)]
        found += reader.feed(data[at : at + size])
        at, turn = at + size, turn + 1
    assert flatten(found) == flatten([EVENTS[index] for index in choice])


def test_a_run_of_acknowledgements_is_one_event():
    data = b"".join(answer(number, STORED) for number in range(500)) + answer(500, AGAIN)
    assert Reader(INBOX).feed(data) == [Acks(list(range(501)), 1)]


def test_a_refusal_amid_acknowledgements_keeps_its_place():
    data = answer(1, STORED) + answer(2, FULL) + answer(3, STORED)
    kinds = [type(event) for event in Reader(INBOX).feed(data)]
    assert kinds == [Acks, Nack, Acks]


def test_what_stands_between_acknowledgements_is_no_part_of_them():
    with pytest.raises(ValueError, match=r".+"):
        Reader(INBOX).feed(answer(1, STORED) + b"junk" + answer(2, STORED))
    broken = b"MSG _INBOX.a1.2 1 7\r\n" + b'{"stream":x\r\n'
    with pytest.raises(ValueError, match=r".+"):
        Reader(INBOX).feed(answer(1, STORED) + broken + answer(3, STORED))


@pytest.mark.parametrize(
    "garbage",
    [
        b"HTTP/1.1 400 Bad Request\r\n",
        b"MSG a\r\n",
        b"MSG _INBOX.other.1 1 0\r\n\r\n",
        b"MSG _INBOX.a1.x 1 2\r\n{}\r\n",
        b"MSG _INBOX.a1.1 1 -5\r\n",
        b"MSG _INBOX.a1.1 1 99999999\r\n",
        b"HMSG _INBOX.a1.1 1 9 3\r\n",
        answer(1, b"not json"),
        answer(1, b"{}"),
        b"INFO {\r\n",
        b"x" * (1024 * 1024 + 1),
    ],
)
def test_a_peer_that_speaks_something_else_is_told_apart(garbage):
    with pytest.raises(ValueError, match=r".+"):
        Reader(INBOX).feed(garbage)


def test_connect_asks_for_headers_and_carries_the_login():
    line = connect_line("ssmd prod.kalshi", tls=True, login={"user": "u", "pass": "p"})
    options = msgspec.json.decode(line.removeprefix(b"CONNECT ").removesuffix(b"\r\n"))
    assert options["headers"]
    assert options["no_responders"]
    assert options["tls_required"]
    assert not options["verbose"]
    assert (options["user"], options["pass"]) == ("u", "p")


def test_lines_that_we_send_are_worded_exactly():
    assert subscribe_line(INBOX) == b"SUB _INBOX.a1.* 1\r\n"
    assert request_line("$JS.API.INFO", INBOX, 3, b"{}") == (
        b"PUB $JS.API.INFO _INBOX.a1.r3 2\r\n{}\r\n"
    )
    assert publish_line("a.b", "", b"x") == b"PUB a.b 1\r\nx\r\n"
    assert listen_line("a.*", 7) == b"SUB a.* 7\r\n"
    assert unlisten_line(7) == b"UNSUB 7\r\n"
