"""Messages whose acknowledgement was lost for longer than the stream remembers their ids."""

from __future__ import annotations

import asyncio
import contextlib

import pytest

from ssmd_core.testing import until

pytestmark = pytest.mark.anyio

STREAM = "PROD_KALSHI"
WINDOW_SECONDS = 0.2


async def stores(bus, count: int) -> None:
    async def enough() -> bool:
        return await bus.count() >= count

    await until(enough)


async def forgets(bus) -> None:
    """Return when the stream surely forgot every id that it has seen."""
    state = (await bus.jetstream.stream_info(STREAM)).state
    marks = state.messages

    async def takes_again() -> bool:
        # The last id stored is the last one forgotten.
        ack = await bus.jetstream.publish(
            "prod.mark", b"", stream=STREAM, headers={"Nats-Msg-Id": "mark"}
        )
        return ack.seq > first.seq

    first = await bus.jetstream.publish("prod.mark", b"", headers={"Nats-Msg-Id": "mark"})
    assert first.seq > marks
    await until(takes_again)


async def trades_on(bus) -> list[int]:
    stored = await bus.stored()
    return [int(message.data) for message in stored if message.subject != "prod.mark"]


@pytest.fixture
async def swallowed(server, consumer, bench, make_trades, make_proxy):
    """Publish 300 messages, and lose their acknowledgements until the stream forgot them."""

    @contextlib.asynccontextmanager
    async def make(**login):
        proxy = await make_proxy(server.port).start()
        try:
            async with consumer(server.url) as bus:
                await bus.add_stream(subjects=("prod.>",), duplicate_window=WINDOW_SECONDS)
                async with bench(url=proxy.url, window=400, **login) as run:
                    proxy.swallow = True
                    run.transport.publish(make_trades(300))
                    await stores(bus, 300)
                    await forgets(bus)
                    proxy.swallow = False
                    yield run, bus, proxy
        finally:
            await proxy.aclose()

    return make


async def test_what_is_stored_and_forgotten_is_not_stored_twice(swallowed, make_trades):
    async with swallowed() as (run, bus, proxy):
        proxy.reset()
        run.transport.publish(make_trades(100, first=300))  # goes where nobody reads
        await run.flush()
        assert run.metrics.published == 400
        assert run.metrics.duplicates == 300
        assert run.metrics.publish_retries == 100
        assert run.transport.health().ok
        assert await trades_on(bus) == list(range(400))


async def test_the_bus_is_not_ready_and_says_why_until_it_answers_what_it_stores(
    swallowed, monkeypatch
):
    answers = [TimeoutError(), ConnectionError("lost in between")]
    seen = []
    monkeypatch.setattr("ssmd_sink_nats.sink._ASK_AGAIN_SECONDS", 0.01)
    async with swallowed() as (run, bus, proxy):
        from ssmd_sink_nats import sink  # noqa: PLC0415  its name is put aside here

        ask = sink.stored_among

        async def slow(*args):
            seen.append((run.transport.connected(), run.transport.room(), run.transport.health()))
            if answers:
                raise answers.pop()
            return await ask(*args)

        monkeypatch.setattr(sink, "stored_among", slow)
        proxy.reset()
        await run.flush()
        assert len(seen) == 3
        for connected, room, health in seen:
            assert (connected, room, health.ok) == (False, 0, False)
            assert "asking what it has stored" in health.reason
            assert "300 messages unacknowledged" in health.reason
        await until(lambda: run.transport.health().ok)
        assert await trades_on(bus) == list(range(300))


async def test_within_the_window_nothing_is_asked(
    server, consumer, bench, make_trades, make_proxy, monkeypatch
):
    async def fail(*args):
        pytest.fail("the server's own memory does it")

    monkeypatch.setattr("ssmd_sink_nats.sink.stored_among", fail)
    proxy = await make_proxy(server.port).start()
    async with consumer(server.url) as bus:
        await bus.add_stream()
        async with bench(url=proxy.url, window=400) as run:
            proxy.swallow = True
            run.transport.publish(make_trades(300))
            await stores(bus, 300)
            proxy.reset()
            proxy.swallow = False
            await run.flush()
            assert run.metrics.duplicates == 300
        assert await bus.count() == 300
    await proxy.aclose()


async def test_who_may_not_ask_sends_again_and_is_warned(swallowed, monkeypatch):
    async def denied(*args):
        raise PermissionError("permissions violation")

    monkeypatch.setattr("ssmd_sink_nats.sink.stored_among", denied)
    async with swallowed() as (run, bus, proxy):
        proxy.reset()
        await run.flush()
        assert "may be stored twice" in run.warnings[0]
        assert run.metrics.publish_retries == 300
        assert await trades_on(bus) == [*range(300), *range(300)]


async def test_a_connection_lost_while_asking_is_made_anew(swallowed, monkeypatch):
    from ssmd_sink_nats import sink  # noqa: PLC0415  its name is put aside here

    ask, asked = sink.stored_among, []

    async def cut_first(*args):
        asked.append(1)
        if len(asked) == 1:
            proxy.reset()
            await until(lambda: run.transport._connection is None)
        return await ask(*args)

    monkeypatch.setattr(sink, "stored_among", cut_first)
    monkeypatch.setattr(sink, "_ASK_AGAIN_SECONDS", 0.01)
    async with swallowed() as (run, bus, proxy):
        proxy.reset()
        await run.flush()
        assert len(asked) == 2
        assert await trades_on(bus) == list(range(300))


async def test_stopping_while_asking_does_not_hang(swallowed, monkeypatch):
    asking = asyncio.Event()

    async def never(*args):
        asking.set()
        await asyncio.Event().wait()

    monkeypatch.setattr("ssmd_sink_nats.sink.stored_among", never)
    async with swallowed() as (run, _bus, proxy):
        proxy.reset()
        await asking.wait()
    assert run.metrics.unacked == 300
    assert not run.transport.connected()
