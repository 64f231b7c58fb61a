"""What bad input gets: an exit code, a message a person can act on, and nothing lost."""

import base64
import json
import signal
import socket

import anyio
import anyio.lowlevel
import pytest
from nats.js.api import RetentionPolicy

from ssmd_core.testing import Garbage, LoopbackVenue, Recording
from ssmd_kalshi.venue import market_names, new_key, session

pytestmark = pytest.mark.anyio


@pytest.fixture
def calm():
    """A session that goes on for ever at a modest rate."""
    return Recording(session(3, market_names(10)), rate=500)


def write(run, yaml, venue, env, **fill):
    run.write(yaml.feed.format(endpoint=venue.url), env.format(**fill))
    return run


# ── before the venue is contacted: exit 2 ────────────────────────────────────────


async def test_missing_credentials_name_the_variable(program, yaml, face, archive):
    async with LoopbackVenue([], face) as venue:
        run = write(program(KALSHI_API_KEY=""), yaml, venue, yaml.file, path=archive.path)
        result = await run.run(*run.arguments, "--health-addr", "127.0.0.1:0")
        assert (result.returncode, len(venue.attempts)) == (2, 0)
    assert "KALSHI_API_KEY" in result.stderr


async def test_an_unreadable_key_names_the_variable_and_not_the_key(program, yaml, face, archive):
    async with LoopbackVenue([], face) as venue:
        secret = "-----BEGIN PRIVATE KEY-----\nSECRETSECRET\n-----END PRIVATE KEY-----"
        run = write(program(KALSHI_PRIVATE_KEY=secret), yaml, venue, yaml.file, path=archive.path)
        result = await run.run(*run.arguments, "--health-addr", "127.0.0.1:0")
        assert (result.returncode, len(venue.attempts)) == (2, 0)
    assert "KALSHI_PRIVATE_KEY" in result.stderr
    assert "SECRETSECRET" not in result.stderr + result.stdout


async def test_an_unknown_channel_lists_what_is_allowed_with_file_and_line(
    program, yaml, face, archive
):
    async with LoopbackVenue([], face) as venue:
        run = program()
        feed = yaml.feed.format(endpoint=venue.url) + "settings:\n  channels: [trade, fills]\n"
        run.write(feed, yaml.file.format(path=archive.path))
        result = await run.run(*run.arguments, "--health-addr", "127.0.0.1:0")
        assert (result.returncode, len(venue.attempts)) == (2, 0)
    assert "feed.yaml:10" in result.stderr
    assert "market_lifecycle_v2" in result.stderr


async def test_an_unwritable_directory_is_named(program, yaml, face, tmp_path):
    (tmp_path / "file").write_text("not a directory")
    async with LoopbackVenue([], face) as venue:
        run = write(program(), yaml, venue, yaml.file, path=tmp_path / "file" / "data")
        result = await run.run(*run.arguments, "--health-addr", "127.0.0.1:0")
        assert (result.returncode, len(venue.attempts)) == (2, 0)
    assert str(tmp_path / "file" / "data") in result.stderr


async def test_a_health_port_that_is_taken_is_named(program, yaml, face, archive):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        async with LoopbackVenue([], face) as venue:
            run = write(program(), yaml, venue, yaml.file, path=archive.path)
            result = await run.run(*run.arguments, "--health-addr", address)
            assert (result.returncode, len(venue.attempts)) == (2, 0)
    assert address in result.stderr
    assert not archive.path.exists()


async def test_a_second_connector_on_one_archive_names_the_first(
    program, yaml, face, archive, calm
):
    async with LoopbackVenue(calm, face) as venue:
        first = write(program(), yaml, venue, yaml.file, path=archive.path)
        await first.start().ready()
        second = write(program(), yaml, venue, yaml.file, path=archive.path)
        second.start()
        assert await second.wait(45) == 2
        assert len(venue.clients) == 1
        assert await first.stop() == 0
    assert ".kalshi.lock" in second.log()
    assert str(first.process.pid) in second.log()


async def test_a_start_that_waits_for_the_lock_can_be_stopped(program, yaml, face, archive, calm):
    async with LoopbackVenue(calm, face) as venue:
        first = write(program(), yaml, venue, yaml.file, path=archive.path)
        await first.start().ready()
        second = write(program(), yaml, venue, yaml.file, path=archive.path)
        second.start()

        async def waiting():
            return "archive" in await second.reasons()

        await anyio.lowlevel.checkpoint()
        with anyio.fail_after(15):
            while not await waiting():
                await anyio.sleep(0.05)
        assert await second.stop(5) == 0


async def test_without_a_stream_the_command_that_makes_one_is_named(program, yaml, face, bus):
    async with LoopbackVenue([], face) as venue:
        run = write(program(), yaml, venue, yaml.nats, url=bus.url)
        result = await run.run(*run.arguments, "--health-addr", "127.0.0.1:0")
        assert (result.returncode, len(venue.attempts)) == (2, 0)
    assert "nats stream add PROD_KALSHI" in result.stderr
    assert "prod.kalshi.>" in result.stderr


async def test_a_stream_with_other_subjects_is_not_enough(program, yaml, face, bus):
    await bus.add_stream("OTHER", ["prod.kalshi.trade.>"])
    async with LoopbackVenue([], face) as venue:
        run = write(program(), yaml, venue, yaml.nats, url=bus.url)
        result = await run.run(*run.arguments, "--health-addr", "127.0.0.1:0")
        assert (result.returncode, len(venue.attempts)) == (2, 0)
    assert "nats stream add" in result.stderr


async def test_a_shared_stream_of_another_name_serves(program, yaml, face, bus, calm):
    await bus.add_stream("EVERYTHING", ["prod.>"])
    async with LoopbackVenue(calm, face) as venue:
        run = write(program(), yaml, venue, yaml.nats, url=bus.url)
        await run.start().ready()
        await run.received(100)
        assert await run.stop() == 0
    assert await bus.count("EVERYTHING") >= 100


async def test_with_an_archive_a_missing_stream_is_not_ready_until_it_is_there(
    program, yaml, face, archive, bus, calm
):
    async with LoopbackVenue(calm, face) as venue:
        run = write(program(), yaml, venue, yaml.both, url=bus.url, path=archive.path)
        run.start()
        await run.says("nats stream add PROD_KALSHI")
        await run.received(100)
        assert (await run.get("/health")).status_code == 200
        await bus.add_stream()
        await run.ready(40)
        assert await run.stop() == 0
    records = await bus.records()
    assert len(records) == archive.publishable()


# ── the venue says no ────────────────────────────────────────────────────────────


async def test_refused_credentials_exit_3_at_once(program, yaml, face, archive):
    async with LoopbackVenue([], face) as venue:
        run = program(**new_key().environ)
        write(run, yaml, venue, yaml.file, path=archive.path)
        result = await run.run(*run.arguments, "--health-addr", "127.0.0.1:0")
        assert (result.returncode, len(venue.attempts)) == (3, 1)
    assert "401" in result.stderr.splitlines()[-1]


async def test_a_refused_subscription_is_not_ready_and_the_rest_is_captured(
    program, yaml, face, archive, calm
):
    class Choosy(type(face)):
        def answer(self, command, client):
            body = json.loads(command)
            if body["params"].get("channels") == ["trade"]:
                message = {"code": 8, "msg": "Unknown channel name"}
                return [json.dumps({"type": "error", "id": body["id"], "msg": message}).encode()]
            return super().answer(command, client)

    face.__class__ = Choosy
    async with LoopbackVenue(calm, face) as venue:
        run = write(program(), yaml, venue, yaml.file, path=archive.path)
        run.start()
        await run.says("Unknown channel name")
        await run.received(50)
        assert "trade" in await run.reasons()
        assert (await run.get("/health")).status_code == 200
        assert await run.stop() == 0
    (refused,) = archive.ledger("refused")
    assert (refused["channel"], refused["code"]) == ("trade", 8)


# ── what comes over the wire ─────────────────────────────────────────────────────


async def test_garbage_of_every_kind_is_archived_and_capture_goes_on(
    program, yaml, face, archive, calm
):
    async with LoopbackVenue(calm, face) as venue:
        run = write(program(), yaml, venue, yaml.file, path=archive.path)
        await run.start().ready()
        for kind in Garbage:
            venue.garble(kind)
        await run.counts("parse_errors_total", len(Garbage))
        assert (await run.get("/ready")).status_code == 200
        assert await run.stop() == 0
        assert len(venue.clients) == 1
    lines = [json.loads(line) for line in archive.lines()]
    raw = {base64.b64decode(line["raw"]) for line in lines if "raw" in line}
    assert raw == {kind.value for kind in Garbage}
    assert all(list(line) == ["ts", "feed", "raw"] for line in lines if "raw" in line)


async def test_a_frame_past_the_limit_closes_with_1009_and_a_new_session_begins(
    program, yaml, face, archive, calm
):
    async with LoopbackVenue(calm, face) as venue:
        run = write(program(), yaml, venue, yaml.file, path=archive.path)
        await run.start().ready()
        venue.oversize(10_000_000)
        await venue.until(lambda: len(venue.clients) == 2)
        await run.ready()
        text = (await run.get("/metrics")).text
        assert 'reconnects_total{feed="kalshi",reason="frame_too_large"} 1.0' in text
        assert venue.clients[0].close_code == 1009
        assert await run.stop() == 0
    first = archive.ledger("session_closed")[0]
    assert (first["cause"], first["code"]) == ("frame_too_large", 1009)


ODD = ["A B", "*", ">", "A.B.C", ".A", "A.", "A..B", "", "%41", "Ä€𝄞", "tab\there", "A" * 300]


async def test_odd_tickers_never_share_a_subject_and_all_arrive(
    program, yaml, verbatim, archive, bus
):
    await bus.add_stream()
    frames = [
        json.dumps(
            {
                "type": "trade",
                "sid": 2,
                "seq": number,
                "msg": {
                    "trade_id": f"id-{number}",
                    "market_ticker": ticker,
                    "yes_price_dollars": "0.5000",
                    "no_price_dollars": "0.5000",
                    "count_fp": "1.00",
                    "taker_side": "yes",
                    "ts": 1_795_000_000,
                    "ts_ms": 1_795_000_000_000,
                },
            }
        ).encode()
        for number, ticker in enumerate(ODD, 1)
    ]

    async with LoopbackVenue(Recording(frames), verbatim, silent=True) as venue:
        run = write(program(), yaml, venue, yaml.both, url=bus.url, path=archive.path)
        await run.start().ready()
        venue.play()
        await run.received(len(frames) + 2)
        assert await run.stop() == 0
    records = await bus.messages("prod.kalshi.trade.>")
    assert [m.headers["Nats-Msg-Id"] for m in records] == [
        f"kalshi:trade:id-{number}" for number in range(1, len(ODD) + 1)
    ]
    assert len({m.subject for m in records}) == len(ODD)
    tails = [m.subject.removeprefix("prod.kalshi.trade.") for m in records]
    assert tails[:4] == ["A%20B", "%2A", "%3E", "A.B.C"]
    assert tails[7:10] == ["%", "%2541", "Ä€𝄞"]


async def test_a_payload_over_the_limit_of_the_bus_is_declared_and_the_rest_goes_on(
    program, yaml, face, archive, bus
):
    bus.config.write_text("max_payload: 2KB\n")
    bus.start()
    await bus.add_stream()
    stream = session(3, market_names(3))
    frames = [frame for _ in range(400) if b'"type":"trade"' in (frame := next(stream))]
    monster = json.loads(frames[1])
    monster["msg"]["market_ticker"] = "M" * 3_000
    frames[1] = json.dumps(monster).encode()

    async with LoopbackVenue(Recording(frames), face, silent=True) as venue:
        run = write(program(), yaml, venue, yaml.both, url=bus.url, path=archive.path)
        await run.start().ready()
        venue.play()
        await run.received(len(frames) + 2)
        assert await run.stop() == 0
    assert len(archive.frames()) == len(frames) + 2
    records = await bus.messages("prod.kalshi.trade.>")
    assert len(records) == len(frames) - 1
    (dropped,) = archive.ledger("dropped")
    assert monster["msg"]["trade_id"] in dropped["message"]


async def test_a_full_stream_that_refuses_is_not_ready_and_says_why(
    program, yaml, face, archive, bus, calm
):
    await bus.add_stream(max_msgs=50, discard="new")
    async with LoopbackVenue(calm, face) as venue:
        run = write(program(), yaml, venue, yaml.both, url=bus.url, path=archive.path)
        run.start()
        await run.says("maximum messages", 30)
        seen = await run.metric("archived_total")
        await run.counts("archived_total", seen + 1)
        assert await run.stop() == 0


async def test_a_stream_that_takes_messages_away_is_no_trouble(
    program, yaml, face, archive, bus, calm
):
    await bus.add_stream(max_msgs=50, retention=RetentionPolicy.LIMITS)
    async with LoopbackVenue(calm, face) as venue:
        run = write(program(), yaml, venue, yaml.nats, url=bus.url)
        await run.start().ready()
        await run.received(500)
        assert await run.stop() == 0
    assert await bus.count() == 50


# ── signals ──────────────────────────────────────────────────────────────────────


async def test_a_second_signal_stops_at_once_with_1(program, yaml, face, bus, calm):
    await bus.add_stream()
    async with LoopbackVenue(calm, face) as venue:
        run = write(program(), yaml, venue, yaml.nats, url=bus.url)
        await run.start().ready()
        await run.received(100)
        bus.freeze()
        try:
            await run.received(300)
            run.process.send_signal(signal.SIGTERM)
            await run.says("stopping", 10)
            run.process.send_signal(signal.SIGTERM)
            assert await run.wait(5) == 1
        finally:
            bus.thaw()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_late_second_signal_does_not_undo_a_clean_stop(
    program, yaml, face, archive, calm, number
):
    async with LoopbackVenue(calm, face) as venue:
        run = write(program(), yaml, venue, yaml.file, path=archive.path)
        await run.start().ready()
        run.process.send_signal(signal.SIGTERM)
        with anyio.fail_after(15):
            while "stopped cleanly" not in run.log() and run.process.poll() is None:
                await anyio.sleep(0.001)
        run.process.send_signal(number)
        assert await run.wait() == 0
    assert json.loads(run.log().splitlines()[-1])["event"] == "stopped cleanly"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_at_any_moment_of_the_start_ends_it_with_0(
    program, yaml, face, archive, calm, number
):
    async with LoopbackVenue(calm, face) as venue:
        for moment in (0.25, 0.5, 0.75):
            run = write(program(), yaml, venue, yaml.file, path=archive.path)
            run.start()
            await anyio.sleep(moment)
            run.process.send_signal(number)
            assert await run.wait() == 0, run.log()


@pytest.mark.parametrize("name", ["cursor", "connector"])
async def test_a_value_beside_the_archive_that_cannot_be_read_stops_a_start(
    program, yaml, face, archive, bus, calm, name
):
    await bus.add_stream()
    (archive.path / f".kalshi.{name}").mkdir(parents=True)
    async with LoopbackVenue(calm, face) as venue:
        run = write(program(), yaml, venue, yaml.both, url=bus.url, path=archive.path)
        result = await run.run(*run.arguments, "--health-addr", "127.0.0.1:0")
        assert (result.returncode, len(venue.attempts)) == (2, 0)
    assert f".kalshi.{name}" in result.stderr


async def test_a_damaged_connector_id_is_made_anew(program, yaml, face, archive, bus, calm):
    await bus.add_stream()
    archive.path.mkdir()
    (archive.path / ".kalshi.connector").write_bytes(b"\x00\r\n bad\n")
    async with LoopbackVenue(calm, face) as venue:
        run = write(program(), yaml, venue, yaml.both, url=bus.url, path=archive.path)
        await run.start().ready()
        await run.received(100)
        assert await run.stop() == 0
    made = (archive.path / ".kalshi.connector").read_text().strip()
    assert made.isalnum()
    assert any(m.headers["Nats-Msg-Id"].split(":")[1] == made for m in await bus.messages())


async def test_what_the_bus_did_not_take_in_time_is_lost_without_an_archive(
    program, yaml, face, bus, calm
):
    await bus.add_stream()
    async with LoopbackVenue(calm, face) as venue:
        run = write(program(SSMD_SHUTDOWN_SECONDS="4"), yaml, venue, yaml.nats, url=bus.url)
        await run.start().ready()
        await run.received(100)
        bus.kill()
        await run.received(300)
        assert "bus" in await run.reasons()
        assert await run.stop(15) == 1
    last = json.loads(run.log().splitlines()[-1])
    assert last["lost"] > 0
    assert "lost" in last["event"]


async def test_with_an_archive_the_rest_is_published_at_the_next_start(
    program, yaml, face, archive, bus, calm
):
    await bus.add_stream()
    async with LoopbackVenue(calm, face) as venue:
        run = write(program(), yaml, venue, yaml.both, url=bus.url, path=archive.path)
        await run.start().ready()
        await run.received(100)
        bus.kill()
        await run.received(400)
        assert await run.stop(25) == 0
        bus.start()
        await run.start().ready()
        await run.received(100)
        assert await run.stop() == 0
    records = await bus.records()
    assert len(records) == archive.publishable()
    ids = [m.headers["Nats-Msg-Id"] for m in records]
    assert len(set(ids)) == len(ids)
    times = [int(m.headers["Ssmd-Ts"]) for m in records]
    assert times == sorted(times)
    assert {m.headers.get("Ssmd-Origin", "live") for m in records} == {"live", "catchup"}


async def test_after_a_kill_no_line_is_torn_and_the_bus_equals_the_archive(
    program, yaml, face, archive, bus, calm
):
    await bus.add_stream()
    calm.rate = 4_000
    async with LoopbackVenue(calm, face) as venue:
        run = write(program(), yaml, venue, yaml.both, url=bus.url, path=archive.path)
        for round_ in range(4):
            await run.start().ready()
            await run.received(300 + 137 * round_)
            run.kill()
        await run.start().ready()
        await run.received(50)
        assert await run.stop() == 0
    for line in archive.lines():
        json.loads(line)
    records = await bus.records()
    ids = [m.headers["Nats-Msg-Id"] for m in records]
    assert len(set(ids)) == len(ids)
    assert len(ids) == archive.publishable()
    times = archive.times()
    assert times == sorted(set(times))
