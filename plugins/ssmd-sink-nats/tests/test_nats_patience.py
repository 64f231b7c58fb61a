"""Answers are read along with what is written, and never later than somebody needs them."""

import anyio
import pytest

from rig.loops import LOOPS
from ssmd_core.testing import until
from ssmd_sink_nats import patience
from ssmd_sink_nats.connection import Connection

pytestmark = pytest.mark.anyio
anyio_backend = pytest.fixture(params=LOOPS)(lambda request: request.param)


@pytest.fixture(autouse=True)
def reads(monkeypatch):
    """Count the reads of the event loop; whatever is written counts as often."""
    monkeypatch.setattr(patience, "_OFTEN_SECONDS", 60.0)
    counted = []
    read = Connection.buffer_updated

    def count(connection, nbytes):
        counted.append(nbytes)
        read(connection, nbytes)

    monkeypatch.setattr(Connection, "buffer_updated", count)
    return counted


@pytest.fixture
async def run(server, consumer, bench):
    async with consumer(server.url) as bus:
        await bus.add_stream()
    async with bench(url=server.url) as running:
        yield running


async def publish(run, messages):
    for message in messages:
        run.transport.publish([message])
        await anyio.sleep(0.002)


async def test_hardly_any_answer_wakes_the_process_and_the_last_one_is_read_too(
    run, reads, make_trades
):
    before = len(reads)
    await publish(run, make_trades(200))
    await until(lambda: run.metrics.published == 200)
    assert len(reads) - before < 100
    assert run.metrics.unacked == 0


async def test_a_question_is_answered_between_messages(run, make_trades):
    await publish(run, make_trades(20))
    reply = await run.transport._connection.request("$JS.API.INFO", b"", seconds=10)
    assert b"account_info_response" in reply.payload


async def test_where_room_is_short_no_answer_waits_for_a_message(
    server, consumer, bench, reads, make_trades
):
    async with consumer(server.url) as bus:
        await bus.add_stream()
    async with bench(url=server.url, window=1) as run:
        before = len(reads)
        for number, message in enumerate(make_trades(30), 1):
            run.transport.publish([message])
            await until(lambda number=number: run.metrics.published == number)
        assert len(reads) - before >= 30


async def test_an_end_of_the_connection_is_found_though_nothing_is_read(run, server, make_trades):
    await publish(run, make_trades(20))
    server.kill()
    await until(lambda: not run.transport.connected())
    server.start()
    await until(lambda: run.transport.health().ok)
    await publish(run, make_trades(40)[20:])
    await run.flush()
    assert run.metrics.unacked == 0


async def test_many_answers_at_once_are_left_to_the_event_loop(run, reads, make_trades):
    before, trades = len(reads), make_trades(1_000)
    for start in range(0, 1_000, 100):
        run.transport.publish(trades[start : start + 100])
        await until(lambda start=start: run.metrics.published == start + 100)
    assert len(reads) - before >= 10
