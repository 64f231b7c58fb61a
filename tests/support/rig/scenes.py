"""The course of a scenario at a venue: it trades, faults come, it rests, all is judged."""

from rig.conservation import judge_archive, judge_bus
from rig.truth import judge_trades
from rig.venues import all_received, all_repaired, live_recording, settings
from ssmd_core.testing import LoopbackVenue


def venue_for(face, rate=500, *, markets=20, **more):
    """Return a venue that goes on while nobody listens, and has not begun."""
    recording = live_recording(rate, markets=markets)
    return LoopbackVenue(recording, face, silent=True, waits=False, **more)


async def started(run, venue, yaml, archive, bus, **values):
    """Start, and let the venue trade from a moment on when all of it is captured."""
    await bus.add_stream()
    run.write(
        yaml.feed.format(endpoint=venue.url) + settings(**values),
        yaml.both.format(url=bus.url, path=archive.path),
    )
    await run.start().ready()
    venue.play()
    await run.counts("archived_total", 300)


async def rest(run, venue, archive):
    """Let the venue rest, and wait until everything is where it belongs."""
    venue.silence()
    await all_received(run, venue)
    await all_repaired(run, archive)


async def judge(run, archive, bus, venue, face, *, crashes=0, given_up=False):
    """Judge archive, ledger and bus against what happened at the venue, and let verify judge."""
    books = judge_archive(archive.path, venue, crashes=crashes)
    messages = await bus.messages()
    judge_bus(books, messages)
    judge_trades(books, face, messages, given_up=given_up)
    assert books.dropped("storage") == books.dropped("transport") == 0
    assert await run.verify(archive.path, "--bus", bus.url) == 0, run.log()
    return books


def causes(books):
    """Return cause and code of every session that ended before the stop."""
    ends = [(each["cause"], each["code"]) for each in books.events("session_closed")]
    assert ends[-1] == ("stopped", 1000)
    return [each for each in ends if each[0] != "stopped"]


def only_the_venue(reasons):
    """Check that nothing but the connection was ever a reason for not being ready."""
    assert [each for each in reasons if not each.startswith(("connection ", "stopping"))] == []
