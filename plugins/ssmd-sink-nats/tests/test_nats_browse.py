"""The bus read afterwards: everything once, in order, up to where it stood when asked."""

from __future__ import annotations

import contextlib

import pytest

from ssmd_core.errors import TransportUnusable
from ssmd_core.sink import Message
from ssmd_core.testing import until
from ssmd_sink_nats import plugin
from ssmd_sink_nats.config import NatsConfig

pytestmark = pytest.mark.anyio


def open_reader(url, **section):
    (record,) = plugin.ssmd_transports()
    return record.browse(NatsConfig.model_validate({"url": url, **section}), {})


async def everything(reader, *, environment="prod", feed="kalshi", **options):
    found = []
    async for page in reader.messages(environment, feed, **options):
        found += page
    return found


async def told(reader, disturb=lambda: None) -> str:
    """Return why reading failed, after ``disturb`` was called with the first page."""

    async def read():
        async for _ in reader.messages("prod", "kalshi"):
            disturb()

    with pytest.raises(TransportUnusable) as caught:
        await read()
    return str(caught.value)


async def test_every_field_of_a_message_is_told(server, consumer, bench):
    sent = [
        Message(kind="trade", ticker="KX A", payload=b"\x00\r\n", msg_id="é", ts=7, schema="s:v1"),
        Message(kind="trade", ticker="B", payload=b"", msg_id="2", ts=8, origin="replay"),
        Message(kind="status", ticker="", payload=b"{}", msg_id="3", ts=9),
    ]
    async with bench(url=server.url, create_stream=True) as run:
        await run.feed(sent)
        await run.flush()
    async with consumer(server.url) as bus:
        await bus.jetstream.publish("prod.kalshi.x", b"foreign", headers={"Ssmd-Ts": "no number"})
    async with open_reader(server.url) as reader:
        rows = [tuple(row) for row in await everything(reader, payloads=True)]
        assert rows == [
            (1, "prod.kalshi.trade.KX%20A", "é", 7, "", "s:v1", b"\x00\r\n"),
            (2, "prod.kalshi.trade.B", "2", 8, "replay", "", b""),
            (3, "prod.kalshi.status", "3", 9, "", "", b"{}"),
            (4, "prod.kalshi.x", "", 0, "", "", b"foreign"),
        ]
        headers = await everything(reader)
        assert [tuple(row) for row in headers] == [(*row[:-1], b"") for row in rows]


async def test_many_pages_come_in_order_and_end_where_the_stream_stood(
    server, consumer, bench, make_trades, monkeypatch
):
    monkeypatch.setattr("ssmd_sink_nats.reading._PAGE", 100)
    async with bench(url=server.url, create_stream=True) as run:
        await run.feed(make_trades(2_050))
        await run.flush()
        async with open_reader(server.url) as reader:
            places = []
            async for page in reader.messages("prod", "kalshi"):
                if not places:
                    await run.feed(make_trades(500, first=2_050))
                    await run.flush()
                assert len(page) <= 100
                places += [message.place for message in page]
            assert places == list(range(1, 2_051))
            rest = await everything(reader, after=places[-1])
            assert [message.place for message in rest] == list(range(2_051, 2_551))
            assert await everything(reader, after=2_550) == []
    async with consumer(server.url) as bus:
        await until(lambda: idle(bus))


async def idle(bus) -> bool:
    return not await bus.jetstream.consumers_info("PROD_KALSHI")


async def test_payloads_larger_than_a_page_come_too(make_server, consumer):
    server = make_server("max_payload: 8MB")
    async with consumer(server.url) as bus:
        await bus.add_stream()
        for size in (7_000_000, 10, 7_000_000, 3_000_000):
            await bus.jetstream.publish("prod.kalshi.trade.A", b"x" * size)
    async with open_reader(server.url) as reader:
        found = await everything(reader, payloads=True)
    assert [len(message.payload) for message in found] == [7_000_000, 10, 7_000_000, 3_000_000]


async def test_several_streams_are_read_one_after_the_other(server, consumer, bench):
    kinds = ["trade", "ticker", "trade", "ticker"]
    sent = [
        Message(kind=kind, ticker="A", payload=b"", msg_id=str(n), ts=n + 1)
        for n, kind in enumerate(kinds)
    ]
    async with consumer(server.url) as bus:
        await bus.add_stream("A", ["prod.kalshi.ticker.>"])
        await bus.add_stream("B", ["prod.kalshi.trade.>", "prod.kalshi.status"])
    async with bench(url=server.url) as run:
        await run.feed(sent)
        await run.flush()
    async with open_reader(server.url) as reader:
        found = await everything(reader)
        assert [message.msg_id for message in found] == ["1", "3", "0", "2"]
        assert [message.place for message in found] == sorted({m.place for m in found})
        for at, message in enumerate(found):
            assert await everything(reader, after=message.place) == found[at + 1 :]


async def test_the_environments_of_a_feed_are_those_with_messages(server, consumer):
    async with consumer(server.url) as bus:
        await bus.add_stream("SHARED", ["prod.>", "dev.kalshi.>"])
        await bus.add_stream("REST", ["test.*.>"])
        for subject in ("prod.kalshi.trade.A", "prod.kalshi.status", "test.kalshi.trade.A"):
            await bus.jetstream.publish(subject, b"")
        await bus.jetstream.publish("dev.kalshi.trade.A", b"")
        await bus.jetstream.purge_stream("SHARED", subject="dev.>")
        await bus.jetstream.publish("prod.other.trade.A", b"")
    async with open_reader(server.url) as reader:
        assert await reader.environments("kalshi") == ["prod", "test"]
        assert await reader.environments("other") == ["prod"]
        assert await reader.environments("nobody") == []


async def test_more_subjects_than_fit_one_answer_of_a_megabyte(server, consumer, bench):
    sent = [
        Message(kind="trade", ticker=f"KX-{n:060d}", payload=b"", msg_id=str(n), ts=n)
        for n in range(20_000)
    ]
    async with bench(url=server.url, create_stream=True) as run:
        await run.feed(sent, batch=2_000)
        await run.flush()
    async with open_reader(server.url) as reader:
        assert await reader.environments("kalshi") == ["prod"]


async def test_leaving_early_leaves_no_consumer(server, consumer, bench, make_trades, monkeypatch):
    monkeypatch.setattr("ssmd_sink_nats.reading._PAGE", 10)
    async with bench(url=server.url, create_stream=True) as run:
        await run.feed(make_trades(100))
        await run.flush()
    async with open_reader(server.url) as reader, consumer(server.url) as bus:
        async with contextlib.aclosing(reader.messages("prod", "kalshi")) as pages:
            assert len(await anext(pages)) == 10
            assert not await idle(bus)
        await until(lambda: idle(bus))


async def test_a_consumer_that_is_lost_is_replaced_and_nothing_comes_twice(
    server, consumer, bench, make_trades, monkeypatch
):
    monkeypatch.setattr("ssmd_sink_nats.reading._PAGE", 10)
    async with bench(url=server.url, create_stream=True) as run:
        await run.feed(make_trades(100))
        await run.flush()
    async with open_reader(server.url) as reader, consumer(server.url) as bus:
        places = []
        async for page in reader.messages("prod", "kalshi"):
            places += [message.place for message in page]
            if len(places) in {10, 50}:
                (info,) = await bus.jetstream.consumers_info("PROD_KALSHI")
                await bus.jetstream.delete_consumer("PROD_KALSHI", info.name)
    assert places == list(range(1, 101))


# ── what can go wrong ────────────────────────────────────────────────────────────


async def test_no_stream_is_told_with_the_command_that_mends_it(server):
    async with open_reader(server.url) as reader:
        assert "nats stream add PROD_KALSHI" in await told(reader)
        assert await reader.environments("kalshi") == []


async def test_an_unreachable_bus_is_told(make_server):
    server = make_server(start=False)
    with pytest.raises(TransportUnusable, match=r"transport\.url: .*cannot be reached"):
        async with open_reader(server.url):
            pass


async def test_a_refused_login_is_told_without_the_secret(make_server):
    server = make_server("authorization { token: hunter22 }")
    with pytest.raises(TransportUnusable, match=r"transport\.token") as caught:
        async with open_reader(server.url, token="hunter23"):
            pass
    assert "hunter" not in str(caught.value)


async def test_a_bus_without_jetstream_is_told(make_server):
    server = make_server(jetstream=False)
    async with open_reader(server.url) as reader:
        assert "nothing answers" in await told(reader)


async def test_a_user_who_may_not_read_is_told_what_to_allow(make_server, consumer):
    server = make_server(
        "authorization { users: [ { user: a, password: b }, { user: u, password: p, permissions: "
        '{ publish: ["$JS.API.STREAM.>"], subscribe: "_INBOX.>" } } ] }'
    )
    async with consumer(server.url, user="a", password="b") as bus:
        await bus.add_stream()
        await bus.jetstream.publish("prod.kalshi.trade.A", b"")
    async with open_reader(server.url, user="u", password="p") as reader:
        assert "$JS.API.CONSUMER.>" in await told(reader)


async def test_a_server_that_falls_silent_is_given_up(server, bench, make_trades, monkeypatch):
    monkeypatch.setattr("ssmd_sink_nats.reading._PAGE", 10)
    monkeypatch.setattr("ssmd_sink_nats.browse._REQUEST_SECONDS", 0.2)
    monkeypatch.setattr("ssmd_sink_nats.exchange._STALL_SECONDS", 0.2)
    async with bench(url=server.url, create_stream=True) as run:
        await run.feed(make_trades(100))
        await run.flush()
    async with open_reader(server.url) as reader:
        assert "no answer in time" in await told(reader, server.freeze)
        server.thaw()


async def test_a_connection_that_is_lost_is_told(server, bench, make_trades, monkeypatch):
    monkeypatch.setattr("ssmd_sink_nats.reading._PAGE", 10)
    async with bench(url=server.url, create_stream=True) as run:
        await run.feed(make_trades(100))
        await run.flush()
    async with open_reader(server.url) as reader:
        assert "does not answer" in await told(reader, server.kill)
