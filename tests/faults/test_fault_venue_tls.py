"""A venue behind TLS: whom the program trusts, and what a cut and a stall in the cipher do."""

import pytest

from rig.certificates import self_signed
from rig.proxy import Proxy
from rig.scenes import causes, judge, only_the_venue, rest, venue_for
from rig.truth import TruthfulFace
from rig.venues import settings, watched

pytestmark = pytest.mark.anyio


@pytest.fixture
def face(key):
    return TruthfulFace.for_key(key)


async def test_a_venue_behind_tls_is_trusted_by_its_certificate_and_repaired_over_https(
    program, archive, yaml, face, bus, tmp_path
):
    stranger, known = tmp_path / "stranger.pem", tmp_path / "known.pem"
    self_signed(stranger)
    context = self_signed(known)
    trusted = tmp_path / "trusted.pem"
    trusted.write_bytes(stranger.read_bytes())
    await bus.add_stream()
    async with venue_for(face) as venue, Proxy(venue.port, ssl=context) as proxy:
        run = program(SSL_CERT_FILE=str(trusted))
        run.write(
            yaml.feed.format(endpoint=f"wss://127.0.0.1:{proxy.port}{face.path}")
            + settings(stale_seconds=2.0),
            yaml.both.format(url=bus.url, path=archive.path),
        )
        run.start()
        await run.says("certificate verify failed")
        assert not venue.attempts, "it was talked to all the same"
        trusted.write_bytes(known.read_bytes())
        await run.ready()
        venue.play()
        await run.counts("archived_total", 300)
        async with watched(run) as reasons:
            proxy.reset()
            await run.says("cut: ")
            await run.ready()
            proxy.stall()
            await run.says("stale: no bytes from the venue")
            proxy.go_on()
            await run.ready()
            await rest(run, venue, archive)
        only_the_venue(reasons)
        assert await run.stop() == 0, run.log()
    books = await judge(run, archive, bus, venue, face)
    assert causes(books) == [("cut", 1006), ("stale", None)]
    assert len(books.events("repaired")) == 2
