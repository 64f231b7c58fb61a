"""What is told of a bus that is away: the latest fact, with its age."""

from __future__ import annotations

import asyncio
import contextlib

import pytest

from ssmd_core.testing import until
from ssmd_sink_nats.outage import Outage

HOST = "127.0.0.1"
SERVERS = "nats://a:4222, nats://b:4222"
REFUSED = "nats://a:4222 cannot be reached: Connection refused"


class Seconds:
    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now


@pytest.fixture
def seconds():
    return Seconds()


@pytest.fixture
def outage(seconds):
    return Outage("not connected yet", monotonic=seconds)


def test_a_fresh_fact_is_told_as_it_is(outage):
    assert outage.told(SERVERS) == "not connected yet"
    outage.find(REFUSED)
    assert outage.told(SERVERS) == REFUSED


def test_an_older_fact_says_how_old_it_is_and_when_more_will_be_known(outage, seconds):
    outage.find(REFUSED)
    outage.wait(9.0)
    assert outage.told(SERVERS) == REFUSED
    seconds.now += 6
    assert outage.told(SERVERS) == f"{REFUSED} (6 s ago, tried again in 3 s)"
    seconds.now += 60
    assert outage.told(SERVERS).endswith("tried again in 0 s)")


def test_an_attempt_that_has_no_answer_is_told_before_what_the_last_one_found(outage, seconds):
    outage.find(REFUSED)
    outage.wait(2.0)
    seconds.now += 2
    outage.dial()
    assert outage.told(SERVERS) == f"{REFUSED} (2 s ago, being tried again)"
    seconds.now += 4
    told = f"{SERVERS} gives a new connection no answer for 4 s; before that: {REFUSED}"
    assert outage.told(SERVERS) == told
    outage.find("no answer in time")
    assert outage.told(SERVERS) == "no answer in time"


def test_while_there_is_a_connection_nothing_is_told(outage, seconds):
    outage.dial()
    outage.find("")
    seconds.now += 60
    assert not outage
    assert outage.told(SERVERS) == ""


@contextlib.asynccontextmanager
async def mute(port):
    """Accept connections and say nothing."""
    writers = []
    listener = await asyncio.start_server(lambda _, writer: writers.append(writer), HOST, port)
    try:
        yield
    finally:
        listener.close()
        for writer in writers:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()


@pytest.mark.anyio
async def test_a_server_that_is_mute_after_it_was_gone_is_not_told_to_refuse(server, bench):
    async with bench(url=server.url, create_stream=True) as run:
        server.kill()
        await until(lambda: "refused" in run.transport.health().reason)
        async with mute(server.port):
            told = f"{server.url} gives a new connection no answer for"
            await until(lambda: run.transport.health().reason.startswith(told))
