"""What /ready says at each moment of an outage, a catch-up and a full disk."""

from types import SimpleNamespace

import anyio
import pytest

from ssmd_core.clock import ReceiptClock, iso
from ssmd_core.errors import StorageFailed
from ssmd_core.feed import Endpoint, Parsed, WebSocketFeed
from ssmd_core.metrics import Metrics
from ssmd_core.pipeline.encoding import Encoding
from ssmd_core.pipeline.parts import PipelineParts
from ssmd_core.pipeline.pipeline import Pipeline
from ssmd_core.records import Batch, Side, Trade
from ssmd_core.service.monitored import Component
from ssmd_core.service.overview import RUNNING, Parts, readiness, status
from ssmd_core.testing import until
from ssmd_core.testing.fakes import ManualClock, MemoryStorage, WindowTransport

pytestmark = pytest.mark.anyio


class Echo(WebSocketFeed):
    kinds = frozenset({"trade"})
    label = "echo:v1"

    def endpoint(self, plan):
        return Endpoint(url="ws://127.0.0.1:1/")

    def on_open(self, session):
        return ()

    def parse(self, data, session):
        return Parsed("trade", (Trade("A", 1, 1, 1, Side.BUY, data.decode()),))

    def encode(self, record, ts):
        return record.trade_id.encode()


class Host:
    """A feed to which nothing happens."""

    def reasons(self):
        return iter(())

    def degraded(self):
        return iter(())

    def status(self):
        return []


class World:
    """A connector's parts with fakes around them."""

    def __init__(self, storage, transport, **parts):
        self.clock = ManualClock()
        self.metrics = Metrics()
        self.storage, self.transport = storage, transport
        self.receipt = ReceiptClock(self.clock)
        feed = self.feed = Echo()
        self.pipeline = Pipeline(
            PipelineParts(
                feed=feed,
                clock=self.clock,
                receipt=self.receipt,
                metrics=self.metrics,
                storage=storage,
                transport=transport,
                encoding=Encoding(feed, "toy", "c0ffee", self.metrics) if transport else None,
                **parts,
            )
        )
        kind = SimpleNamespace(name="fake", version="v1")
        self.parts = Parts(
            plan=SimpleNamespace(
                name="toy",
                environment="test",
                storage_type=kind,
                transport_type=kind,
                schema_type=kind,
            ),
            phase=RUNNING,
            metrics=self.metrics,
            host=Host(),
            pipeline=self.pipeline,
            storage=storage,
        )

    def deliver(self, *frames):
        batch = Batch(self.receipt.stamp(len(frames)), list(frames))
        self.pipeline.deliver(batch, self.feed.parse_batch(batch.frames, None))
        return batch

    def reasons(self):
        said = readiness(self.parts)
        assert said.ready == (not said.reasons)
        return list(said.reasons)

    def degraded(self):
        return list(readiness(self.parts).degraded)


@pytest.fixture
def storage():
    return MemoryStorage()


@pytest.fixture
def transport():
    return WindowTransport()


def test_all_is_well(storage, transport):
    world = World(storage, transport)
    world.deliver(b"1")
    assert (world.reasons(), world.degraded()) == ([], [])


def test_a_reason_tells_which_component_it_is_about(storage, transport):
    world = World(storage, transport)
    assert readiness(world.parts).failing == set()
    storage.failing = "ENOSPC"
    world.deliver(b"1")
    assert readiness(world.parts).failing == {Component.ARCHIVE}
    transport.online = False
    assert readiness(world.parts).failing == {Component.ARCHIVE, Component.BUS}
    world.parts.host.reasons = lambda: iter(("connection 0: closed",))
    assert readiness(world.parts).failing == set(Component)


def test_a_bus_that_is_away_is_not_ready_and_its_backlog_is_named(storage, transport):
    world = World(None, transport)
    transport.online = False
    world.deliver(b"1", b"2")
    assert world.reasons() == ["bus: the bus is away; backlog: 2 messages"]
    assert world.degraded() == []


def test_a_bus_that_is_away_for_long_is_behind_by_so_many_seconds_of_the_archive(
    storage, transport
):
    world = World(storage, transport)
    transport.online = False
    first = world.deliver(b"1")
    world.clock.advance(90)
    world.deliver(b"2")
    world.pipeline.publisher.fall_behind()
    since = iso(first.first_ts - 1)
    backlog = f"backlog: 90.0 s of the archive, since {since}"
    assert world.reasons() == [f"bus: the bus is away; {backlog}"]
    transport.online = True
    assert world.reasons() == []
    assert world.degraded() == [f"bus: {backlog}, being worked off"]


async def test_once_it_has_caught_up_nothing_is_said(storage, transport):
    world = World(storage, transport)
    transport.online = False
    world.deliver(b"1")
    world.pipeline.publisher.fall_behind()
    transport.online = True
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(world.pipeline.run, lambda: None)
        await until(lambda: world.pipeline.publisher.behind_from is None)
        tasks.cancel_scope.cancel()
    assert (world.reasons(), world.degraded()) == ([], [])


async def test_an_archive_that_cannot_be_read_back_is_not_ready(storage, transport, monkeypatch):
    world = World(storage, transport)
    transport.online = False
    world.deliver(b"1")
    world.pipeline.publisher.fall_behind()
    transport.online = True
    monkeypatch.setattr("ssmd_core.pipeline.catchup._RETRY_SECONDS", 0.01)
    async with anyio.create_task_group() as tasks:
        with monkeypatch.context() as broken:
            broken.setattr(storage, "read", lambda after, upto: 1 / 0)
            tasks.start_soon(world.pipeline.run, lambda: None)
            await until(world.reasons)
            (reason,) = world.reasons()
            assert reason.startswith("bus: cannot catch up, reading the archive fails: division")
        await until(lambda: not world.reasons())
        tasks.cancel_scope.cancel()


async def test_what_a_storage_has_to_tell_degrades_and_keeps_us_ready(
    storage, transport, monkeypatch
):
    world = World(storage, transport)
    monkeypatch.setattr(storage, "degraded", lambda: ["uploads fail"], raising=False)
    assert (world.reasons(), world.degraded()) == ([], ["archive: uploads fail"])
    monkeypatch.setattr(storage, "degraded", lambda: 1 / 0)
    assert world.degraded() == [
        "archive: the storage's `degraded` raised ZeroDivisionError('division by zero')"
    ]


async def test_until_the_bus_says_how_far_it_came_a_lost_cursor_is_not_ready(storage, transport):
    World(storage, transport).deliver(b"1")
    world = World(storage, WindowTransport())
    world.transport.held = []
    world.clock.advance(60)
    await world.pipeline.recover(await storage.open())
    asking = "bus: the archive has frames and no cursor: the bus is asked how far it came"
    assert (world.reasons(), world.degraded()) == ([asking], [])
    world.transport.online = False
    assert world.reasons()[0].startswith("bus: the bus is away; backlog:")
    assert world.reasons()[1:] == [asking]
    world.transport.online = True
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(world.pipeline.run, lambda: None)
        await until(lambda: world.pipeline.publisher.behind_from is None)
        tasks.cancel_scope.cancel()
    assert world.reasons() == []


def test_a_full_disk_is_not_ready_and_what_waits_is_named(storage, transport):
    world = World(storage, transport)
    storage.failing = "no space left on /data"
    world.deliver(b"1", b"2")
    assert world.reasons() == ["archive: no space left on /data; 2 frames wait in memory"]
    storage.failing = ""
    world.pipeline.archiver.retry()
    assert world.reasons() == []


def test_reading_that_pauses_for_the_archive_says_so(storage):
    world = World(storage, None, pause_on_archive_failure=True)
    world.pipeline.archiver._limit = 1
    storage.failing = "no space left"
    world.deliver(b"1")
    assert world.reasons() == ["archive: no space left; 1 frames wait in memory"]
    assert world.degraded() == [
        "reading is paused: the archive refuses frames and memory is full: no space left"
    ]


def test_reading_that_pauses_for_the_bus_says_so():
    transport = WindowTransport(window=1)
    world = World(None, transport)
    world.deliver(*[b"%d" % n for n in range(9_000)])
    assert world.degraded()[0] == "reading is paused: the bus takes less than the venue sends"


async def test_a_disk_that_does_not_answer_is_not_ready(storage):
    world = World(storage, None)

    async def hang():
        await anyio.sleep_forever()

    storage.sync = hang
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(world.pipeline.durability.sync)
        await anyio.wait_all_tasks_blocked()
        assert world.reasons() == []
        world.clock.advance(30)
        assert world.reasons() == [
            "archive: a sync has been running for 30 s: the disk does not answer"
        ]
        tasks.cancel_scope.cancel()


def test_a_transport_whose_health_raises_is_not_ready(storage, transport):
    world = World(storage, transport)
    transport.health = lambda: 1 / 0
    (reason,) = world.reasons()
    assert reason.startswith("bus: the transport's `health` raised ZeroDivisionError")
    assert status(world.parts)["ready"] is False


def test_a_storage_whose_health_and_mark_raise_is_not_ready_and_has_a_status(storage):
    world = World(storage, None)
    storage.health = storage.mark = lambda: 1 / 0
    (reason,) = world.reasons()
    assert reason.startswith("archive: the storage's `health` raised ZeroDivisionError")
    assert status(world.parts)["storage"] == {"type": "fake"}


def test_the_status_says_where_all_stands(storage, transport):
    world = World(storage, transport)
    world.deliver(b"1")
    said = status(world.parts)
    assert said["storage"]["offset"] == 1
    assert (said["transport"]["connected"], said["transport"]["behind_from"]) == (True, None)


async def test_a_failing_sync_is_not_ready(storage):
    world = World(storage, None)

    async def fail():
        raise StorageFailed("EIO")

    storage.sync = fail
    await world.pipeline.durability.sync()
    assert world.reasons() == ["archive: EIO; 0 frames wait in memory"]
    assert world.pipeline.durability.hanging() == ""
