from contextlib import asynccontextmanager

import anyio
import msgspec
import pytest

from ssmd_core.clock import ReceiptClock
from ssmd_core.feed import Endpoint, Parsed, WebSocketFeed
from ssmd_core.metrics import Metrics
from ssmd_core.pipeline.encoding import Encoding
from ssmd_core.pipeline.parts import PipelineParts
from ssmd_core.pipeline.pipeline import Pipeline
from ssmd_core.records import Batch, Side, Trade
from ssmd_core.testing.fakes import ManualClock, MemoryStorage, WindowTransport


@pytest.fixture
def anyio_backend():
    return "asyncio"


class EchoFeed(WebSocketFeed):
    """Every frame is a trade whose id is the frame."""

    kinds = frozenset({"trade"})

    def endpoint(self, plan):
        return Endpoint(url="ws://127.0.0.1:1/")

    def on_open(self, session):
        return ()

    def parse(self, data, session):
        return Parsed("trade", (Trade("A", 1, 1, 1, Side.BUY, data.decode()),))


class EchoEncoder:
    label = "echo:v1"
    kinds = frozenset({"trade"})

    def encode(self, record, ts):
        return record.trade_id.encode()


class Rig:
    """A pipeline with fakes around it, driven by hand."""

    def __init__(self, storage=None, transport=None, feed=None, encoder=None, **parts):
        self.clock = ManualClock()
        self.receipt = ReceiptClock(self.clock)
        self.metrics = Metrics()
        self.storage = storage
        self.transport = transport
        self.feed = feed or EchoFeed()
        self.held_back = []
        self.carried = []
        self.missed = []
        encoding = Encoding(encoder or EchoEncoder(), "toy", "c0ffee", self.metrics)
        self.pipeline = Pipeline(
            PipelineParts(
                feed=self.feed,
                clock=self.clock,
                receipt=self.receipt,
                metrics=self.metrics,
                storage=storage,
                transport=transport,
                encoding=encoding if transport else None,
                **parts,
            )
        )
        self.pipeline.attach(
            pause=lambda: self.held_back.append(True),
            resume=lambda: self.held_back.append(False),
            carry=lambda: self.carried.append(self.clock.wall_ns()),
            miss=lambda from_ts, to_ts: self.missed.append((from_ts, to_ts)),
        )

    def deliver(self, *frames):
        batch = Batch(self.receipt.stamp(len(frames)), list(frames))
        self.pipeline.deliver(batch, self.feed.parse_batch(batch.frames, None))
        return batch

    def trades(self):
        return [m.payload for m in self.transport.taken if m.kind == "trade"]

    def events(self):
        return [msgspec.json.decode(line) for _, line in self.storage.notes_kept]


@pytest.fixture
def rig():
    return Rig


@pytest.fixture
def storage():
    return MemoryStorage()


@pytest.fixture
def transport():
    return WindowTransport()


@asynccontextmanager
async def _running(rig):
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(rig.pipeline.run, lambda: None)
        yield
        tasks.cancel_scope.cancel()


@pytest.fixture
def running():
    """Run a rig's clockwork in the background."""
    return _running
