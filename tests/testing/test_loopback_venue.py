import asyncio
import json
import socket
from itertools import pairwise

import anyio
import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, ConnectionClosedError, InvalidStatus

from ssmd_core.testing import Face, Garbage, LoopbackVenue, PlainFace, Recording, Refusal

pytestmark = pytest.mark.anyio

FRAMES = [b'{"n":%d}' % n for n in range(50)]


class CountingFace(Face):
    """Numbers what it sends to those who said hello; echoes everything."""

    path = "/feed?v=1"
    ping_body = b"heartbeat"
    subprotocols = ("acme.v1",)

    def admit(self, handshake):
        return None if handshake.headers.get("X-Key") == "open" else Refusal(403, '{"no":1}')

    def new_state(self):
        return {"next": 1, "hello": False}

    def answer(self, command, client):
        if command == b"boom":
            raise LookupError("the face is broken")
        client.state["hello"] = True
        return [b"ok:" + command]

    def listening(self, client):
        return client.state["hello"]

    def render(self, item, client):
        number = client.state["next"]
        client.state["next"] += 1
        return b"%d:%b" % (number, item)


def dial(venue, **options):
    return connect(venue.url, additional_headers={"X-Key": "open"}, max_queue=None, **options)


async def receive(ws, count, seconds=10):
    with anyio.fail_after(seconds):
        return [await ws.recv(decode=False) for _ in range(count)]


async def ended_how(ws, seconds=10):
    with anyio.fail_after(seconds):
        try:
            while True:
                await ws.recv(decode=False)
        except ConnectionClosed as closed:
            return closed


# ── playing ──────────────────────────────────────────────────────────────────────


async def test_a_hundred_thousand_frames_arrive_complete_and_in_order():
    frames = [b'{"type":"ticker","n":%d,"pad":"%b"}' % (n, b"x" * 270) for n in range(100_000)]
    async with LoopbackVenue(frames) as venue, dial(venue) as ws:
        assert await receive(ws, len(frames), seconds=60) == frames
        assert venue.clients[0].data == frames
        assert venue.ended


async def test_an_iterable_of_frames_is_played_once():
    async with LoopbackVenue(FRAMES) as venue, dial(venue) as ws:
        await venue.finished()
        assert await receive(ws, len(FRAMES)) == FRAMES
        assert venue.played == len(FRAMES)


async def test_the_recording_waits_for_a_listener():
    async with LoopbackVenue(FRAMES, CountingFace()) as venue, dial(venue) as ws:
        assert venue.played == 0
        await ws.send("hi")
        assert await receive(ws, 2) == [b"ok:hi", b'1:{"n":0}']


async def test_the_recording_stands_still_between_two_clients():
    async with LoopbackVenue(Recording(FRAMES, rate=200)) as venue:
        async with dial(venue) as ws:
            await receive(ws, 5)
        async with dial(venue) as ws:
            await venue.finished()
            first, second = (client.data for client in venue.clients)
            assert first + second == FRAMES
            assert await receive(ws, len(second)) == second


async def test_clients_hear_the_same_recording_each_with_its_own_numbers():
    async with (
        LoopbackVenue(FRAMES, CountingFace(), silent=True) as venue,
        dial(venue) as one,
        dial(venue) as two,
    ):
        await one.send("one")
        await two.send("two")
        await venue.listening(2)
        venue.resume()
        expected = [b"%d:%b" % (n + 1, frame) for n, frame in enumerate(FRAMES)]
        assert (await receive(one, 51))[1:] == expected
        assert (await receive(two, 51))[1:] == expected


async def test_a_rate_spreads_the_frames_over_several_writes():
    async with LoopbackVenue(Recording(FRAMES, rate=20)) as venue, dial(venue) as ws:
        await receive(ws, 1)
        assert venue.played < len(FRAMES)


async def test_a_flood_is_played_at_once_whatever_the_rate():
    async with LoopbackVenue(Recording(FRAMES, rate=0.001)) as venue, dial(venue) as ws:
        venue.flood(40)
        assert await receive(ws, 40) == FRAMES[:40]


async def test_a_loop_never_ends():
    async with LoopbackVenue(Recording(FRAMES, loop=True)) as venue, dial(venue) as ws:
        assert await receive(ws, 120) == (FRAMES * 3)[:120]


async def test_a_slow_reader_holds_the_recording_up_instead_of_filling_memory():
    frames = Recording([b"x" * 10_000] * 20_000)
    async with LoopbackVenue(frames, keep=False) as venue, connect(venue.url, max_queue=1) as ws:
        await receive(ws, 1)
        assert not venue.ended
        played = venue.played
        assert played < 20_000
        await receive(ws, played)
        await venue.until(lambda: venue.played > played)
        ws.transport.abort()


async def test_compressed_frames_are_the_same_frames():
    async with (
        LoopbackVenue(FRAMES, compression=True) as venue,
        dial(venue, compression="deflate") as ws,
    ):
        assert ws.protocol.extensions
        assert await receive(ws, len(FRAMES)) == FRAMES


# ── what it keeps ────────────────────────────────────────────────────────────────


async def test_commands_and_messages_are_kept_in_order():
    async with LoopbackVenue(FRAMES[:2], CountingFace()) as venue, dial(venue) as ws:
        await ws.send("a")
        await venue.finished()
        (client,) = venue.clients
        assert client.commands == [b"a"]
        assert client.sent == [b"ok:a", b'1:{"n":0}', b'2:{"n":1}']
        assert client.data == client.sent[1:]
        assert client.sent == await receive(ws, 3)


async def test_fragmented_commands_arrive_whole():
    async with LoopbackVenue((), CountingFace()) as venue, dial(venue) as ws:
        await ws.send(["he", "l", "lo"])
        assert await receive(ws, 1) == [b"ok:hello"]


async def test_without_keeping_only_counts_remain():
    async with LoopbackVenue(FRAMES, keep=False) as venue, dial(venue):
        await venue.finished()
        (client,) = venue.clients
        assert (client.sent, client.data) == ([], [])
        assert (client.sent_count, client.data_count) == (50, 50)
        assert client.sent_bytes == sum(map(len, FRAMES))


async def test_the_digest_tells_different_messages_apart():
    digests = set()
    for frames in (FRAMES, FRAMES, FRAMES[::-1]):
        async with LoopbackVenue(frames) as venue, dial(venue):
            await venue.finished()
            digests.add(venue.clients[0].digest)
    assert len(digests) == 2


async def test_a_client_that_left_is_told_from_one_that_stays():
    async with LoopbackVenue() as venue:
        async with dial(venue):
            await venue.listening()
        async with dial(venue):
            await venue.until(lambda: not venue.clients[0].open)
            assert [client.open for client in venue.clients] == [False, True]
            assert venue.clients[0].close_code == 1000


# ── handshakes ───────────────────────────────────────────────────────────────────


async def test_the_face_refuses_with_status_and_body():
    async with LoopbackVenue((), CountingFace()) as venue:
        with pytest.raises(InvalidStatus) as refused:
            await connect(venue.url)
        assert refused.value.response.status_code == 403
        assert refused.value.response.body == b'{"no":1}'
        assert refused.value.response.headers["Content-Type"] == "application/json"
        assert [attempt.path for attempt in venue.attempts] == ["/feed?v=1"]
        assert not venue.clients


async def test_a_subprotocol_is_agreed_upon():
    async with (
        LoopbackVenue((), CountingFace()) as venue,
        dial(venue, subprotocols=["acme.v1"]) as ws,
    ):
        assert ws.subprotocol == "acme.v1"


async def test_handshakes_are_refused_until_resume():
    async with LoopbackVenue() as venue:
        venue.refuse(401, '{"code":"authentication_error"}')
        with pytest.raises(InvalidStatus) as refused:
            await connect(venue.url)
        assert refused.value.response.status_code == 401
        venue.resume()
        async with dial(venue):
            pass
        assert len(venue.attempts) == 2


async def test_headers_stay_out_of_the_repr():
    async with LoopbackVenue((), CountingFace()) as venue, dial(venue):
        await venue.until(lambda: venue.clients)
        assert "open" not in repr(venue.attempts[0])
        assert venue.attempts[0].headers["x-key"] == "open"


async def test_a_down_venue_refuses_tcp_and_comes_back_on_its_port():
    async with LoopbackVenue() as venue:
        async with dial(venue) as ws:
            venue.go_down()
            await ended_how(ws)
        with pytest.raises(ConnectionRefusedError):
            await connect(venue.url)
        port = venue.port
        await venue.come_back()
        assert venue.port == port
        async with dial(venue):
            pass


async def test_plain_http_is_told_to_upgrade():
    async with LoopbackVenue() as venue:
        reader, writer = await asyncio.open_connection("127.0.0.1", venue.port)
        writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        assert (await reader.readline()).startswith(b"HTTP/1.1 426")
        writer.close()
        await writer.wait_closed()


# ── faults of connections ────────────────────────────────────────────────────────


async def test_a_cut_resets_the_connection():
    async with LoopbackVenue(FRAMES) as venue, dial(venue) as ws:
        await receive(ws, len(FRAMES))
        venue.cut()
        closed = await ended_how(ws)
        assert isinstance(closed, ConnectionClosedError)
        assert isinstance(closed.__cause__, ConnectionResetError)


async def test_a_cut_in_mid_frame_leaves_half_a_frame():
    async with LoopbackVenue() as venue:
        with socket.create_connection(("127.0.0.1", venue.port)) as sock:
            sock.settimeout(0)
            loop = asyncio.get_running_loop()
            await loop.sock_sendall(
                sock,
                b"GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n",
            )
            await loop.sock_recv(sock, 4096)
            venue.cut(mid_frame=True)
            got = b""
            with pytest.raises(ConnectionResetError):  # noqa: PT012  reads until the reset
                while True:
                    got += await loop.sock_recv(sock, 4096)
            assert got
            assert len(got) < 2 + got[1]


async def test_only_the_given_client_is_cut():
    async with LoopbackVenue() as venue, dial(venue) as one, dial(venue) as two:
        await venue.listening(2)
        venue.cut(client=venue.clients[1])
        await ended_how(two)
        venue.inject(b"still here")
        assert await receive(one, 1) == [b"still here"]


async def test_a_close_carries_code_and_reason():
    async with LoopbackVenue() as venue, dial(venue) as ws:
        await venue.listening()
        venue.close(1012, "service restart")
        closed = await ended_how(ws)
        assert (closed.rcvd.code, closed.rcvd.reason) == (1012, "service restart")
        await venue.until(lambda: not venue.clients[0].open)
        assert venue.clients[0].close_code == 1012


async def test_silence_stops_data_while_pings_and_replies_go_on():
    async with (
        LoopbackVenue(Recording(FRAMES, rate=500), CountingFace()) as venue,
        dial(venue) as ws,
    ):
        await ws.send("a")
        await receive(ws, 3)
        venue.silence()
        played = venue.clients[0].data_count
        await receive(ws, played - 2)
        await ws.send("b")
        assert await receive(ws, 1) == [b"ok:b"]
        await (await ws.ping())
        venue.ping(b"alive")
        await venue.until(lambda: b"alive" in venue.clients[0].pongs)
        assert venue.clients[0].data_count == played
        venue.resume()
        assert await receive(ws, 1) == [b"%d:%b" % (played + 1, FRAMES[played])]


async def test_a_half_open_connection_says_nothing_until_resume():
    async with LoopbackVenue() as venue, dial(venue) as ws:
        await venue.listening()
        venue.half_open()
        venue.inject(b"lost")
        pong = await ws.ping()
        answered, _ = await asyncio.wait([pong], timeout=0.2)
        assert not answered
        venue.resume()
        with anyio.fail_after(5):
            await pong


async def test_a_half_open_connection_does_not_use_the_recording_up():
    async with LoopbackVenue(FRAMES, silent=True) as venue, dial(venue) as ws:
        await venue.listening()
        venue.half_open()
        venue.play()
        async with dial(venue) as other:
            assert await receive(other, len(FRAMES)) == FRAMES
        venue.inject(b"x")
        assert venue.clients[0].sent_count == 0
        ws.transport.abort()


async def test_a_deaf_venue_goes_on_sending():
    async with LoopbackVenue(FRAMES, CountingFace(), silent=True) as venue, dial(venue) as ws:
        await ws.send("a")
        await venue.listening()
        venue.deafen()
        await ws.send("b")
        venue.play()
        assert len(await receive(ws, 51)) == 51
        assert venue.clients[0].commands == [b"a"]
        venue.resume()
        await venue.until(lambda: venue.clients[0].commands == [b"a", b"b"])


# ── faults of messages ───────────────────────────────────────────────────────────


@pytest.mark.parametrize("kind", list(Garbage))
async def test_garbage_arrives_verbatim(kind):
    async with LoopbackVenue() as venue, dial(venue) as ws:
        await venue.listening()
        venue.garble(kind)
        assert await receive(ws, 1) == [kind.value]
        assert venue.clients[0].sent == [kind.value]
        assert not venue.clients[0].data


@pytest.mark.parametrize("kind", [Garbage.NOT_JSON, Garbage.INVALID_UTF8])
def test_garbage_is_not_json(kind):
    with pytest.raises(ValueError):  # noqa: PT011  one of JSON, one of UTF-8
        json.loads(kind.value)


async def test_an_oversized_message_ends_a_client_with_a_limit():
    async with LoopbackVenue() as venue, dial(venue, max_size=1000) as ws:
        await venue.listening()
        venue.oversize(1000)
        (message,) = await receive(ws, 1)
        assert len(json.loads(message)) == 998
        venue.oversize(1001)
        assert (await ended_how(ws)).sent.code == 1009


async def test_skipped_frames_leave_a_hole_in_the_numbers():
    async with LoopbackVenue(FRAMES, CountingFace(), silent=True) as venue, dial(venue) as ws:
        await ws.send("a")
        await venue.listening()
        venue.skip(3)
        venue.play()
        numbers = [int(m.split(b":")[0]) for m in (await receive(ws, 48))[1:]]
        assert numbers == list(range(4, 51))
        assert len(venue.clients[0].withheld) == 3


async def test_only_matching_frames_are_skipped():
    async with LoopbackVenue(FRAMES, silent=True) as venue, dial(venue) as ws:
        await venue.listening()
        venue.skip(2, b'"n":2')
        venue.play()
        received = await receive(ws, 48)
        missing = [frame for frame in FRAMES if frame not in received]
        assert missing == [b'{"n":2}', b'{"n":20}']
        assert all(a < b for a, b in pairwise(json.loads(m)["n"] for m in received))


async def test_errors_take_the_place_of_data_and_data_comes_back():
    async with LoopbackVenue(Recording(FRAMES, rate=500), silent=True) as venue, dial(venue) as ws:
        await venue.listening()
        venue.errors_only(b'{"type":"error"}')
        venue.play()
        assert await receive(ws, 3) == [b'{"type":"error"}'] * 3
        venue.resume()
        with anyio.fail_after(10):
            while (message := await ws.recv(decode=False)) == b'{"type":"error"}':
                pass
        assert message == FRAMES[0]


async def test_lost_replies_are_carried_out_all_the_same():
    async with LoopbackVenue((), CountingFace()) as venue, dial(venue) as ws:
        venue.lose_replies(1)
        await ws.send("a")
        await ws.send("b")
        assert await receive(ws, 1) == [b"ok:b"]
        assert venue.clients[0].state["hello"]


async def test_delayed_replies_come_after_what_was_sent_meanwhile():
    async with LoopbackVenue((), CountingFace()) as venue, dial(venue) as ws:
        venue.delay_replies(0.05)
        await ws.send("a")
        await venue.until(lambda: venue.clients and venue.clients[0].commands)
        venue.inject(b"first")
        assert await receive(ws, 2) == [b"first", b"ok:a"]


async def test_the_venue_pings_with_its_own_body():
    async with LoopbackVenue((), CountingFace(), ping_seconds=0.01) as venue, dial(venue):
        await venue.until(lambda: venue.clients and venue.clients[0].pongs)
        assert venue.clients[0].pongs[0] == b"heartbeat"


# ── the host itself ──────────────────────────────────────────────────────────────


async def test_a_broken_face_is_heard_of():
    async def visit():
        async with LoopbackVenue((), CountingFace()) as venue, dial(venue) as ws:
            await ws.send("boom")
            await anyio.sleep(10)

    with pytest.raises(LookupError, match="broken"):
        await visit()


async def test_a_frame_that_the_face_cannot_render_is_heard_of():
    class Broken(PlainFace):
        def render(self, item, client):
            raise LookupError("the face is broken")

    with pytest.raises(LookupError, match="broken"):
        async with LoopbackVenue(FRAMES, Broken()) as venue, dial(venue):
            await anyio.sleep(10)


async def test_what_a_test_raises_comes_out_as_it_is():
    with pytest.raises(ZeroDivisionError):
        async with LoopbackVenue():
            raise ZeroDivisionError


async def test_waiting_for_what_never_happens_times_out():
    async with LoopbackVenue() as venue:
        with pytest.raises(TimeoutError):
            await venue.listening(seconds=0.01)


async def test_leaving_ends_every_connection():
    async with LoopbackVenue(Recording(FRAMES, loop=True), PlainFace()) as venue:
        ws = await dial(venue)
        await receive(ws, 1)
    assert isinstance(await ended_how(ws), ConnectionClosedError)
    with pytest.raises(ConnectionRefusedError):
        await connect(venue.url)
