from __future__ import annotations

import logging
import threading

import anyio
import anyio.to_thread
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rig.loops import LOOPS
from ssmd_core.service.pulse import Beat, Finding, Pulse, Watchdog, judge, stacks

LOGGER = "ssmd_core.service.pulse"


class Caught(logging.Handler):
    """Keeps records, and wakes whoever waits for a message."""

    def __init__(self) -> None:
        super().__init__()
        self.records: list[logging.LogRecord] = []
        self.awaited: dict[str, threading.Event] = {}

    def emit(self, record):
        self.records.append(record)
        self.event(record.getMessage()).set()

    def event(self, message):
        return self.awaited.setdefault(message, threading.Event())

    def count(self, message):
        return sum(record.getMessage() == message for record in self.records)


@pytest.fixture
def caught():
    handler = Caught()
    logger = logging.getLogger(LOGGER)
    logger.addHandler(handler)
    yield handler
    logger.removeHandler(handler)


def test_nothing_watched_is_alive(clock):
    assert Pulse(clock).alive() == (True, "")


def test_a_component_that_speaks_in_time_is_alive(clock):
    pulse = Pulse(clock)
    beat = pulse.watch("pipeline", 30)
    clock.pass_seconds(29)
    beat()
    clock.pass_seconds(30)
    assert pulse.alive().ok


def test_a_component_that_falls_silent_is_named_with_its_limit(clock):
    pulse = Pulse(clock)
    pulse.watch("pipeline", 30)
    clock.pass_seconds(31)
    assert pulse.alive() == (
        False,
        "pipeline: no sign of life for 31.0 s, the limit is 30 s",
    )


def test_every_silent_component_is_named_and_no_other(clock):
    pulse = Pulse(clock)
    pulse.watch("pipeline", 5)
    pulse.watch("sessions", 5)
    pulse.watch("archive", 500)
    clock.pass_seconds(6)
    reason = pulse.alive().reason
    assert "pipeline" in reason
    assert "sessions" in reason
    assert "archive" not in reason


def test_a_component_that_recovers_is_alive_again(clock):
    pulse = Pulse(clock)
    beat = pulse.watch("pipeline", 5)
    clock.pass_seconds(6)
    assert not pulse.alive().ok
    beat()
    assert pulse.alive().ok


def test_a_component_that_ended_as_it_should_is_no_longer_expected(clock):
    pulse = Pulse(clock)
    beat = pulse.watch("pipeline", 5)
    pulse.watch("sessions", 50)
    pulse.unwatch(beat)
    clock.pass_seconds(6)
    assert pulse.alive().ok


def test_two_components_of_one_name_are_told_apart(clock):
    pulse = Pulse(clock)
    first, _ = pulse.watch("session", 5), pulse.watch("session", 5)
    pulse.unwatch(first)
    clock.pass_seconds(6)
    assert pulse.alive().reason.count("session") == 1


@given(
    st.lists(
        st.tuples(st.floats(0.1, 100), st.integers(0, 200_000_000_000)), min_size=1, max_size=5
    )
)
def test_alive_is_exactly_that_no_silence_exceeds_its_limit(components):
    now_ns = 200_000_000_000
    beats = [Beat("x", limit, None, last_ns) for limit, last_ns in components]
    expected = all((now_ns - last_ns) / 1e9 <= limit for limit, last_ns in components)
    assert judge(beats, now_ns).ok is expected


def test_the_watchdog_tells_a_wedge_once_and_its_end_once():
    watchdog = Watchdog(10)
    silences = [0, 5, 11, 12, 13, 0.5, 0.5, 11]
    assert [watchdog.look(silence, 1) for silence in silences] == [
        Finding.NOTHING_NEW,
        Finding.NOTHING_NEW,
        Finding.WEDGED,
        Finding.NOTHING_NEW,
        Finding.NOTHING_NEW,
        Finding.TURNS_AGAIN,
        Finding.NOTHING_NEW,
        Finding.WEDGED,
    ]


def test_a_process_that_was_suspended_as_a_whole_is_not_wedged():
    watchdog = Watchdog(10)
    assert watchdog.look(3600, 3600) is Finding.NOTHING_NEW
    assert watchdog.look(0.2, 1) is Finding.NOTHING_NEW


def test_a_loop_that_stays_silent_after_a_suspension_is_wedged():
    watchdog = Watchdog(10)
    assert watchdog.look(3600, 3600) is Finding.NOTHING_NEW
    assert watchdog.look(3601, 1) is Finding.WEDGED


def test_the_stacks_say_where_each_thread_stands():
    ready, go_on = threading.Event(), threading.Event()

    def waits_in_a_named_function():
        ready.set()
        go_on.wait(30)

    thread = threading.Thread(target=waits_in_a_named_function, name="waiter")
    thread.start()
    ready.wait(30)
    shown = stacks()
    go_on.set()
    thread.join()
    assert "waits_in_a_named_function" in shown["waiter"]
    assert "test_the_stacks_say_where_each_thread_stands" in shown["MainThread"]


@pytest.mark.anyio
@pytest.mark.parametrize("anyio_backend", LOOPS)
async def test_a_turning_loop_is_alive_and_stamped(clock):
    pulse = Pulse(clock, limit_seconds=10, stamp_seconds=0.01)
    async with anyio.create_task_group() as tasks:
        await tasks.start(pulse.run)
        clock.pass_seconds(11)
        with anyio.fail_after(10):
            while not pulse.alive().ok:
                await anyio.sleep(0.001)
        tasks.cancel_scope.cancel()


@pytest.mark.anyio
@pytest.mark.parametrize("anyio_backend", LOOPS)
async def test_a_loop_that_is_not_stamped_is_dead(clock):
    pulse = Pulse(clock, limit_seconds=10, stamp_seconds=3600)
    async with anyio.create_task_group() as tasks:
        await tasks.start(pulse.run)
        clock.pass_seconds(11)
        assert pulse.alive().reason.startswith("event loop: no sign of life for 11.0 s")
        tasks.cancel_scope.cancel()


@pytest.mark.anyio
@pytest.mark.parametrize("anyio_backend", LOOPS)
async def test_a_wedged_loop_is_logged_once_with_all_stacks_and_so_is_its_recovery(caught):
    pulse = Pulse(limit_seconds=0.2, stamp_seconds=0.02)
    async with anyio.create_task_group() as tasks:
        await tasks.start(pulse.run)
        # The loop stands still here until the thread outside it has noticed.
        assert caught.event("event loop stands still").wait(30)
        with anyio.fail_after(30):
            await anyio.to_thread.run_sync(caught.event("event loop turns again").wait)
        tasks.cancel_scope.cancel()
    assert caught.count("event loop stands still") == 1
    (record, *_) = caught.records
    assert "test_a_wedged_loop_is_logged" in record.stacks["MainThread"]


@pytest.mark.anyio
@pytest.mark.parametrize("anyio_backend", LOOPS)
async def test_the_thread_ends_with_the_pulse():
    pulse = Pulse(stamp_seconds=0.01)
    before = set(threading.enumerate())  # those of other tests may still be ending
    async with anyio.create_task_group() as tasks:
        await tasks.start(pulse.run)
        started = set(threading.enumerate()) - before
        (guard,) = (thread for thread in started if thread.name == "ssmd-pulse")
        tasks.cancel_scope.cancel()
    guard.join(30)
    assert not guard.is_alive()
    assert guard.daemon
