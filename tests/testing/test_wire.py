import pytest
from hypothesis import given
from hypothesis import strategies as st
from websockets.client import ClientProtocol
from websockets.protocol import State
from websockets.uri import parse_uri

from ssmd_core.testing.wire import BINARY, pack


def read(data):
    protocol = ClientProtocol(parse_uri("ws://127.0.0.1/"), state=State.OPEN, max_size=None)
    protocol.receive_data(data)
    return [(frame.opcode, bytes(frame.data)) for frame in protocol.events_received()]


@given(st.lists(st.binary(max_size=300)))
def test_a_client_reads_what_was_packed(messages):
    assert read(pack(messages)) == [(1, message) for message in messages]


@pytest.mark.parametrize("size", [0, 125, 126, 65535, 65536])
def test_each_length_form_is_read(size):
    assert read(pack([b"x" * size], BINARY)) == [(2, b"x" * size)]
