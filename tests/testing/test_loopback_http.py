"""The loopback venue's plain HTTP: on the same port, with the faults that REST has."""

import asyncio

import anyio
import pytest
from websockets.asyncio.client import connect

from ssmd_core.errors import FetchFailed
from ssmd_core.feed.fetch import get
from ssmd_core.feed.repair import Fetch
from ssmd_core.testing import Answer, LoopbackVenue, PlainFace, Recording, until

pytestmark = pytest.mark.anyio

FRAMES = [b'{"n":%d}' % n for n in range(50)]
LONG = [b'{"n":%d}' % n for n in range(500)]


class PastFace(PlainFace):
    """Says over HTTP what has been played so far."""

    def __init__(self):
        self.past = []

    def advance(self, item):
        self.past.append(item)

    def serve(self, request):
        if request.path == "/broken":
            raise LookupError("the face is broken")
        if request.path != "/past":
            return None
        return Answer(b"[%b]" % b",".join(self.past), content_type="application/x-past")


@pytest.fixture
def anyio_backend():
    return "asyncio"


def fetch_of(venue, path="/past"):
    return Fetch(url=f"http://127.0.0.1:{venue.port}{path}")


async def exchange(venue, path):
    """Return the raw answer to a GET."""
    reader, writer = await asyncio.open_connection("127.0.0.1", venue.port)
    writer.write(b"GET %b HTTP/1.1\r\nHost: x\r\n\r\n" % path)
    with anyio.fail_after(10):
        answer = await reader.read()
    writer.close()
    return answer


async def test_a_plain_request_is_answered_on_the_port_of_the_websocket():
    async with LoopbackVenue(FRAMES, PastFace()) as venue, connect(venue.url, max_queue=None):
        await venue.finished()
        assert await get(fetch_of(venue)) == b"[%b]" % b",".join(FRAMES)
        answer = await exchange(venue, b"/past")
    assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
    assert b"application/x-past" in answer
    assert [request.path for request in venue.requests] == ["/past", "/past"]
    assert len(venue.attempts) == 1


async def test_what_the_face_does_not_serve_is_told_to_upgrade():
    async with LoopbackVenue([], PastFace()) as venue:
        assert b" 426 " in (await exchange(venue, b"/")).partition(b"\r\n")[0]
    assert len(venue.requests) == 0


async def test_requests_fail_so_often_and_then_no_more():
    async with LoopbackVenue([], PastFace()) as venue:
        venue.fail_requests(429, 2)
        for _ in range(2):
            with pytest.raises(FetchFailed, match="429"):
                await get(fetch_of(venue))
        assert await get(fetch_of(venue)) == b"[]"
    assert len(venue.requests) == 3


async def test_a_garbled_body_ends_early_as_if_it_were_whole():
    face = PastFace()
    face.past = FRAMES
    async with LoopbackVenue([], face) as venue:
        venue.garble_requests()
        half = await get(fetch_of(venue))
        whole = await get(fetch_of(venue))
    assert half == whole[: len(whole) // 2]


async def test_a_cut_request_breaks_in_the_middle_of_its_body():
    async with LoopbackVenue([], PastFace()) as venue:
        venue.cut_requests()
        with pytest.raises(FetchFailed):
            await get(fetch_of(venue))
        assert await get(fetch_of(venue)) == b"[]"


async def test_delayed_requests_are_answered_late_until_resume():
    async with LoopbackVenue([], PastFace()) as venue:
        venue.delay_requests(60)
        with anyio.move_on_after(0.2) as scope:
            await get(fetch_of(venue))
        assert scope.cancelled_caught
        venue.resume()
        assert await get(fetch_of(venue)) == b"[]"


async def test_a_face_that_breaks_on_a_request_is_heard_of():
    with pytest.raises(LookupError, match="broken"):
        await ask_for_what_breaks()


async def ask_for_what_breaks():
    async with LoopbackVenue([], PastFace()) as venue:
        with pytest.raises(FetchFailed, match="500"):
            await get(fetch_of(venue, "/broken"))
        await anyio.sleep(10)


async def test_a_venue_that_does_not_wait_plays_on_while_nobody_listens():
    face = PastFace()
    async with LoopbackVenue(Recording(LONG, rate=500), face, waits=False) as venue:
        await anyio.wait_all_tasks_blocked()
        assert venue.played == 0
        async with connect(venue.url, max_queue=None):
            await until(lambda: venue.played)
            venue.cut()
        venue.flood(len(LONG))
        await venue.until(lambda: venue.ended)
    assert face.past == LONG
    assert 0 < venue.clients[0].data_count < len(LONG)


async def test_a_silence_holds_up_a_venue_that_does_not_wait():
    async with LoopbackVenue(Recording(LONG, rate=500), PastFace(), waits=False) as venue:
        async with connect(venue.url, max_queue=None):
            await until(lambda: venue.played)
            venue.silence()
            silent_from = venue.played
        await venue.until(lambda: not venue.clients[0].open)
        assert venue.played == silent_from < len(LONG)
        venue.play()
        venue.flood(len(LONG))
        await venue.until(lambda: venue.ended)
