"""Delivery against a real server: nothing lost, nothing twice, in order."""

from __future__ import annotations

import asyncio
import signal

import pytest

from ssmd_core.sink import Message
from ssmd_core.testing import until

pytestmark = pytest.mark.anyio

STREAM = "PROD_KALSHI"


async def stores(bus, count: int) -> None:
    async def enough() -> bool:
        return await bus.count() >= count

    await until(enough)


def numbers(messages) -> list[int]:
    return [int(message.data) for message in messages]


async def test_a_hundred_thousand_messages_are_stored_exactly_once(
    server, consumer, bench, make_trades
):
    async with consumer(server.url) as bus:
        await bus.add_stream(storage="memory")
        async with bench(url=server.url) as run:
            await run.feed(make_trades(100_000))
            await run.flush()
            assert run.metrics.published == 100_000
            assert run.metrics.unacked == 0
            assert run.metrics.publish_retries == 0
            assert sum(run.metrics.publish_duration.buckets) == 100_000
            assert run.transport.oldest_unacked() is None
        assert await bus.count() == 100_000
        last = await bus.jetstream.get_last_msg(STREAM, "prod.kalshi.trade.KXBTC-26")
        assert last.data == b"99999"


async def test_messages_are_stored_in_the_order_given(server, consumer, bench, make_trades):
    async with consumer(server.url) as bus:
        await bus.add_stream()
        async with bench(url=server.url, window=100) as run:
            await run.feed(make_trades(3_000), batch=37)
            await run.flush()
        assert numbers(await bus.stored()) == list(range(3_000))


async def test_an_independent_client_reads_subject_headers_and_payload(server, consumer, bench):
    tickers = ["KX-T69499.99", "A B", "A*", ">", "a..b", ".x.", "Ü/€", "100%", "\n", ""]
    expected = [
        "KX-T69499.99", "A%20B", "A%2A", "%3E", "a.%2Eb", "%2Ex%2E", "Ü/€", "100%25", "%0A", "%",
    ]  # fmt: skip
    sent = [
        Message(
            kind="ticker",
            ticker=ticker,
            payload=b"\x00\r\n\xff" * ts,
            msg_id=f"id-{ts}-é",
            ts=ts,
            schema="trade:v1",
            origin="replay" if ts % 2 else "",
        )
        for ts, ticker in enumerate(tickers)
    ]
    sent.append(Message(kind="status", ticker="", payload=b"{}", msg_id="s", ts=99))
    async with consumer(server.url) as bus:
        await bus.add_stream()
        async with bench(url=server.url) as run:
            await run.feed(sent)
            await run.flush()
        stored = await bus.stored()
    subjects = [f"prod.kalshi.ticker.{tail}" for tail in expected]
    assert [message.subject for message in stored] == [*subjects, "prod.kalshi.status"]
    assert [message.data for message in stored] == [message.payload for message in sent]
    live = {"Nats-Msg-Id": "id-0-é", "Ssmd-Schema": "trade:v1", "Ssmd-Ts": "0"}
    assert stored[0].headers == live
    assert stored[1].headers["Ssmd-Origin"] == "replay"
    assert stored[-1].headers == {"Nats-Msg-Id": "s", "Ssmd-Ts": "99"}


async def test_a_message_sent_again_by_another_run_is_counted_as_duplicate(
    server, consumer, bench, make_trades
):
    async with consumer(server.url) as bus:
        await bus.add_stream()
        for duplicates in (0, 200):
            async with bench(url=server.url) as run:
                await run.feed(make_trades(200))
                await run.flush()
                assert run.metrics.published == 200
                assert run.metrics.duplicates == duplicates
        assert await bus.count() == 200


async def test_killing_the_server_again_and_again_loses_and_doubles_nothing(
    make_server, consumer, bench, make_trades
):
    server = make_server()
    async with consumer(server.url) as bus:
        await bus.add_stream()
    async with bench(url=server.url, window=1_000) as run:
        feeding = asyncio.create_task(run.feed(make_trades(20_000), batch=200))
        for stop in (2_000, 9_000):
            await until(lambda stop=stop: run.metrics.published >= stop)
            server.kill()
            await until(lambda: not run.transport.connected())
            assert run.transport.room() == 0
            assert server.url in run.transport.health().reason
            server.start()
        await feeding
        await run.flush()
        assert run.metrics.published == 20_000
        assert run.transport.health().ok
    async with consumer(server.url) as bus:
        assert numbers(await bus.stored()) == list(range(20_000))


async def test_a_frozen_server_is_left_and_nothing_is_stored_twice(
    server, consumer, bench, make_trades, monkeypatch
):
    monkeypatch.setattr("ssmd_sink_nats.sink._ACK_SECONDS", 1.0)
    async with consumer(server.url) as bus:
        await bus.add_stream()
    async with bench(url=server.url, window=500) as run:
        feeding = asyncio.create_task(run.feed(make_trades(5_000), batch=100))
        await until(lambda: run.metrics.published >= 500)
        server.freeze()
        await until(lambda: not run.transport.connected())
        assert "no acknowledgement" in run.transport.health().reason
        server.thaw()
        await feeding
        await run.flush()
        assert run.metrics.publish_retries > 0
    async with consumer(server.url) as bus:
        assert numbers(await bus.stored()) == list(range(5_000))


async def test_swallowed_acknowledgements_and_a_reset_lead_to_duplicates_recognised(
    server, consumer, bench, make_trades, make_proxy
):
    proxy = await make_proxy(server.port).start()
    async with consumer(server.url) as bus:
        await bus.add_stream()
        async with bench(url=proxy.url, window=500) as run:
            await run.feed(make_trades(1_000))
            await run.flush()
            for first in (1_000, 1_500):
                proxy.swallow = True
                run.transport.publish(make_trades(500, first=first))
                assert run.transport.oldest_unacked() == 1_000_000 + first
                await stores(bus, first + 500)
                proxy.reset()
                proxy.swallow = False
                await run.flush()
            assert run.metrics.duplicates == 1_000
            assert run.metrics.publish_retries == 1_000
            assert run.metrics.published == 2_000
        assert numbers(await bus.stored()) == list(range(2_000))
    await proxy.aclose()


async def test_an_overloaded_server_is_tried_again_until_it_has_everything(
    make_server, consumer, bench, make_trades
):
    server = make_server("jetstream { max_buffered_msgs: 50 }")
    async with consumer(server.url) as bus:
        await bus.add_stream()
        async with bench(url=server.url) as run:
            await run.feed(make_trades(10_000), batch=4_000)
            await run.flush()
            assert run.metrics.publish_retries > 0
            assert run.metrics.published == 10_000
            assert not run.rejected
        assert sorted(numbers(await bus.stored())) == list(range(10_000))


async def test_a_subject_keeps_its_order_from_the_first_refusal_on(
    make_server, consumer, bench, make_trades, monkeypatch
):
    monkeypatch.setattr("ssmd_sink_nats.objection._CALM_SECONDS", 600.0)
    server = make_server("jetstream { max_buffered_msgs: 50 }")
    tickers = [f"KX-{number % 7 * number % 5}" for number in range(8_000)]
    messages = [make_trades(1, first=n, ticker=ticker)[0] for n, ticker in enumerate(tickers)]
    async with consumer(server.url) as bus:
        await bus.add_stream()
        async with bench(url=server.url, window=2_000) as run:
            sender, on_the_way = run.transport._sender, []
            turned_down = sender.turned_down

            def note(nack):
                on_the_way.append(sender._window._ever_sent)
                turned_down(nack)

            monkeypatch.setattr(sender, "turned_down", note)
            await run.feed(messages, batch=2_000)
            await run.flush()
        stored = await bus.stored()
    assert sorted(numbers(stored)) == list(range(8_000))
    assert on_the_way[0] < 8_000
    for ticker in set(tickers):
        subject = f"prod.kalshi.trade.{ticker}"
        mine = [int(message.data) for message in stored if message.subject == subject]
        later = [number for number in mine if number >= on_the_way[0]]
        assert later == sorted(later)
        assert mine[-len(later) :] == later


async def test_a_stream_at_its_maximum_of_bytes_is_waited_for(server, consumer, bench, make_trades):
    async with consumer(server.url) as bus:
        await bus.add_stream(max_bytes=2_000, discard="new")
        async with bench(url=server.url) as run:
            run.transport.publish(make_trades(60))
            await until(lambda: "maximum bytes exceeded" in run.transport.health().reason)
            assert run.transport.room() == 0
            assert not run.transport.connected()
            stored = []
            while run.metrics.unacked:
                kept = await bus.stored()
                stored += numbers(kept)
                await bus.jetstream.purge_stream(STREAM, seq=kept[-1].metadata.sequence.stream + 1)
                await until(lambda: stores_or_ends(bus, run))
            stored += numbers(await bus.stored())
            assert run.transport.health().ok
        assert stored == list(range(60))
        assert not run.rejected


async def stores_or_ends(bus, run) -> bool:
    return not run.metrics.unacked or await bus.count() > 0


async def test_a_full_stream_is_waited_for_and_said_so(server, consumer, bench, make_trades):
    async with consumer(server.url) as bus:
        await bus.add_stream(max_msgs=10, discard="new")
        async with bench(url=server.url) as run:
            run.transport.publish(make_trades(30))
            await until(lambda: not run.transport.health().ok)
            reason = run.transport.health().reason
            assert "maximum messages exceeded" in reason
            assert server.url in reason
            assert not run.transport.connected()
            assert run.transport.room() == 0
            await until(lambda: run.metrics.unacked == 20)
            await bus.jetstream.purge_stream(STREAM)
            await until(lambda: run.metrics.unacked == 10)
            await bus.jetstream.purge_stream(STREAM)
            await run.flush()
            assert run.transport.health().ok
            assert run.metrics.published == 30
        assert numbers(await bus.stored()) == list(range(20, 30))


async def test_a_deleted_stream_is_named_and_made_again_without_loss(
    server, consumer, bench, make_trades
):
    async with consumer(server.url) as bus:
        await bus.add_stream()
        async with bench(url=server.url) as run:
            await run.feed(make_trades(10))
            await run.flush()
            await bus.jetstream.delete_stream(STREAM)
            run.transport.publish(make_trades(10, first=10))
            await until(lambda: "nats stream add PROD_KALSHI" in run.transport.health().reason)
            assert "10 messages unacknowledged" in run.transport.health().reason
            assert run.transport.room() == 0
            await bus.add_stream()
            await run.flush()
            await until(run.rooms.is_set)
            assert run.transport.health().ok
        assert numbers(await bus.stored()) == list(range(10, 20))


async def test_a_message_over_the_limit_is_rejected_and_the_rest_goes_on(
    make_server, consumer, bench, make_trades
):
    server = make_server("max_payload: 2048")
    async with consumer(server.url) as bus:
        await bus.add_stream()
        async with bench(url=server.url) as run:
            one, two, three = make_trades(3)
            big = Message(
                kind="trade", ticker="A", payload=b"x" * 2_048, msg_id="big", ts=1, schema="s"
            )
            long = Message(kind="trade", ticker="A" * 5_000, payload=b"", msg_id="long", ts=1)
            run.transport.publish([one, big, two, long, three])
            await run.flush()
            assert [message for message, _ in run.rejected] == [big, long]
            assert "2048" in run.rejected[0][1]
            assert run.metrics.dropped == {"too_large": 1, "bad_subject": 1}
            assert run.metrics.published == 3
            assert run.metrics.reconnects == {}
        assert numbers(await bus.stored()) == [0, 1, 2]


async def test_a_message_larger_than_the_stream_takes_is_rejected(
    server, consumer, bench, make_trades
):
    async with consumer(server.url) as bus:
        await bus.add_stream(max_msg_size=500)
        async with bench(url=server.url) as run:
            big = Message(kind="trade", ticker="A", payload=b"x" * 600, msg_id="big", ts=1)
            run.transport.publish([big, *make_trades(5)])
            await run.flush()
            assert [message for message, _ in run.rejected] == [big]
            assert run.metrics.published == 5
            assert run.transport.health().ok


async def test_a_forbidden_subject_stops_the_bus_until_it_is_allowed(
    make_server, consumer, bench, make_trades, monkeypatch
):
    monkeypatch.setattr("ssmd_sink_nats.sink._SLOW_ATTEMPT", 1)
    login = '{{ user: u, password: p, permissions: {{ publish: [{}], subscribe: "_INBOX.>" }} }}'
    allowed = ["$JS.API.>", "prod.kalshi.ticker.>"]

    def users(*subjects):
        names = ", ".join(f'"{subject}"' for subject in subjects)
        return f"authorization {{ users: [{login.format(names)}, {{ user: a, password: b }}] }}"

    server = make_server(users(*allowed))
    async with consumer(server.url, user="a", password="b") as bus:
        await bus.add_stream()
    async with bench(url=server.url, user="u", password="p") as run:
        run.transport.publish(make_trades(3))
        await until(lambda: not run.transport.health().ok)
        reason = run.transport.health().reason.lower()
        assert "permissions violation for publish" in reason
        assert "prod.kalshi.trade" in reason
        text = server.config.read_text().replace(users(*allowed), users(*allowed, "prod.>"))
        server.config.write_text(text)
        server.reload()
        await run.flush()
        assert run.metrics.published == 3
        assert not run.rejected
        await until(lambda: run.transport.health().ok)


@pytest.fixture
def without_status(make_server):
    return make_server(
        "authorization { users: [ { user: a, password: b }, { user: u, password: p, permissions: "
        '{ publish: ["$JS.API.>", "prod.kalshi.trade.>"], subscribe: "_INBOX.>" } } ] }'
    )


def line(number: int) -> Message:
    return Message(kind="status", ticker="", payload=b"{}", msg_id=f"line:{number}", ts=1)


async def test_a_forbidden_ledger_is_given_up_and_records_go_on(
    without_status, consumer, bench, make_trades
):
    server = without_status
    async with consumer(server.url, user="a", password="b") as bus:
        await bus.add_stream()
        async with bench(url=server.url, user="u", password="p") as run:
            connection = run.transport._connection
            one, two, three = make_trades(3)
            await run.feed([line(1), one, line(2), two, line(3)], batch=2)
            await run.flush()
            await run.feed([three, line(4)])
            await run.flush()
            assert run.metrics.published == 3
            assert run.metrics.unacked == 0
            assert run.transport.oldest_unacked() is None
            assert run.transport.health().ok
            assert run.transport._connection is connection
            assert run.metrics.dropped == {"status_forbidden": 4}
            ((message, reason),) = run.rejected
            assert message.kind == "status"
            assert "prod.kalshi.status" in reason
        assert numbers(await bus.stored()) == [0, 1, 2]


async def test_a_forbidden_ledger_is_tried_again_on_the_next_connection(
    without_status, consumer, bench, make_trades
):
    server = without_status
    async with consumer(server.url, user="a", password="b") as bus:
        await bus.add_stream()
    async with bench(url=server.url, user="u", password="p") as run:
        await run.feed([line(1), *make_trades(1)])
        await run.flush()
        allowed = server.config.read_text().replace("prod.kalshi.trade.>", "prod.>")
        server.kill()
        await until(lambda: not run.transport.connected())
        server.config.write_text(allowed)
        server.start()
        await until(lambda: run.transport.health().ok)
        await run.feed([line(2)])
        await run.flush()
        assert run.metrics.published == 2


async def test_lingering_gathers_messages_into_one_write(server, consumer, bench, make_trades):
    async with consumer(server.url) as bus:
        await bus.add_stream()
        async with bench(url=server.url, linger_ms=50) as run:
            writes = []
            write = run.transport._connection.write
            run.transport._connection.write = lambda data: (writes.append(data), write(data))
            for message in make_trades(20):
                run.transport.publish([message])
            assert not writes
            await until(lambda: run.metrics.published == 20)
            assert sum(data.count(b"HPUB ") for data in writes) == 20
            assert len([data for data in writes if b"HPUB " in data]) == 1


async def test_more_than_the_window_holds_is_refused(server, consumer, bench, make_trades):
    async with consumer(server.url) as bus:
        await bus.add_stream()
    async with bench(url=server.url, window=10) as run:
        assert run.transport.room() == 10
        with pytest.raises(ValueError, match="11 messages"):
            run.transport.publish(make_trades(11))


async def test_messages_taken_while_the_bus_is_away_are_sent_when_it_comes(
    make_server, consumer, bench, make_trades
):
    server = make_server(start=False)
    async with bench(url=server.url, create_stream=True) as run:
        assert run.transport.room() == 0
        run.transport.publish(make_trades(5))
        assert run.transport.oldest_unacked() == 1_000_000
        server.start()
        await run.flush()
        await until(lambda: run.transport.room() > 0)
        assert run.rooms.is_set()
    async with consumer(server.url) as bus:
        assert numbers(await bus.stored()) == [0, 1, 2, 3, 4]


async def test_a_server_going_into_lame_duck_mode_is_left_for_the_next(
    make_server, consumer, bench, make_trades
):
    one, two = make_server("lame_duck_duration: 30s\nlame_duck_grace_period: 1s"), make_server()
    for server in (one, two):
        async with consumer(server.url) as bus:
            await bus.add_stream()
    async with bench(url=[one.url, two.url]) as run:
        await run.feed(make_trades(5))
        await run.flush()
        one.signal(signal.SIGUSR2)
        await until(
            lambda: run.transport._connection and run.transport._connection.server.port == two.port
        )
        await run.feed(make_trades(5, first=5))
        await run.flush()
    async with consumer(two.url) as bus:
        assert numbers(await bus.stored()) == [5, 6, 7, 8, 9]


async def test_a_connection_that_ends_with_the_first_pong_is_tried_again(peer, bench):
    dialed = 0

    async def serve(reader, writer):
        nonlocal dialed
        dialed += 1
        writer.write(b'INFO {"headers":true}\r\n')
        await reader.readuntil(b"PING\r\n")
        writer.write(b"PONG\r\n-ERR 'maximum connections exceeded'\r\n")

    async with peer(serve) as url, bench(url=url, archived=True) as run:
        await until(lambda: dialed >= 2)
        assert not run.transport.connected()
        assert "maximum connections exceeded" in run.transport.health().reason


async def test_credentials_that_run_out_are_read_anew_at_once(peer, bench, tmp_path):
    secret = tmp_path / "token"
    secret.write_text("first")
    shown: list[bytes] = []

    async def serve(reader, writer):
        writer.write(b'INFO {"headers":true}\r\n')
        shown.append(await reader.readuntil(b"PING\r\n"))
        writer.write(b"PONG\r\n")
        await reader.readuntil(b"PUB ")
        if len(shown) == 1:
            secret.write_text("second")
            writer.write(b"-ERR 'User Authentication Expired'\r\n")
            return
        await reader.read()

    async with peer(serve) as url, bench(url=url, token_file=str(secret), archived=True) as run:
        await until(lambda: len(shown) >= 2)
        assert b'"auth_token":"second"' in shown[1]
        assert run.transport._attempt <= 2
        assert not run.transport._sender.refused


async def test_a_peer_that_never_answers_a_ping_is_left(bench, peer, monkeypatch):
    monkeypatch.setattr("ssmd_sink_nats.connection._PING_SECONDS", 0.2)
    monkeypatch.setattr("ssmd_sink_nats.connection._PONG_SECONDS", 0.5)
    answered = 0

    async def serve(reader, writer):
        nonlocal answered
        writer.write(b'INFO {"headers":true}\r\n')
        await reader.readuntil(b"PING\r\n")
        answered += 1
        writer.write(b"PONG\r\n")
        await reader.read()

    async with peer(serve) as url, bench(url=url) as run:
        await until(lambda: answered >= 2)
        assert not run.metrics.published


async def test_closing_while_nothing_answers_does_not_hang(
    server, consumer, bench, make_trades, make_proxy
):
    proxy = await make_proxy(server.port).start()
    async with consumer(server.url) as bus:
        await bus.add_stream()
    run = bench(url=proxy.url)
    async with run:
        proxy.swallow = True
        run.transport.publish(make_trades(10))
        with pytest.raises(TimeoutError):
            await run.flush(seconds=0.2)
        assert run.transport.oldest_unacked() == 1_000_000
    assert run.metrics.unacked == 10
    await proxy.aclose()
