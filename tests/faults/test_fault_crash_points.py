"""A crash behind every system call of a run, by a kill or a power cut: all recover to the same."""

import json
import logging
import os
import shutil
from contextlib import asynccontextmanager
from itertools import accumulate
from types import SimpleNamespace
from typing import NamedTuple

import anyio
import pytest
from anyio import to_thread

from rig.conservation import Books, backfilled_ids, judge_archive, judge_bus, nanoseconds
from rig.crashes import Call, Recorder, State, every_state
from ssmd_core.clock import NS, ReceiptClock
from ssmd_core.feed import Endpoint, Parsed, WebSocketFeed
from ssmd_core.metrics import Metrics
from ssmd_core.pipeline.encoding import Encoding
from ssmd_core.pipeline.identity import connector_id
from ssmd_core.pipeline.parts import PipelineParts
from ssmd_core.pipeline.pipeline import Pipeline
from ssmd_core.records import Batch, Side, Stream, Ticker, Trade
from ssmd_core.sink import StorageContext
from ssmd_core.testing.fakes import ManualClock, WindowTransport
from ssmd_sink_file.config import LocalConfig
from ssmd_sink_file.frames import compress
from ssmd_sink_file.local import packing
from ssmd_sink_file.local.sink import LocalStorage

pytestmark = pytest.mark.anyio

BEFORE_MIDNIGHT = 1_795_391_998 * NS
"""2026-11-22T23:59:58Z."""
PART_BYTES = 900
FRESH = 2
"""Frames received after a recovery."""
soak = [pytest.mark.soak, pytest.mark.timeout(900)]


class ToyFeed(WebSocketFeed):
    """Frames of a venue with one market."""

    kinds = frozenset({"trade", "ticker"})

    def endpoint(self, plan):
        return Endpoint(url="ws://127.0.0.1:1/")

    def on_open(self, session):
        return ()

    def parse(self, data, session):
        said = json.loads(data)
        name = said["msg"]["market_ticker"]
        if said["type"] == "trade":
            return Parsed("trade", (Trade(name, 1, 1, 1, Side.BUY, said["msg"]["trade_id"]),))
        return Parsed("ticker", (Ticker(name, 1, 1, 1, 1, 1, 1),))

    def parse_fetched(self, data):
        rows = json.loads(data)["trades"]
        return Parsed("rest", tuple(Trade("A", 1, 1, 1, Side.BUY, r["trade_id"]) for r in rows))


class NoEncoder:
    label = "none:v1"
    kinds = ToyFeed.kinds

    def encode(self, record, ts):
        return b""


class Bus(WindowTransport):
    """Tells the recorder what it got, between the calls of the disk."""

    def __init__(self, held, recorder):
        super().__init__()
        self.held = list(held)
        self.recorder = recorder

    def publish(self, messages):
        super().publish(messages)
        self._note()

    def acknowledge(self, count=None):
        super().acknowledge(count)
        self._note()

    def _note(self):
        if self.recorder is not None:
            self.recorder.mark("bus", len(self.taken), self._acknowledged)


class Run:
    """One life of a connector: storage and pipeline as the service builds them."""

    def __init__(self, root, clock, compression, held, recorder=None):
        self.clock = clock
        self.bus = Bus(held, recorder)
        self.recorder = recorder
        self.connection = 0
        self.number = 0
        self.name = f"{clock.wall_ns()}"
        self.metrics = Metrics()
        context = StorageContext(
            feed="kalshi",
            environment="prod",
            metrics=self.metrics,
            report=self._write,
            environ={},
            warn=lambda _: None,
        )
        settings = {"path": str(root), "compression": compression, "part_bytes": PART_BYTES}
        self.storage = LocalStorage(
            context, LocalConfig(**settings), lock_seconds=0.0, wall_ns=clock.wall_ns
        )
        self.pipeline = None
        self.session = None

    @asynccontextmanager
    async def living(self):
        last_ts = await self.storage.open()
        receipt = self.receipt = ReceiptClock(self.clock, last_ts)
        connector = await connector_id(self.storage, last_ts)
        self.pipeline = Pipeline(
            PipelineParts(
                feed=ToyFeed(),
                clock=self.clock,
                receipt=receipt,
                metrics=self.metrics,
                storage=self.storage,
                transport=self.bus,
                encoding=Encoding(NoEncoder(), "kalshi", connector, self.metrics),
            )
        )
        self.pipeline.attach(pause=_nothing, resume=_nothing, carry=self.carry, miss=_nothing)
        await self.pipeline.recover(last_ts)
        self.open_session()
        async with anyio.create_task_group() as tasks:
            # The rest of the clockwork is called where the script says.
            tasks.start_soon(self.pipeline.catchup.run)
            yield
            tasks.cancel_scope.cancel()

    async def end(self):
        self.close_session("stopped")
        await self.pipeline.drain()
        self.bus.acknowledge()
        await self.pipeline.finish()
        await self.storage.aclose()

    def open_session(self):
        self.connection += 1
        self.session = f"{self.name}.{self.connection}"
        self.frames_of_session = 0
        self.report("session_opened", **self.pipeline.place())

    def close_session(self, cause):
        self.report("session_closed", cause=cause, frames=self.frames_of_session)

    def _write(self, event, **fields):
        self.pipeline.ledger.write(event, **fields)

    def report(self, event, **fields):
        self.pipeline.report(event, session=self.session, conn=0, **fields)

    def carry(self):
        self.report("session_carried", channels={}, subscriptions=[])

    def frames(self, count):
        self.frames_of_session += count
        self._deliver([self._frame() for _ in range(count)], Stream.LIVE)

    def rest(self):
        self.number += 1
        body = b'{"trades":[{"trade_id":"r%b.%d"}]}' % (self.name.encode(), self.number)
        self._deliver([body], Stream.REST)

    def _frame(self):
        self.number += 1
        if self.number % 2:
            name = f"{self.name}.{self.number}"
            return b'{"type":"trade","msg":{"market_ticker":"A","trade_id":"%b"}}' % name.encode()
        return b'{"type":"ticker","msg":{"market_ticker":"A"}}'

    def _deliver(self, frames, stream):
        batch = Batch(self.receipt.stamp(len(frames)), frames, stream=stream)
        feed = self.pipeline._parts.feed
        read = feed.parse if stream is Stream.LIVE else lambda data, _: feed.parse_fetched(data)
        self.pipeline.deliver(batch, [read(frame, None) for frame in frames])
        self.clock.advance(0.01)
        self.mark("archived", batch.first_ts, batch.last_ts)

    async def sync(self):
        head = self.pipeline.head_ts
        await self.pipeline.durability.sync()
        assert not self.pipeline.archiver.failing
        self.mark("durable", head)

    async def settle(self):
        await self.sync()
        while self.storage.is_busy:
            await self.sync()

    async def live(self):
        while self.pipeline.publisher.behind_from is not None:
            await anyio.lowlevel.checkpoint()

    def mark(self, name, *args):
        if self.recorder is not None:
            self.recorder.mark(name, *args)

    def meanwhile(self, call, *args):
        """Let something happen while the disk syncs next."""
        self.recorder.during_sync = lambda: call(*args)


def _nothing(*_):
    pass


async def write_much(run):
    """Let everything happen that writes: appends, syncs, parts, cursors, midnight, a catch-up."""
    async with run.living():
        run.frames(3)
        run.meanwhile(run.frames, 1)
        await run.sync()
        run.bus.acknowledge(2)
        await run.pipeline.durability.save_place()
        run.rest()
        run.frames(6)
        await run.sync()
        run.meanwhile(run.frames, 1)
        await run.settle()
        run.bus.acknowledge()
        await run.pipeline.durability.save_place()

        run.bus.online = False
        run.frames(5)
        run.pipeline.publisher.fall_behind()
        run.frames(2)
        run.meanwhile(run.frames, 2)
        await run.sync()
        run.close_session("lost")
        run.open_session()
        run.frames(2)
        run.bus.online = True
        run.pipeline.on_room()
        await run.live()
        run.bus.acknowledge(4)
        await run.pipeline.durability.save_place()

        run.clock.advance(3)
        run.frames(3)
        run.rest()
        await run.settle()
        run.bus.acknowledge()
        await run.pipeline.durability.save_place()
        run.frames(4)
        await run.settle()
        run.frames(1)
        await run.end()


async def write_little(run):
    """Start, receive a little, stop."""
    async with run.living():
        run.frames(2)
        await run.sync()
        await run.live()
        run.bus.acknowledge()
        await run.pipeline.durability.save_place()
        await run.settle()
        await run.end()


def some(data):
    """Where some bytes are cut: at both ends, in the middle, and around the ends of lines."""
    ends = [n + 1 for n, byte in enumerate(data) if byte == 10]
    return sorted({1, len(data) // 2, len(data) - 1, *ends[:2]} - {0, len(data)})


def every(data):
    """At every byte."""
    return range(1, len(data))


class Told(NamedTuple):
    """What had been said when a crash came."""

    archived: frozenset = frozenset()
    """Receipt times of frames."""
    durable: int = 0
    """Receipt time up to which a sync had returned."""
    taken: int = 0
    acknowledged: int = 0

    def and_then(self, call):
        match call:
            case Call("mark archived", (first, last)):
                return self._replace(archived=self.archived | set(range(first, last + 1)))
            case Call("mark durable", (upto,)):
                return self._replace(durable=upto)
            case Call("mark bus", (taken, acknowledged)):
                return self._replace(taken=taken, acknowledged=acknowledged)
        return self


BEGINNING = Told()


@pytest.fixture(autouse=True)
def small(monkeypatch):
    """Compressed frames of some lines, a frame a slice."""
    monkeypatch.setattr(compress, "_FRAME_BYTES", 400)
    monkeypatch.setattr(packing, "_SLICE_SECONDS", 0.0)


@pytest.fixture(autouse=True)
def swift(monkeypatch):
    """No disk and no thread is waited for, and nothing is logged."""

    async def at_once(call, *args, **_):
        await anyio.lowlevel.checkpoint()
        return call(*args)

    monkeypatch.setattr(to_thread, "run_sync", at_once)
    for call in ("fsync", "fdatasync"):
        monkeypatch.setattr(os, call, lambda fd: None)
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


class Recorded(NamedTuple):
    """A whole run, and what there was before it."""

    calls: list
    told: list
    """``Told`` before the first call and behind each."""
    messages: list
    held: list
    start: State | None


async def record(root, compression, clock, script, *, told=BEGINNING, held=(), start=None):
    root.mkdir()
    if start is not None:
        start.write(root)
    recorder = Recorder(root)
    run = Run(root, clock, compression, held, recorder)
    with recorder.installed(), anyio.fail_after(60):
        await script(run)
    told = list(accumulate(recorder.calls, Told.and_then, initial=told))
    return Recorded(recorder.calls, told, run.bus.taken, list(held), start)


async def recover(root, compression, clock, held):
    """Start anew on what a crash left, receive a little, and stop."""
    run = Run(root, clock, compression, held)
    with anyio.fail_after(30):
        async with run.living():
            run.frames(FRESH)
            await run.live()
            await run.end()
    return run


def as_stored(message):
    tail = f".{message.ticker}" if message.ticker else ""
    headers = {"Nats-Msg-Id": message.msg_id, "Ssmd-Origin": message.origin}
    return SimpleNamespace(subject=f"prod.kalshi.{message.kind}{tail}", headers=headers)


def judge(root, run, told, held, *, killed):
    """Check what stands in the archive and on the bus after the recovery."""
    books = judge_archive(root, crashes=2) if killed else Books(root)
    times = [line.ts for line in books.lines]
    assert times == sorted(set(times)), "a frame stands twice, or out of order"
    assert len(times) >= FRESH
    there = {*times, *(line.ts for line in books.rest)}
    promised = told.archived if killed else {ts for ts in told.archived if ts <= told.durable}
    assert promised <= there, "a frame is gone that was there"
    messages = held + run.bus.taken
    ids = {message.msg_id for message in messages}
    assert len(ids) == len(messages), "a message is stored twice"
    there |= {nanoseconds(line["ts"]) for line in books.ledger}
    lost = [message for message in held if message.ts not in there]
    assert not (killed and lost), "on the bus, not in the archive"
    assert all(message.ts > told.durable for message in lost), "durable, and not in the archive"
    judge_bus(books, [as_stored(message) for message in messages if message not in lost])
    assert backfilled_ids(books) <= ids
    told_on_bus = {message.ts for message in messages if message.kind == "status"}
    assert {nanoseconds(line["ts"]) for line in books.ledger} <= told_on_bus


async def try_every_crash(folder, recorded, compression, cuts, wall_ns):
    """Recover from whatever a crash of a recorded run may leave; return from how much."""
    tried = 0
    for state in every_state(recorded.calls, cuts, some, recorded.start):
        told = recorded.told[state.calls]
        killed = state.how.startswith("killed")
        # What was on its way the bus got, or not; the disk does not know.
        for taken in {told.taken, told.acknowledged} if killed else {told.taken}:
            root = folder / "archive"
            root.mkdir()
            state.write(root)
            held = recorded.held + recorded.messages[:taken]
            clock = ManualClock(max(told.archived, default=wall_ns) + NS // 2)
            try:
                run = await recover(root, compression, clock, held)
                judge(root, run, told, held, killed=killed)
            except (Exception, BaseExceptionGroup) as error:
                call = recorded.calls[state.calls - 1]
                raise AssertionError(f"{state.how}, behind {state.calls}: {call}") from error
            shutil.rmtree(root)
            tried += 1
    return tried


@pytest.mark.parametrize("cuts", [some, pytest.param(every, marks=soak)])
@pytest.mark.parametrize("compression", ["none", "zstd"])
async def test_a_crash_behind_every_call_of_a_run_costs_nothing_that_was_promised(
    compression, cuts, tmp_path
):
    clock = ManualClock(BEFORE_MIDNIGHT)
    recorded = await record(tmp_path / "whole", compression, clock, write_much)
    tried = await try_every_crash(tmp_path, recorded, compression, cuts, BEFORE_MIDNIGHT)
    assert tried > 700


@pytest.mark.parametrize("cuts", [some, pytest.param(every, marks=soak)])
async def test_a_crash_while_another_crash_is_recovered_from_costs_nothing_either(cuts, tmp_path):
    clock = ManualClock(BEFORE_MIDNIGHT)
    first = await record(tmp_path / "first", "zstd", clock, write_much)
    *_, start = (state for state in every_state(first.calls, some, some) if is_halfway(state))
    told = first.told[start.calls]
    held = first.messages[: told.acknowledged]
    told = Told(told.archived, durable=max(told.archived))
    clock = ManualClock(told.durable + NS)
    place = tmp_path / "second"
    second = await record(place, "zstd", clock, write_little, told=told, held=held, start=start)
    tried = await try_every_crash(tmp_path, second, "zstd", cuts, clock.wall_ns())
    assert tried > 100


def is_halfway(state):
    """Say whether a part is on its way into a compressed file, and a line is torn."""
    names = {name.partition("/")[2]: data for name, data in state.files}
    is_closing = any(name.endswith(".closing") for name in names)
    is_torn = not names.get("kalshi.jsonl", b"\n").endswith(b"\n")
    return state.how.startswith("killed") and is_closing and is_torn
