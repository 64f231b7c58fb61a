"""REST that fails for good, for a while, or while the connector is killed in mid-repair."""

import pytest

from rig.scenes import judge, rest, started, venue_for
from rig.truth import TruthfulFace, first_receipts
from rig.venues import all_repaired, watched
from ssmd_core.testing import until

pytestmark = pytest.mark.anyio


@pytest.fixture
def face(key):
    return TruthfulFace.for_key(key)


async def missed(run, venue):
    """Cut, and wait until some trades went by with nobody there to hear them."""
    venue.cut()
    await run.says("connection 0: ")
    await run.ready()


async def test_rest_that_fails_for_good_leaves_the_hole_on_record_and_the_capture_alone(
    program, archive, yaml, face, bus
):
    async with venue_for(face) as venue:
        run = program()
        await started(run, venue, yaml, archive, bus)
        for status, count in [(404, 1), (403, 1)]:
            venue.fail_requests(status, count)
            await missed(run, venue)
            async with watched(run) as reasons:
                failed = len(archive.ledger("unrepaired"))
                await until(lambda failed=failed: len(archive.ledger("unrepaired")) > failed)
                before = await run.metric("archived_total")
                await run.counts("archived_total", before + 100)
            assert reasons == {}, "a repair that fails is no reason for not being ready"
        await rest(run, venue, archive)
        assert await run.stop() == 0, run.log()
    books = await judge(run, archive, bus, venue, face, given_up=True)
    assert [each["reason"] for each in books.events("unrepaired")] == ["HTTP 404", "HTTP 403"]
    assert not books.events("repaired")
    assert face.trades().keys() - first_receipts(books).keys(), (
        "nothing was missed, so nothing was shown"
    )


async def test_rest_that_fails_in_every_passing_way_is_asked_until_it_answers(
    program, archive, yaml, face, bus
):
    async with venue_for(face) as venue:
        run = program()
        await started(run, venue, yaml, archive, bus)
        venue.fail_requests(429)
        venue.cut_requests(1)
        venue.fail_requests(503)
        await missed(run, venue)
        async with watched(run) as reasons:
            await rest(run, venue, archive)
        assert reasons == {}
        assert await run.stop() == 0, run.log()
    books = await judge(run, archive, bus, venue, face)
    assert len(books.events("repaired")) == 1
    assert len(venue.requests) == 4


@pytest.mark.parametrize(
    ("ending", "afterwards"),
    [("kill", "repaired"), ("kill", "unrepaired"), ("stop", "repaired")],
)
async def test_a_repair_that_an_end_cut_short_is_taken_up_by_the_next_run_or_given_up_on_record(
    ending, afterwards, program, archive, yaml, face, bus
):
    async with venue_for(face) as venue:
        run = program()
        await started(run, venue, yaml, archive, bus)
        venue.delay_requests(60)
        await missed(run, venue)
        await until(lambda: venue.requests, 20)
        if ending == "kill":
            run.kill()
        else:
            assert await run.stop() == 0, run.log()
            assert [each["reason"] for each in archive.ledger("unrepaired")] == ["stopped"]
        assert not archive.text(".rest"), "the repair was over before its end"
        venue.resume()
        if afterwards == "unrepaired":
            venue.fail_requests(404, 1)
        await run.start().ready()
        await all_repaired(run, archive)
        await rest(run, venue, archive)
        assert await run.stop() == 0, run.log()
    books = await judge(
        run,
        archive,
        bus,
        venue,
        face,
        crashes=1 if ending == "kill" else 0,
        given_up=afterwards == "unrepaired",
    )
    told = books.events(afterwards)[-1]
    first, second, _ = books.events("session_opened")
    assert told["from_ts"] < second["ts"], "the hole of the first run is part of it"
    assert first["ts"] < told["from_ts"]
