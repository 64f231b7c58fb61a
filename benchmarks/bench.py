"""How one contender is run: started on its own core, fed, awaited, counted, stopped."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import resource
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

from benchmarks.contenders import ssmd
from benchmarks.load import LoadSpec
from benchmarks.machine import Cores, cpu_ns, memory_bytes
from benchmarks.roster import CRYPTOFEED, Contender, Keeps
from benchmarks.venue import PATH, Go, Open, Sent, serve
from ssmd_core.testing import NatsServer

__all__ = ["ROOT", "Bench", "Subject"]

ROOT = Path(__file__).resolve().parents[1]
_PATIENCE_SECONDS = 60.0
_POLL_SECONDS = 0.01
_STOP_SECONDS = 30.0
_SETTLE_SECONDS = 0.4


@dataclass(slots=True)
class Subject:
    """A contender that runs."""

    contender: Contender
    process: subprocess.Popen[bytes]
    folder: Path
    archive: Path
    spawned_ns: int
    health_port: int = 0
    exit_code: int | None = field(default=None)

    @property
    def cpu_ns(self) -> int:
        """CPU time so far."""
        return cpu_ns(self.process.pid)

    @property
    def peak_bytes(self) -> int:
        """The most memory it ever had resident."""
        return memory_bytes(self.process.pid, "VmHWM")

    @property
    def resident_bytes(self) -> int:
        """The memory it has resident now."""
        return memory_bytes(self.process.pid, "VmRSS")

    def say(self, line: str) -> None:
        """Write a line to its standard input."""
        assert self.process.stdin is not None
        self.process.stdin.write(line.encode() + b"\n")
        self.process.stdin.flush()

    def await_output(self, text: str) -> None:
        """Wait until it printed something.

        Raises:
            TimeoutError: it did not within a minute, or ended before.
        """
        deadline = time.monotonic() + _PATIENCE_SECONDS
        while text not in self.output():
            if time.monotonic() > deadline or self.process.poll() is not None:
                raise TimeoutError(f"{self.contender.name} did not say {text!r}: {self.output()}")
            time.sleep(0.01)

    def await_ready(self) -> None:
        """Wait until it says that it is ready, where it has a way to say so, and has settled."""
        deadline = time.monotonic() + _PATIENCE_SECONDS
        while self.health_port and not _answers(f"http://127.0.0.1:{self.health_port}/ready"):
            if time.monotonic() > deadline or self.process.poll() is not None:
                raise TimeoutError(f"{self.contender.name} was not ready: {self.output()}")
            time.sleep(0.05)
        time.sleep(_SETTLE_SECONDS)

    def output(self) -> str:
        """Return what it printed, the last of it."""
        return (self.folder / "output.txt").read_text("utf-8", errors="replace")[-2_000:]

    def stop(self) -> int:
        """Ask it to end and return its exit code; kill it after half a minute."""
        self.process.send_signal(signal.SIGTERM)
        try:
            self.exit_code = self.process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.kill()
            self.exit_code = self.process.returncode
        return self.exit_code

    def kill(self) -> None:
        """End it at once, if it still runs."""
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        with contextlib.suppress(BrokenPipeError):
            assert self.process.stdin is not None
            self.process.stdin.close()


class Bench:
    """The venue, the nats-server and the folder that all runs share. A context manager."""

    def __init__(self, folder: Path, cores: Cores, peers: Path | None = None) -> None:
        self.cores = cores
        self.peers = peers
        """The interpreter that has cryptofeed, if any."""
        self._folder = folder
        self._runs = 0
        self._server = NatsServer(folder / "nats")
        spawn = multiprocessing.get_context("spawn")
        self._control, other = spawn.Pipe()
        self._venue = spawn.Process(target=serve, args=(other,), daemon=True)
        self._other = other

    def __enter__(self) -> Self:
        # Pinned before they start: the server counts its cores once, at its start.
        with self.cores.pinned(self.cores.load):
            self._server.start()
            self._venue.start()
        self._other.close()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._control.close()
        self._venue.join(5)
        if self._venue.is_alive():
            self._venue.kill()
        self._server.kill()

    @property
    def bus_url(self) -> str:
        """Where the nats-server is."""
        return self._server.url

    @property
    def cpu_ns(self) -> int:
        """CPU time of everything here so far: ourselves, the venue, the server, past contenders."""
        server, venue = self._server.signal(0), self._venue.pid
        assert venue is not None
        past = resource.getrusage(resource.RUSAGE_CHILDREN)
        ended_ns = int((past.ru_utime + past.ru_stime) * 1e9)
        return time.process_time_ns() + ended_ns + cpu_ns(server) + cpu_ns(venue)

    @contextlib.contextmanager
    def running(self, contender: Contender, load: LoadSpec) -> Iterator[Subject]:
        """Start a contender against a venue with this load; end both on leaving."""
        self._runs += 1
        folder = self._folder / f"run{self._runs}"
        folder.mkdir()
        self._control.send(Open(load))
        while not isinstance(port := self._hear(), int):
            pass  # the last word on a run that was given up
        url = f"ws://127.0.0.1:{port}{PATH}"
        subject = self._start(contender, folder, url)
        try:
            yield subject
        finally:
            subject.kill()
            self._control.send(None)
            shutil.rmtree(folder)

    def await_subscribed(self, subject: Subject) -> int:
        """Wait until the subject has subscribed; return when it had, in Unix nanoseconds.

        Raises:
            TimeoutError: it did not within a minute, or ended before.
        """
        deadline = time.monotonic() + _PATIENCE_SECONDS
        while True:
            self._control.send("subscribed")
            if subscribed_ns := int(self._hear()):
                return subscribed_ns
            if time.monotonic() > deadline or subject.process.poll() is not None:
                name = subject.contender.name
                raise TimeoutError(f"{name} did not subscribe; it said: {subject.output()}")
            time.sleep(_POLL_SECONDS)

    def send(self, order: Go, look: Callable[[], None] | None = None) -> Sent:
        """Let the venue send and wait until it has, looking at the subject once a second.

        Raises:
            TimeoutError: it takes a minute longer than it should.
            OSError: the subject went away meanwhile.
        """
        self._control.send(order)
        expected = order.frames / order.pace.rate if order.pace.rate else 0.0
        deadline = time.monotonic() + expected + _PATIENCE_SECONDS
        while look is not None and time.monotonic() < deadline and not self._control.poll(1):
            look()
        sent = self._hear(max(0.0, deadline - time.monotonic()))
        if isinstance(sent, OSError):
            raise sent
        assert isinstance(sent, Sent)
        return sent

    def _hear(self, seconds: float = _PATIENCE_SECONDS) -> Any:
        if not self._control.poll(seconds):
            raise TimeoutError(f"the venue said nothing for {seconds:g} s")
        return self._control.recv()

    def _start(self, contender: Contender, folder: Path, url: str) -> Subject:
        archive = folder / "data"
        bus = self.bus_url if Keeps.BUS in contender.keeps else None
        port, environ = 0, dict(os.environ)
        environ["PYTHONPATH"] = str(ROOT)
        if contender.is_ssmd:
            port = _free_port()
            kept = archive if Keeps.FILE in contender.keeps else None
            ssmd.write_files(folder, url, kept, bus, contender.settings)
            command = ssmd.command(port)
            environ |= ssmd.environ() | dict(contender.variables)
        else:
            target = str(archive) if contender.keeps is Keeps.FILE else str(bus)
            arguments = [url, target] if contender.is_fed else [str(bus), str(contender.frames)]
            python = self.peers if contender.name == CRYPTOFEED.name else sys.executable
            command = [str(python), "-m", contender.module, *arguments]
        with (folder / "output.txt").open("wb") as output, self.cores.pinned(self.cores.subject):
            spawned_ns = time.time_ns()
            process = _spawn(command, folder, environ, output)
        return Subject(contender, process, folder, archive, spawned_ns, port)


def _spawn(
    command: list[str], folder: Path, environ: dict[str, str], output: IO[bytes]
) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        command, cwd=folder, env=environ, stdin=subprocess.PIPE, stdout=output, stderr=output
    )


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=2) as answer:
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError):
        return False


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
