"""The driver against a real server: every sort of message, in order, and what ends it."""

import asyncio
import contextlib
import socket
from itertools import pairwise

import anyio
import anyio.lowlevel
import pytest
from websockets.asyncio.server import serve

from rig.certificates import self_signed
from rig.loops import LOOPS
from ssmd_core.errors import ConnectionEnded
from ssmd_core.feed.dialing import dial
from ssmd_core.feed.plan import Endpoint
from ssmd_core.testing import until

pytestmark = pytest.mark.anyio
anyio_backend = pytest.fixture(params=LOOPS)(lambda request: request.param)

TEXT = '{"n":%d}'


class Ears:
    """Hears a connection."""

    def __init__(self):
        self.frames = []
        self.wakeups = 0
        self.binary = set()
        self.bytes = self.pongs = 0

    def on_bytes(self, count):
        self.bytes += count

    def on_frames(self, frames, binary):
        self.binary |= {len(self.frames) + position for position in binary}
        self.frames += frames
        self.wakeups += 1

    def on_pong(self):
        self.pongs += 1


@contextlib.asynccontextmanager
async def connected(talk, **values):
    """Dial a server that says what ``talk`` tells it to."""
    options = {"compression": None, **values.pop("server", {})}
    async with serve(talk, "127.0.0.1", 0, **options) as server:
        port = server.sockets[0].getsockname()[1]
        ears = values.pop("ears", None) or Ears()
        scheme = "wss" if options.get("ssl") else "ws"
        every = values.pop("read_every_seconds", 0.0)
        endpoint = Endpoint(url=f"{scheme}://127.0.0.1:{port}", **values)
        connection = await dial(endpoint, ears, on_reached=lambda: None, read_every_seconds=every)
        connection.start()
        try:
            yield connection, ears
        finally:
            await connection.close(1.0)


async def stay(ws):
    with contextlib.suppress(Exception):
        await ws.wait_closed()


@pytest.mark.parametrize("over", ["tcp", "deflate", "tls"])
async def test_messages_of_every_sort_come_whole_and_in_order(over, tmp_path, monkeypatch):
    server = {"compression": "deflate" if over == "deflate" else None}
    if over == "tls":
        server["ssl"] = self_signed(tmp_path / "venue.pem")
        monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "venue.pem"))

    async def talk(ws):
        for n in range(0, 40, 4):
            await ws.send(TEXT % n)
            await ws.send(['{"n":', str(n + 1), "}"])
            await ws.ping()
            await ws.send(b"\x00binary %d" % (n + 2))
            await ws.send(TEXT % (n + 3) + " " * 70_000)
        await stay(ws)

    async with connected(talk, compression=over == "deflate", server=server) as (_, ears):
        await until(lambda: len(ears.frames) == 40)
        assert [frame.strip() for frame in ears.frames[::4]] == [
            (TEXT % n).encode() for n in range(0, 40, 4)
        ]
        assert ears.frames[1::4] == [(TEXT % n).encode() for n in range(1, 40, 4)]
        assert ears.frames[2::4] == [b"\x00binary %d" % n for n in range(2, 40, 4)]
        assert [len(frame) for frame in ears.frames[3::4]] == [
            70_000 + len(TEXT % n) for n in range(3, 40, 4)
        ]
        assert ears.binary == set(range(2, 40, 4))


async def test_pings_between_plain_texts_are_answered_and_ours_are_heard():
    answered = []

    async def talk(ws):
        for n in range(3):
            await ws.send(TEXT % n)
            answered.append(await (await ws.ping()))
        await stay(ws)

    async with connected(talk) as (connection, ears):
        connection.ping()
        await until(lambda: len(answered) == 3 and ears.pongs == 1)
        assert len(ears.frames) == 3


async def test_what_follows_a_message_above_the_limit_is_not_read():
    async def talk(ws):
        await ws.send(TEXT % 1)
        await ws.send("x" * 2_000)
        await ws.send(TEXT % 2)
        await stay(ws)

    async with connected(talk, max_frame_bytes=1_000) as (connection, ears):
        with anyio.fail_after(10):
            why = await connection.wait_ended()
        assert (why.cause, why.code) == ("frame_too_large", 1009)
        assert ears.frames == [(TEXT % 1).encode()]


@pytest.mark.parametrize("code", [1000, 1011])
async def test_what_came_before_a_close_is_handed_over_with_it(code):
    async def talk(ws):
        for n in range(500):
            await ws.send(TEXT % n)
        await ws.close(code, "enough")

    async with connected(talk) as (connection, ears):
        with anyio.fail_after(10):
            why = await connection.wait_ended()
        assert (why.cause, why.code, why.detail) == ("closed", code, "enough")
        assert ears.frames == [(TEXT % n).encode() for n in range(500)]


async def test_texts_that_come_with_the_handshake_wait_for_the_start():
    async def talk(ws):
        await ws.send(TEXT % 1)
        await stay(ws)

    async with serve(talk, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        ears = Ears()
        url = f"ws://127.0.0.1:{port}"
        connection = await dial(Endpoint(url=url), ears, on_reached=lambda: None)
        await until(lambda: ears.bytes > 0)
        assert not ears.frames
        connection.start()
        await until(lambda: ears.frames)
        await connection.close(1.0)


async def test_a_socket_that_is_read_now_and_then_brings_all_in_fewer_wake_ups():
    async def talk(ws):
        for n in range(100):
            await ws.send(TEXT % n)
            await anyio.sleep(0.001)
        await stay(ws)

    async with connected(talk, read_every_seconds=0.05) as (connection, ears):
        await until(lambda: len(ears.frames) == 100)
        assert ears.frames == [(TEXT % n).encode() for n in range(100)]
        assert ears.wakeups < 50
        connection.pause()
        await anyio.sleep(0.1)
        connection.ping()
        await anyio.sleep(0.1)
        assert not ears.pongs, "the end of a rest is not the end of a pause"
        connection.resume()
        await until(lambda: ears.pongs)


async def test_in_a_flood_other_sockets_are_heard_after_each_read():
    ours, theirs = socket.socketpair()
    heard_at = []

    class Asking(Ears):
        def on_frames(self, frames, binary):
            super().on_frames(frames, binary)
            theirs.send(b"x")

    async def talk(ws):
        message = "x" * 60_000
        for _ in range(500):
            await ws.send(f'"{message}"')
        await stay(ws)

    ears = Asking()
    loop = asyncio.get_running_loop()
    loop.add_reader(ours, lambda: heard_at.append(ears.wakeups) or ours.recv(100))
    try:
        async with connected(talk, ears=ears) as (connection, _):
            connection.pause()
            await anyio.sleep(0.5)  # so that much waits
            connection.resume()
            await until(lambda: len(ears.frames) == 500)
            await until(lambda: heard_at[-1] == ears.wakeups)
    finally:
        loop.remove_reader(ours)
        ours.close()
        theirs.close()
    waits = [after - before for before, after in pairwise([0, *heard_at])]
    assert max(waits) <= 3, "of the 32 reads in a row that uvloop would do"


async def test_a_rest_ends_with_nothing_with_much_and_with_a_close():
    go_on = anyio.Event()

    async def talk(ws):
        await ws.send(TEXT % 1)
        await ws.send(TEXT % 2)
        await go_on.wait()
        for n in range(3, 6_003):
            await ws.send(TEXT % n + " " * 100)
        await stay(ws)

    async with connected(talk, read_every_seconds=0.05) as (connection, ears):
        await until(lambda: len(ears.frames) == 2)
        await anyio.sleep(0.2)  # a rest in which nothing comes: the event loop waits again
        go_on.set()
        await until(lambda: len(ears.frames) == 6_002)
        assert [int(frame[5 : frame.index(b"}")]) for frame in ears.frames] == list(range(1, 6_003))
        assert ears.bytes > sum(map(len, ears.frames))
        with anyio.fail_after(5):
            await connection.close(4.0)
            assert (await connection.wait_ended()).code == 1000


@pytest.mark.parametrize("secure", [False, True])
async def test_what_came_during_a_rest_is_handed_over_when_the_venue_goes_without_a_word(
    secure, tmp_path, monkeypatch
):
    server = {}
    if secure:
        server["ssl"] = self_signed(tmp_path / "venue.pem")
        monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "venue.pem"))

    async def talk(ws):
        for n in range(300):
            await ws.send(TEXT % n)
            await anyio.lowlevel.checkpoint()
        if secure:
            ws.transport.abort()
        else:
            ws.transport.write_eof()

    async with connected(talk, read_every_seconds=0.2, server=server) as (connection, ears):
        with anyio.fail_after(10):
            await connection.wait_ended()
        assert ears.frames == [(TEXT % n).encode() for n in range(len(ears.frames))]
        assert secure or len(ears.frames) == 300


async def test_a_refusal_tells_what_the_server_said():
    def deny(connection, _):
        return connection.respond(403, "not you\n")

    async with serve(stay, "127.0.0.1", 0, process_request=deny) as server:
        port = server.sockets[0].getsockname()[1]
        with pytest.raises(ConnectionEnded) as refused:
            await dial(Endpoint(url=f"ws://127.0.0.1:{port}"), Ears(), on_reached=lambda: None)
    assert refused.value.status == 403
    assert "not you" in str(refused.value)
