"""Decides how work that must be done in the end is done: in order, in a thread, again and again."""

from __future__ import annotations

import random
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, Generic, NamedTuple, TypeVar

import anyio

__all__ = ["Trouble", "Worker", "backoff_seconds", "in_daemon", "settled"]

_POLL_SECONDS = 0.01
_FIRST_SECONDS = 0.5
_LONGEST_SECONDS = 30.0

_Job = TypeVar("_Job")
_Result = TypeVar("_Result")


class Trouble(NamedTuple):
    """Why the job at hand does not succeed."""

    since: float
    """Monotonic seconds of the first of its failures in a row."""
    reason: str


async def in_daemon(call: Callable[[], _Result]) -> _Result:
    """Return what a call in a thread of its own returns, or raise what it raises.

    Cancelled, it is left alone, and unlike a thread of anyio's it then cannot keep the
    process from ending.
    """
    done: Future[_Result] = Future()

    def run() -> None:
        try:
            done.set_result(call())
        except BaseException as error:  # noqa: BLE001  it is raised where it is waited for
            done.set_exception(error)

    threading.Thread(target=run, name="ssmd-daemon", daemon=True).start()
    while not done.done():  # noqa: ASYNC110  a thread tells nobody
        await anyio.sleep(_POLL_SECONDS)
    return done.result()


def backoff_seconds(failures: int) -> float:
    """Return how long to wait after so many failures in a row: jittered, 30 s at most."""
    return min(_LONGEST_SECONDS, _FIRST_SECONDS * 2.0 ** min(failures - 1, 10)) * random.uniform(
        0.5, 1.0
    )


class Worker(Generic[_Job, _Result]):
    """One thread that does jobs in order, each until it succeeds.

    It is a daemon, so that a peer that does not answer cannot keep the process from ending;
    what it was doing then must be safe to do again. Results wait until they are collected,
    so whoever owns the worker acts on them in a task of its own.
    """

    def __init__(
        self,
        name: str,
        do: Callable[[_Job], _Result],
        wait_seconds: Callable[[int], float] = backoff_seconds,
    ) -> None:
        """``wait_seconds`` is asked how long to wait after so many failures in a row."""
        self._do = do
        self._wait_seconds = wait_seconds
        self._jobs: deque[_Job] = deque()
        self._done: deque[tuple[_Job, _Result]] = deque()
        self._stopping = False
        self._hurried = False
        self._changed = threading.Condition()
        self._on_end: Callable[[], None] = _nothing
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self.trouble: Trouble | None = None
        """Why it does not get on, if it does not."""
        self.failures = 0
        """How many attempts failed, in all."""

    def start(self) -> None:
        """Begin to work."""
        self._thread.start()

    def add(self, job: _Job) -> None:
        """Do a job after those before it."""
        with self._changed:
            self._jobs.append(job)
            self._changed.notify()

    def hurry(self) -> None:
        """Make the next attempt now, however long there was still to wait."""
        with self._changed:
            self._hurried = True
            self._changed.notify()

    @property
    def pending(self) -> list[_Job]:
        """The jobs that are not done, the one at hand included."""
        with self._changed:
            return list(self._jobs)

    def collect(self) -> list[tuple[_Job, _Result]]:
        """Return the jobs done since the last call, with their results."""
        with self._changed:
            done = list(self._done)
            self._done.clear()
        return done

    def stop(self, on_end: Callable[[], None] | None = None) -> None:
        """Do nothing more after the attempt at hand; then, in the thread, call ``on_end``."""
        with self._changed:
            self._on_end = on_end or _nothing
            self._stopping = True
            self._changed.notify()
        if not self._thread.is_alive():
            self._end()

    def join(self) -> None:
        """Wait until the attempt at hand has ended after ``stop``."""
        if self._thread.is_alive():
            self._thread.join()

    def _run(self) -> None:
        failures = 0
        while True:
            with self._changed:
                if failures:
                    self._changed.wait_for(self._may_go_on, self._wait_seconds(failures))
                self._hurried = False
                self._changed.wait_for(lambda: self._stopping or bool(self._jobs))
                if self._stopping:
                    break
                job = self._jobs[0]
            try:
                result = self._do(job)
            except Exception as error:  # noqa: BLE001  whatever it was, the job is tried again
                failures += 1
                since = self.trouble.since if self.trouble else time.monotonic()
                self.trouble = Trouble(since, str(error) or repr(error))
                self.failures += 1
                continue
            failures, self.trouble = 0, None
            with self._changed:
                self._jobs.popleft()
                self._done.append((job, result))
        self._end()

    def _end(self) -> None:
        with self._changed:
            on_end, self._on_end = self._on_end, _nothing
        on_end()

    def _may_go_on(self) -> bool:
        return self._stopping or self._hurried


def _nothing() -> None:
    """Do nothing at the end: nobody asked for more."""


async def settled(worker: Worker[Any, Any]) -> None:
    """Return when a worker has done all its jobs, or has failed once more."""
    failures = worker.failures
    worker.hurry()
    while worker.pending and worker.failures == failures:  # noqa: ASYNC110  as above
        await anyio.sleep(_POLL_SECONDS)
