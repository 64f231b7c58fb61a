"""A connector that is held up until the venue cuts it: it reads late what came before the cut."""

import signal

import anyio
import pytest

from rig.scenes import causes, judge, rest, started, venue_for
from rig.truth import TruthfulFace
from ssmd_core.testing import until

pytestmark = pytest.mark.anyio

SECONDS = [8, pytest.param(40, marks=[pytest.mark.soak, pytest.mark.timeout(300)])]


@pytest.fixture
def face(key):
    return TruthfulFace.for_key(key)


@pytest.mark.parametrize("seconds", SECONDS)
@pytest.mark.parametrize("then", ["goes on", "is killed"])
async def test_trades_lost_behind_frames_that_were_read_late_are_brought_back(
    then, seconds, program, archive, yaml, face, bus
):
    # So much that the socket's buffers fill: what the venue still holds is lost with them.
    async with venue_for(face, rate=3_000) as venue:
        run = program()
        await started(run, venue, yaml, archive, bus)
        run.process.send_signal(signal.SIGSTOP)
        await anyio.sleep(seconds)
        before = len(archive.lines())
        venue.cut()
        run.process.send_signal(signal.SIGCONT)
        if then == "is killed":
            await until(lambda before=before: len(archive.lines()) > before)
            run.kill()
            run.start()
        await run.ready()
        before = await run.metric("archived_total")
        await run.counts("archived_total", before + 500)
        await rest(run, venue, archive)
        assert await run.stop() == 0, run.log()
    crashed = then == "is killed"
    books = await judge(run, archive, bus, venue, face, crashes=int(crashed))
    assert 1 <= len(causes(books)) <= 1 + crashed
    assert books.events("repaired")
