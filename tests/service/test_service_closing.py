"""How a stop shares its seconds, and ends whatever hangs."""

import json
import subprocess
import sys
import threading

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ssmd_core.errors import StorageFailed
from ssmd_core.service.closing import Closer, Stop, close_all, share

pytestmark = pytest.mark.anyio


def test_the_usual_limit_leaves_a_quarter_for_the_archive_and_a_second_for_each_peer():
    alone = share(20.0, archived=False)
    assert alone.archive_seconds == 0
    assert alone.drain_seconds == share(20.0).drain_seconds + 5
    shares = share(20.0)
    assert (shares.drain_seconds, shares.archive_seconds, shares.close_seconds) == (12.5, 5.0, 1.0)


@given(st.floats(min_value=4.0, max_value=3_600.0))
def test_all_shares_together_stay_within_the_limit(limit):
    shares = share(limit)
    spent = shares.drain_seconds + shares.archive_seconds + 2 * shares.close_seconds
    assert spent + shares.spare_seconds <= limit + 1e-6


@given(st.floats(min_value=0.0, max_value=4.0))
def test_a_tiny_limit_still_closes_files(limit):
    shares = share(limit)
    assert shares.drain_seconds <= limit
    assert (shares.archive_seconds, shares.close_seconds) == (1.0, 0.5)


class Seconds:
    now = 100.0

    def __call__(self):
        return self.now


def test_the_archive_gets_what_draining_left():
    seconds = Seconds()
    stop = Stop(20.0, monotonic=seconds, force=pytest.fail)
    stop.begin()
    seconds.now += 2.0
    assert stop.archive_seconds() == 20.0 - 2.0 - 2.0 - 0.25
    seconds.now += 10.5
    assert stop.archive_seconds() == 20.0 - 12.5 - 2.0 - 0.25
    seconds.now += 60.0
    assert stop.archive_seconds() == 5.0
    stop.end()


def test_a_stop_counts_from_its_first_sign():
    seconds = Seconds()
    stop = Stop(20.0, monotonic=seconds, force=pytest.fail)
    stop.begin()
    seconds.now += 3.0
    stop.begin()
    assert stop.archive_seconds() == 20.0 - 3.0 - 2.25
    stop.end()


def test_what_hangs_is_ended_when_the_limit_has_passed(monkeypatch):
    monkeypatch.setattr("ssmd_core.service.closing._LEAST_SECONDS", 0.0)
    ended = threading.Event()
    stop = Stop(0.01, monotonic=Seconds(), force=ended.set)
    stop.begin()
    assert ended.wait(10)


def test_a_stop_that_is_over_ends_nothing(monkeypatch):
    monkeypatch.setattr("ssmd_core.service.closing._LEAST_SECONDS", 0.0)
    forced = []
    stop = Stop(0.2, monotonic=Seconds(), force=lambda: forced.append(True))
    stop.begin()
    stop.end()
    stop._timer.join(10)
    assert forced == []
    Stop(1.0, monotonic=Seconds(), force=pytest.fail).end()


async def test_what_fails_or_hangs_keeps_nothing_else_open():
    closed = []

    async def fail():
        raise StorageFailed("the disk died")

    async def well():
        closed.append(True)

    closers = [
        Closer(part="archive", close=fail, seconds=5.0),
        Closer(part="bus", close=anyio.sleep_forever, seconds=0.01),
        Closer(part="venue", close=well, seconds=5.0),
    ]
    fault = await close_all(closers)
    assert isinstance(fault, StorageFailed)
    assert closed == [True]


HANGING = """
import os, signal, sys, threading
from types import SimpleNamespace
import anyio
from anyio import to_thread
from ssmd_core.config import ProcessSettings
from ssmd_core.feed import Feed, Parsed
from ssmd_core.service.connector import Connector
from ssmd_core.service.logs import configure
from ssmd_core.testing.fakes import MemoryStorage

PART = sys.argv[1]

class Hanging(MemoryStorage):
    async def hang(self):
        await to_thread.run_sync(threading.Event().wait)

    async def sync(self):
        if PART == "sync" and self.frames:
            await self.hang()

    async def aclose(self):
        if PART == "aclose":
            await self.hang()

    def append(self, batch):
        super().append(batch)
        os.kill(os.getpid(), signal.SIGTERM)

class Toy(Feed):
    def parse(self, data, session):
        return Parsed("toy")

    async def run(self, out):
        await out.send([b"{}"])
        await anyio.sleep_forever()

plan = SimpleNamespace(
    name="toy", environment="test", plugin="test:toy", feed=Toy(), environ={}, origins={},
    storage_type=SimpleNamespace(name="hanging", open=lambda context, config: Hanging()),
    storage_config=None, schema_type=None, pause_on_archive_failure=False,
    transport_type=SimpleNamespace(name="memory"),
)
configure("info", "json")
settings = ProcessSettings.read({"SSMD_SHUTDOWN_SECONDS": "4"}, health_addr="127.0.0.1:0")
sys.exit(anyio.run(Connector(plan, settings).run))
"""


@pytest.mark.parametrize("part", ["sync", "aclose"])
def test_a_disk_that_hangs_holds_up_no_stop(part):
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", HANGING, part],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 1, done.stderr
    hanging, last = (json.loads(line) for line in done.stderr.splitlines()[-2:])
    assert "wait" in str(hanging["stacks"])
    assert last["event"].startswith("stopped by force")
    assert last["exit_code"] == 1


def test_a_disk_that_answers_is_closed_in_order():
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", HANGING, "nothing"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stderr.splitlines()[-1])["event"] == "stopped cleanly"
