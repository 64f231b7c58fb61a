"""A thread that does what must be done in the end."""

from __future__ import annotations

import threading

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ssmd_core.testing import until
from ssmd_sink_file.objects.worker import Worker, backoff_seconds, in_daemon

pytestmark = pytest.mark.anyio


@pytest.fixture
def work():
    """Start a worker; stop it at the end."""
    started = []

    def start(do, wait_seconds=lambda _: 0.0):
        worker = Worker("test", do, wait_seconds)
        started.append(worker)
        worker.start()
        return worker

    yield start
    for worker in started:
        worker.stop()
        worker.join()


async def test_jobs_are_done_in_order_and_their_results_wait(work):
    worker = work(lambda job: job * 2)
    for job in range(5):
        worker.add(job)
    await until(lambda: not worker.pending)
    assert worker.collect() == [(job, job * 2) for job in range(5)]
    assert worker.collect() == []


async def test_a_job_is_tried_until_it_succeeds_and_those_behind_it_wait(work):
    attempts = []

    def do(job):
        attempts.append(job)
        if len(attempts) < 4:
            raise OSError("not now")
        return job

    waits = []
    worker = work(do, lambda failures: waits.append(failures) or 0.0)
    worker.add("a")
    worker.add("b")
    await until(lambda: not worker.pending)
    assert attempts == ["a", "a", "a", "a", "b"]
    assert waits == [1, 2, 3]
    assert worker.trouble is None
    assert worker.failures == 3


async def test_trouble_lasts_from_the_first_failure_to_the_next_success(work):
    fails = threading.Event()
    fails.set()

    def do(_job):
        if fails.is_set():
            raise RuntimeError("why")

    worker = work(do, lambda _: 0.001)
    worker.add("a")
    await until(lambda: worker.failures > 2)
    trouble = worker.trouble
    assert trouble.reason == "why"
    await until(lambda: worker.failures > 4)
    assert worker.trouble.since == trouble.since
    fails.clear()
    await until(lambda: worker.trouble is None)
    assert worker.pending == []


async def test_who_is_in_a_hurry_does_not_wait_for_the_next_attempt(work):
    def do(_job):
        raise OSError("never")

    worker = work(do, lambda _: 3600.0)
    worker.add("a")
    await until(lambda: worker.failures == 1)
    worker.hurry()
    await until(lambda: worker.failures == 2)


async def test_a_stop_ends_the_wait_and_then_says_so(work):
    ended = threading.Event()

    def do(_job):
        raise OSError("never")

    worker = work(do, lambda _: 3600.0)
    worker.add("a")
    await until(lambda: worker.failures == 1)
    worker.stop(ended.set)
    worker.join()
    assert ended.is_set()
    assert worker.pending == ["a"]


async def test_a_stop_waits_for_nothing_but_the_attempt_at_hand(work):
    begun, go_on, ended = threading.Event(), threading.Event(), threading.Event()

    def do(_job):
        begun.set()
        go_on.wait(20)

    worker = work(do)
    worker.add("a")
    worker.add("b")
    await until(begun.is_set)
    worker.stop(ended.set)
    assert not ended.is_set()
    go_on.set()
    worker.join()
    assert ended.is_set()
    assert worker.pending == ["b"]


def test_one_that_never_started_ends_at_once():
    ended = []
    Worker("test", int).stop(lambda: ended.append(True))
    assert ended == [True]


@given(st.integers(min_value=1, max_value=10_000))
def test_waits_grow_and_stay_within_half_a_minute(failures):
    assert 0.25 <= backoff_seconds(failures) <= 30.0
    assert backoff_seconds(20) >= 15.0


async def test_a_call_in_a_daemon_returns_or_raises_here():
    assert await in_daemon(lambda: 7) == 7
    with pytest.raises(KeyError):
        await in_daemon(lambda: {}["none"])


async def test_a_call_in_a_daemon_is_left_alone_when_it_lasts_too_long():
    go_on = threading.Event()
    with anyio.move_on_after(0.05) as scope:
        await in_daemon(lambda: go_on.wait(20))
    assert scope.cancelled_caught
    go_on.set()
