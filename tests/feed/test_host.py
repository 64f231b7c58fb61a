import json
import time
from contextlib import asynccontextmanager

import anyio
import pytest

from ssmd_core.clock import ReceiptClock, SystemClock
from ssmd_core.errors import ConnectionEnded, CredentialsRefused
from ssmd_core.feed import (
    ConnectionPlan,
    Endpoint,
    Feed,
    FrameKind,
    Parsed,
    Subscribed,
    Timer,
    TimerFired,
)
from ssmd_core.feed.dialing import dial
from ssmd_core.feed.host import FeedHost
from ssmd_core.feed.policy import Backoff
from ssmd_core.feed.ports import HostParts
from ssmd_core.feed.runner import FeedRunner
from ssmd_core.testing import Face, Garbage, LoopbackVenue, Recording, Refusal, until

pytestmark = pytest.mark.anyio


class ToyFace(Face):
    """Numbers trades from 1 on every connection and confirms what is asked for."""

    path = "/toy?token=secret"

    def __init__(self):
        self.refuse = None
        self.mute = False

    def admit(self, handshake):
        return self.refuse

    def new_state(self):
        return {"subscribed": False, "n": 0}

    def answer(self, command, client):
        if self.mute:
            return []
        body = json.loads(command)
        client.state["subscribed"] = True
        return [json.dumps({"t": "ok", "id": body["id"], "c": 1, "ch": body["sub"]}).encode()]

    def listening(self, client):
        return client.state["subscribed"]

    def render(self, item, client):
        client.state["n"] += 1
        return item.replace(b"@", str(client.state["n"]).encode())


TRADE = b'{"t":"trade","c":1,"n":@,"m":"A","p":50}'


@pytest.fixture
def face():
    return ToyFace()


def parts_for(intake, metrics, read_every_seconds=0.0):
    clock = SystemClock()
    return HostParts(
        intake=intake,
        receipt=ReceiptClock(clock),
        clock=clock,
        metrics=metrics,
        read_every_seconds=read_every_seconds,
    )


@asynccontextmanager
async def hosted(feed, intake, metrics, monkeypatch, read_every_seconds=0.0):
    """Run a host in the background, with short waits between attempts."""
    monkeypatch.setattr(Backoff, "next_seconds", lambda *_: 0.01)
    host = FeedHost(feed, parts_for(intake, metrics, read_every_seconds))
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(host.run)
        yield host
        host.stop()
        await host.close(1.0)
        tasks.cancel_scope.cancel()


async def test_frames_arrive_complete_in_order_and_verbatim(
    toy, face, intake, metrics, monkeypatch
):
    async with LoopbackVenue(Recording([TRADE] * 20_000), face) as venue:
        async with hosted(toy(venue.url), intake, metrics, monkeypatch):
            await until(lambda: len(intake.frames) == 20_001, 30)
        assert intake.frames == venue.clients[0].sent
    assert intake.of("gap") == []
    assert max(len(batch.frames) for batch in intake.batches) <= 1024
    assert metrics.received_bytes > sum(map(len, intake.frames))


async def test_the_ledger_never_shows_the_query_of_the_endpoint(
    toy, face, intake, metrics, monkeypatch
):
    async with (
        LoopbackVenue([], face) as venue,
        hosted(toy(venue.url), intake, metrics, monkeypatch),
    ):
        await until(lambda: intake.events)
    assert "secret" not in json.dumps(intake.events)


@pytest.mark.parametrize(
    ("fault", "cause", "code"),
    [
        (lambda v: v.close(1001), "closed", 1001),
        (lambda v: v.close(1011), "closed", 1011),
        (lambda v: v.close(1012), "closed", 1012),
        (lambda v: v.close(1013), "closed", 1013),
        (lambda v: v.cut(), "cut", 1006),
    ],
)
async def test_after_every_end_it_connects_and_subscribes_again(
    toy, face, intake, metrics, monkeypatch, fault, cause, code
):
    recording = Recording([TRADE], rate=500, loop=True)
    async with (
        LoopbackVenue(recording, face) as venue,
        hosted(toy(venue.url), intake, metrics, monkeypatch) as host,
    ):
        await until(lambda: len(intake.frames) > 5)
        fault(venue)
        await until(lambda: len(intake.of("session_closed")) == 1)
        await until(lambda: len(intake.of("subscribed")) == 2 and host.connected())
        seen = len(intake.frames)
        await until(lambda: len(intake.frames) > seen)
    closed = intake.of("session_closed")[0]
    assert (closed["cause"], closed["code"]) == (cause, code)
    assert metrics.reconnects == {cause: 1}
    first, second = (event["session"] for event in intake.of("session_opened"))
    assert first != second


async def test_a_feed_that_breaks_on_a_fact_costs_its_connection_and_no_other(
    toy, face, intake, metrics, monkeypatch
):
    class Broken(toy):
        def on_event(self, event, session):
            match event:
                case Subscribed() if metrics.reconnects.get("feed_error", 0) < 2:
                    return (Timer(seconds=0.0, name="again"),)
                case TimerFired() if metrics.reconnects:
                    raise RuntimeError("bug in a fact")
                case TimerFired():
                    return _bug_in_an_action()
            return ()

        def classify(self, error):
            raise RuntimeError("bug in a verdict")

    recording = Recording([TRADE], rate=500, loop=True)
    async with (
        LoopbackVenue(recording, face) as venue,
        hosted(Broken(venue.url), intake, metrics, monkeypatch) as host,
    ):
        await until(lambda: metrics.reconnects.get("feed_error") == 2)
        await until(lambda: len(intake.of("subscribed")) == 3 and host.connected())
        seen = len(intake.frames)
        await until(lambda: len(intake.frames) > seen)
    assert [event["cause"] for event in intake.of("session_closed")[:2]] == ["feed_error"] * 2


def _bug_in_an_action():
    yield Timer(seconds=60.0, name="never")
    raise RuntimeError("bug in an action")


async def test_an_address_that_makes_no_sense_is_told_without_its_token():
    with pytest.raises(ConnectionEnded) as caught:
        await dial(Endpoint(url="https://v/?k=s3cr3t"), Nobody(), on_reached=lambda: None)
    assert caught.value.cause == "address"
    assert "s3cr3t" not in f"{caught.value} {caught.value.__cause__}"


async def test_a_connection_that_is_closing_takes_no_more_and_says_nothing(face):
    async with LoopbackVenue((), face) as venue:
        connection = await dial(Endpoint(url=venue.url), Nobody(), on_reached=lambda: None)
        await connection.close(1.0)
        connection.send(b"late")
        connection.ping()
        assert venue.clients[0].commands == []


async def test_a_frame_past_the_limit_closes_with_1009_and_capture_goes_on(
    toy, face, intake, metrics, monkeypatch
):
    recording = Recording([TRADE], rate=500, loop=True)
    async with (
        LoopbackVenue(recording, face) as venue,
        hosted(toy(venue.url), intake, metrics, monkeypatch),
    ):
        await until(lambda: len(intake.frames) > 3)
        venue.oversize(2 << 20)
        await until(lambda: len(intake.of("subscribed")) == 2)
        await until(lambda: venue.clients[0].close_code is not None)
        assert venue.clients[0].close_code == 1009
    closed = intake.of("session_closed")[0]
    assert (closed["cause"], closed["code"]) == ("frame_too_large", 1009)


@pytest.mark.parametrize("garbage", list(Garbage))
async def test_garbage_is_kept_and_the_connection_stays(
    toy, face, intake, metrics, monkeypatch, garbage
):
    recording = Recording([TRADE], rate=500, loop=True)
    async with (
        LoopbackVenue(recording, face) as venue,
        hosted(toy(venue.url), intake, metrics, monkeypatch),
    ):
        await until(lambda: len(intake.frames) > 3)
        venue.garble(garbage)
        await until(lambda: intake.faults)
        seen = len(intake.frames)
        await until(lambda: len(intake.frames) > seen + 3)
        sent = garbage.value if isinstance(garbage.value, bytes) else garbage.value[0]
        assert sent in intake.frames
    assert len(intake.of("session_opened")) == 1


async def test_refused_credentials_at_the_first_connection_end_the_run(
    toy, face, intake, metrics, monkeypatch
):
    face.refuse = Refusal(401, '{"code":"authentication_error"}')
    async with LoopbackVenue([], face) as venue:
        host = FeedHost(toy(venue.url), parts_for(intake, metrics))
        with pytest.raises(CredentialsRefused, match=r"HTTP 401.*authentication_error"):
            await host.run()
        assert len(venue.attempts) == 1
    assert metrics.refusals == 1


async def test_a_refusal_that_repeats_our_headers_is_told_without_them(toy, face, intake, metrics):
    class Signed(toy):
        def endpoint(self, plan):
            return Endpoint(url=self.url, headers={"X-Signature": "c2lnbmF0dXJl"})

    face.refuse = Refusal(401, "bad signature c2lnbmF0dXJl of key c2lnbmF0dXJl")
    async with LoopbackVenue([], face) as venue:
        host = FeedHost(Signed(venue.url), parts_for(intake, metrics))
        with pytest.raises(CredentialsRefused) as caught:
            await host.run()
    assert "bad signature *** of key ***" in str(caught.value)


async def test_a_subscription_that_the_venue_ended_is_a_reason_until_it_is_back(
    toy, face, intake, metrics, monkeypatch
):
    ended = json.dumps({"t": "no", "code": 25, "c": 1, "ends": True}).encode()
    async with (
        LoopbackVenue([], face) as venue,
        hosted(toy(venue.url), intake, metrics, monkeypatch) as host,
    ):
        await until(lambda: intake.of("subscribed"))
        assert list(host.reasons()) == []
        venue.inject(ended)
        await until(lambda: intake.of("refused"))
        assert any("trades" in reason for reason in host.reasons())
        again = {"t": "ok", "id": 77, "c": 2, "ch": "trades"}
        venue.inject(json.dumps(again).encode())
        await until(lambda: len(intake.of("subscribed")) == 2)
        assert list(host.reasons()) == []


async def test_refused_credentials_after_a_good_session_are_retried_slowly(
    toy, face, intake, metrics, monkeypatch
):
    monkeypatch.setattr("ssmd_core.feed.link._REFUSED_RETRY_SECONDS", 0.05)
    async with (
        LoopbackVenue([], face) as venue,
        hosted(toy(venue.url), intake, metrics, monkeypatch) as host,
    ):
        await until(lambda: intake.of("subscribed"))
        face.refuse = Refusal(403)
        venue.cut()
        await until(lambda: len(venue.attempts) >= 3)
        assert not host.connected()
        assert any("403" in reason for reason in host.reasons())
        face.refuse = None
        await until(lambda: len(intake.of("subscribed")) == 2)
        assert list(host.reasons()) == []


async def test_a_closed_connection_is_told_once_to_be_closed(
    toy, face, intake, metrics, monkeypatch
):
    recording = Recording([TRADE], rate=500, loop=True)
    async with (
        LoopbackVenue(recording, face) as venue,
        hosted(toy(venue.url), intake, metrics, monkeypatch) as host,
    ):
        await until(lambda: len(intake.frames) > 5)
        monkeypatch.setattr(Backoff, "next_seconds", lambda *_: 60.0)
        venue.close(1011)
        await until(lambda: not host.connected())
        (reason,) = host.reasons()
    assert reason.startswith("connection 0: closed: ")
    assert reason.count("closed") == 1 + reason.count("the venue closed")


async def test_a_venue_that_is_not_there_is_retried_for_ever(
    toy, face, intake, metrics, monkeypatch
):
    async with hosted(toy("ws://127.0.0.1:9/"), intake, metrics, monkeypatch) as host:
        await until(lambda: metrics.reconnects.get("unreachable", 0) >= 5)
        assert any("127.0.0.1:9" in reason for reason in host.reasons())
    assert intake.events == []


async def test_a_lost_acknowledgement_leads_to_a_new_connection(
    toy, face, intake, metrics, monkeypatch
):
    class Hasty(toy):
        def on_open(self, session):
            for send in super().on_open(session):
                yield type(send)(
                    data=send.data,
                    request=send.request,
                    subscribes=send.subscribes,
                    reply_seconds=0.1,
                )

    face.mute = True
    async with (
        LoopbackVenue([], face) as venue,
        hosted(Hasty(venue.url), intake, metrics, monkeypatch) as host,
    ):
        await until(lambda: len(venue.attempts) >= 2)
        assert any("confirm" in r or "reset" in r for r in host.reasons())
        face.mute = False
        await until(lambda: intake.of("subscribed"))
    assert intake.of("session_closed")[0]["cause"] == "reset"


async def test_silence_with_working_pings_is_noticed_by_the_data_clock(
    toy, face, intake, metrics, monkeypatch
):
    plan = ConnectionPlan(silent_seconds=0.4, stale_seconds=30.0)
    recording = Recording([TRADE], rate=200, loop=True)
    async with (
        LoopbackVenue(recording, face, ping_seconds=0.05) as venue,
        hosted(toy(venue.url, plan), intake, metrics, monkeypatch),
    ):
        await until(lambda: len(intake.frames) > 3)
        venue.silence()
        await until(lambda: intake.of("stale"))
        venue.resume()
        await until(lambda: len(intake.of("session_opened")) >= 2)
    assert intake.of("stale")[0]["cause"] == "silent"
    assert metrics.reconnects["silent"] >= 1


async def test_a_half_open_socket_is_noticed_by_the_byte_clock(
    toy, face, intake, metrics, monkeypatch
):
    plan = ConnectionPlan(silent_seconds=None, stale_seconds=0.4)
    recording = Recording([TRADE], rate=200, loop=True)
    async with (
        LoopbackVenue(recording, face) as venue,
        hosted(toy(venue.url, plan), intake, metrics, monkeypatch),
    ):
        await until(lambda: len(intake.frames) > 3)
        venue.half_open()
        await until(lambda: intake.of("stale"))
        venue.resume()
    assert intake.of("stale")[0]["cause"] == "stale"


async def test_a_process_that_was_held_up_reads_what_waits_before_it_judges_the_venue(
    toy, face, intake, metrics, monkeypatch
):
    plan = ConnectionPlan(silent_seconds=1.5, stale_seconds=1.5)
    recording = Recording([TRADE], rate=200, loop=True)
    async with (
        LoopbackVenue(recording, face) as venue,
        hosted(toy(venue.url, plan), intake, metrics, monkeypatch, read_every_seconds=0.7),
    ):
        await until(lambda: len(intake.frames) > 3)
        seen = len(intake.frames)
        await until(lambda: len(intake.frames) > seen)
        await anyio.sleep(0.6)  # looked at since, and found quiet, for the socket rests
        time.sleep(2.0)  # noqa: ASYNC251  as if the process were frozen
        held = len(intake.frames)
        await until(lambda: len(intake.frames) > held)
    assert intake.of("stale") == []


async def test_a_pause_is_felt_by_the_venue_and_nothing_is_lost(
    toy, face, intake, metrics, monkeypatch
):
    plan = ConnectionPlan(silent_seconds=0.3, stale_seconds=0.3)
    count = 60_000
    async with (
        LoopbackVenue(Recording([TRADE] * count), face) as venue,
        hosted(toy(venue.url, plan), intake, metrics, monkeypatch) as host,
    ):
        await until(lambda: len(intake.frames) > 100)
        host.pause()
        await anyio.sleep(0.8)  # longer than both clocks: our own silence is not the venue's
        held = len(intake.frames)
        assert held < count
        host.resume()
        await until(lambda: len(intake.frames) == count + 1, 30)
    assert intake.of("stale") == []
    assert intake.of("gap") == []


async def test_a_stop_closes_with_1000_and_takes_nothing_more(
    toy, face, intake, metrics, monkeypatch
):
    recording = Recording([TRADE], rate=1000, loop=True)
    async with LoopbackVenue(recording, face) as venue:
        async with hosted(toy(venue.url), intake, metrics, monkeypatch) as host:
            await until(lambda: len(intake.frames) > 3)
            host.stop()
            seen = len(intake.frames)
            await host.close(2.0)
            assert len(intake.frames) == seen
        await venue.until(lambda: not venue.clients[0].open)
        assert venue.clients[0].close_code == 1000
    assert intake.events[-1]["event"] == "session_closed"
    assert intake.events[-1]["cause"] == "stopped"


async def test_after_a_stop_a_bus_that_has_room_again_starts_no_reading(
    toy, face, intake, metrics, monkeypatch
):
    async with (
        LoopbackVenue(Recording([TRADE], loop=True), face) as venue,
        hosted(toy(venue.url), intake, metrics, monkeypatch) as host,
    ):
        await until(lambda: intake.frames)
        host.pause()
        host.stop()
        host.resume()
        read = metrics.received_bytes
        await until(lambda: not venue._front.peers[0].drained)  # nobody reads
        assert metrics.received_bytes == read


async def test_a_peer_that_speaks_no_websocket_is_a_failed_handshake(intake, metrics):
    async def babble(stream):
        async with stream:
            await stream.receive()
            await stream.send(b"SSH-2.0-nonsense\r\n\r\n")

    listener = await anyio.create_tcp_listener(local_host="127.0.0.1")
    port = listener.extra(anyio.abc.SocketAttribute.local_port)
    async with listener, anyio.create_task_group() as tasks:
        tasks.start_soon(listener.serve, babble)
        with pytest.raises(ConnectionEnded) as caught:
            await dial(Endpoint(url=f"ws://127.0.0.1:{port}/"), Nobody(), on_reached=lambda: None)
        assert caught.value.cause in {"handshake", "protocol_error", "cut"}
        tasks.cancel_scope.cancel()


async def test_a_peer_that_never_answers_is_given_up_in_time():
    listener = await anyio.create_tcp_listener(local_host="127.0.0.1")
    port = listener.extra(anyio.abc.SocketAttribute.local_port)
    async with listener, anyio.create_task_group() as tasks:
        tasks.start_soon(listener.serve, _hold)
        with pytest.raises(ConnectionEnded, match="no answer within"):
            await dial(
                Endpoint(url=f"ws://127.0.0.1:{port}/"),
                Nobody(),
                on_reached=lambda: None,
                within_seconds=0.2,
            )
        tasks.cancel_scope.cancel()


async def _hold(stream):
    async with stream:
        await anyio.sleep_forever()


class Nobody:
    def on_bytes(self, count):
        pass

    def on_frames(self, frames, binary):
        pass

    def on_pong(self):
        pass


class Poller(Feed):
    kinds = frozenset()

    def __init__(self):
        self.rounds = 0

    def parse(self, data, session):
        return Parsed("polled", kind=FrameKind.DATA)

    async def run(self, out):
        self.rounds += 1
        await out.send([b'{"round":%d}' % self.rounds, b"\x00"], binary=frozenset({1}))
        if self.rounds == 1:
            raise RuntimeError("bug of the feed")
        await anyio.sleep_forever()


async def test_a_feed_with_its_own_io_is_started_again_and_its_frames_are_kept(
    intake, metrics, monkeypatch
):
    monkeypatch.setattr(Backoff, "next_seconds", lambda *_: 0.01)
    runner = FeedRunner(Poller(), parts_for(intake, metrics))
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(runner.run)
        await until(lambda: len(intake.frames) == 4)
        runner.stop()
    assert intake.frames == [b'{"round":1}', b"\x00", b'{"round":2}', b"\x00"]
    assert intake.words() == ["session_opened", "session_closed"] * 2
    assert metrics.reconnects == {"feed_error": 1}
