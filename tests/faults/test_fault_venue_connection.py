"""A venue that closes, cuts, falls silent, keeps a dead socket open, or refuses us after all."""

import pytest

from rig.scenes import causes, judge, only_the_venue, rest, started, venue_for
from rig.truth import TruthfulFace, judge_gaps
from rig.venues import watched

pytestmark = pytest.mark.anyio


@pytest.fixture
def face(key):
    return TruthfulFace.for_key(key)


ENDINGS = [
    [("closed", 1001), ("cut", 1006), ("closed", 1011)],
    [("closed", 1012), ("mid_frame", 1006), ("closed", 1013)],
]


@pytest.mark.parametrize("endings", ENDINGS, ids=["1001-1006-1011", "1012-1006-1013"])
async def test_connections_that_the_venue_ends_come_back_and_their_holes_are_filled(
    endings, program, archive, yaml, face, bus
):
    async with venue_for(face) as venue:
        run = program()
        await started(run, venue, yaml, archive, bus)
        async with watched(run) as reasons:
            for how, code in endings:
                before = await run.metric("archived_total")
                if how == "closed":
                    venue.close(code, f"because of {code}")
                else:
                    venue.cut(mid_frame=how == "mid_frame")
                await run.says(f"because of {code}" if how == "closed" else "cut:")
                await run.ready()
                await run.counts("archived_total", before + 200)
            await rest(run, venue, archive)
        assert await run.stop() == 0, run.log()
    only_the_venue(reasons)
    books = await judge(run, archive, bus, venue, face)
    assert causes(books) == [
        ("closed" if how == "closed" else "cut", code) for how, code in endings
    ]
    assert not judge_gaps(books), "a reconnect is no gap of the numbers"
    assert len(books.events("repaired")) == len(endings)


async def test_a_half_open_socket_and_a_silence_with_working_pings_are_given_up(
    program, archive, yaml, face, bus
):
    async with venue_for(face, ping_seconds=0.4) as venue:
        run = program()
        await started(run, venue, yaml, archive, bus, stale_seconds=1.5, silent_seconds=2.5)
        async with watched(run) as reasons:
            venue.half_open()
            await run.says("stale: no bytes from the venue")
            await run.ready()
            venue.resume()
            before = await run.metric("archived_total")
            await run.counts("archived_total", before + 200)
            venue.silence()
            await run.says("silent: no data")
            await run.ready()
            venue.play()
            await run.counts("archived_total", before + 500)
            await rest(run, venue, archive)
        assert await run.stop() == 0, run.log()
    only_the_venue(reasons)
    books = await judge(run, archive, bus, venue, face)
    assert causes(books) == [("stale", None), ("silent", None)]
    stale = books.events("stale")
    assert [each["cause"] for each in stale] == ["stale", "silent"]
    assert [each["session"] for each in stale] == [each.id for each in books.sessions()[:2]]
    assert not judge_gaps(books)
    assert len(books.events("repaired")) == 2


async def test_a_venue_that_refuses_us_after_a_good_session_is_asked_again_and_not_left(
    program, archive, yaml, face, bus
):
    async with venue_for(face) as venue:
        run = program()
        await started(run, venue, yaml, archive, bus)
        async with watched(run) as reasons:
            venue.refuse(503)
            venue.cut()
            await run.says("HTTP 503")
            venue.refuse(401, '{"code":"authentication_error"}')
            await run.says('HTTP 401 Unauthorized: {"code":"authentication_error"}')
            venue.resume()
            before = await run.metric("archived_total")
            # A refusal is asked about slowly: an account may be locked otherwise.
            await run.ready(30)
            await run.counts("archived_total", before + 200)
            await rest(run, venue, archive)
        assert await run.stop() == 0, run.log()
    only_the_venue(reasons)
    books = await judge(run, archive, bus, venue, face)
    assert causes(books) == [("cut", 1006)], "a handshake that fails opens no session"
    assert len(books.events("repaired")) == 1
