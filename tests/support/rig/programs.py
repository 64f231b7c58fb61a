"""The program as its users run it: a process, its files, a real nats-server and what is in it."""

import json
import os
import signal
import socket
import ssl
import subprocess
import sys
from collections.abc import Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

import anyio
import httpx
import nats

from ssmd_core.testing import NatsServer, until
from ssmd_kalshi.venue import KalshiFace

SSMD = [str(Path(sys.executable).parent / "ssmd")]
_NO_TLS = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
"""Loading certificates for every question would cost a tenth of a second each."""

FEED = """\
name: kalshi
feed_type: websocket
versions:
  - version: "1.0"
    endpoint: {endpoint}
    protocol:
      transport: websocket
      message: json
"""

FILE_ENV = """\
name: prod
feed: kalshi
schema: "trade:v1"
transport:
  transport_type: memory
storage:
  storage_type: local
  path: {path}
"""

NATS_ENV = """\
name: prod
feed: kalshi
schema: "trade:v1"
transport:
  transport_type: nats
  url: {url}
storage:
  storage_type: local
"""

BOTH_ENV = NATS_ENV + "  path: {path}\n"


class Verbatim(KalshiFace):
    """Sends recorded frames as they were, whatever was subscribed."""

    def prepare(self, frame):
        return frame

    def advance(self, item):
        pass

    def render(self, item, client):
        return item


class Finished(NamedTuple):
    returncode: int
    stdout: str
    stderr: str


class Program:
    """One ``ssmd`` process."""

    def __init__(self, folder: Path, environ: dict[str, str]):
        self.folder = folder
        self.environ = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("SSMD_", "KALSHI_", "RUST_LOG"))
        } | environ
        self.process = None
        self.address = None
        self.errors = folder / "stderr.txt"
        self.command = SSMD

    def write(self, feed: str, env: str):
        (self.folder / "feed.yaml").write_text(feed)
        (self.folder / "env.yaml").write_text(env)

    @property
    def arguments(self):
        return ["--feed", str(self.folder / "feed.yaml"), "--env", str(self.folder / "env.yaml")]

    def start(self, *more):
        port = free_port()
        self.address = f"127.0.0.1:{port}"
        with self.errors.open("ab") as errors:
            self.process = subprocess.Popen(
                [*self.command, *self.arguments, "--health-addr", self.address, *more],
                env=self.environ,
                stderr=errors,
                stdout=errors,
                cwd=self.folder,
            )
        return self

    def on_faulty_ground(self, archive):
        """Run on a file system and a clock that ``fault`` breaks."""
        (self.folder / "faults").mkdir()
        support = str(Path(__file__).parents[1])
        self.environ["PYTHONPATH"] = support
        self.command = [
            sys.executable,
            *("-m", "rig.faulty"),
            str(self.folder / "faults"),
            str(archive),
        ]
        return self

    def fault(self, call, what):
        """Let a call fail with an errno (``fault("write", "EIO")``), or move the ``clock``."""
        draft = self.folder / "draft"
        draft.write_text(str(what))
        draft.rename(self.folder / "faults" / call)

    def mend(self, call):
        """End a fault."""
        (self.folder / "faults" / call).unlink(missing_ok=True)

    async def get(self, path):
        async with httpx.AsyncClient(timeout=5, verify=_NO_TLS) as client:
            return await client.get(f"http://{self.address}{path}")

    async def ready(self, seconds=20.0):
        async def is_ready():
            assert self.process.poll() is None, self.log()
            try:
                return (await self.get("/ready")).status_code == 200
            except httpx.TransportError:
                return False

        await until(is_ready, seconds)
        return self

    async def reasons(self):
        try:
            return " | ".join((await self.get("/ready")).json()["reasons"])
        except httpx.TransportError:
            return ""

    async def says(self, text, seconds=20.0):
        """Wait until a reason for not being ready holds the text."""

        async def said():
            return text in await self.reasons()

        await until(said, seconds)

    async def caught_up(self, seconds=60.0):
        """Wait until it is ready and the bus has what the archive holds."""

        async def done():
            state = (await self.get("/ready")).json()
            return state["status"] == "ready" and not state["degraded"]

        await until(done, seconds)

    async def metric(self, name):
        text = (await self.get("/metrics")).text
        lines = [line for line in text.splitlines() if line.startswith(f"ssmd_connector_{name}")]
        return sum(float(line.rsplit(" ", 1)[1]) for line in lines)

    async def counts(self, name, count, seconds=20.0):
        """Wait until a metric is at least so high."""

        async def enough():
            return await self.metric(name) >= count

        await until(enough, seconds)

    async def received(self, count, seconds=60.0):
        """Wait until so many frames came off the socket."""
        await self.counts("messages_total", count, seconds)

    async def wait(self, seconds=30.0):
        """Return the exit code."""
        await until(lambda: self.process.poll() is not None, seconds)
        return self.process.returncode

    async def stop(self, seconds=25.0):
        self.process.send_signal(signal.SIGTERM)
        return await self.wait(seconds)

    def kill(self):
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait()

    async def run(self, *arguments, seconds=60):
        """Run a command to its end, while the venue goes on."""
        with anyio.fail_after(seconds):
            done = await anyio.run_process(
                [*SSMD, *arguments], env=self.environ, cwd=self.folder, check=False
            )
        return Finished(done.returncode, done.stdout.decode(), done.stderr.decode())

    def peak_bytes(self):
        """Return the most memory the process ever had resident (Linux)."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        (line,) = (line for line in status.splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) * 1024

    async def verify(self, path, *more):
        """Return the exit code of ``ssmd verify``; what it printed goes to the log."""
        done = await self.run("verify", str(path), *more)
        with self.errors.open("a") as errors:
            errors.write(done.stdout + done.stderr)
        return done.returncode

    def last_words(self):
        """Return the last line of the log, which is JSON where nobody watches."""
        return json.loads(self.log().splitlines()[-1])

    def log(self):
        return self.errors.read_text() if self.errors.exists() else ""


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Archive:
    """What stands in the files."""

    def __init__(self, path: Path):
        self.path = path

    def text(self, suffix=""):
        files = sorted(self.path.glob(f"*/kalshi{suffix}.jsonl"))
        return b"".join(file.read_bytes() for file in files)

    def lines(self):
        return self.text().splitlines()

    def frames(self):
        """Return the verbatim frames of JSON lines, cut out as the format says."""
        return [line[line.index(b'"data":') + 7 : -1] for line in self.lines()]

    def publishable(self):
        """Count the frames that the schema has a struct for."""
        return sum(json.loads(frame)["type"] in {"trade", "ticker"} for frame in self.frames())

    def times(self):
        return [json.loads(line)["ts"] for line in self.lines()]

    def ledger(self, event=None):
        events = [json.loads(line) for line in self.text(".coverage").splitlines()]
        return [each for each in events if event in {None, each["event"]}]


class Bus(NatsServer):
    """A nats-server, and what stands in it."""

    login: Mapping[str, str] = MappingProxyType({})
    """Whom the tests connect as, where the server asks."""

    @asynccontextmanager
    async def client(self):
        client = await nats.connect(self.url, **self.login)
        try:
            yield client
        finally:
            await client.close()

    async def add_stream(self, name="PROD_KALSHI", subjects=("prod.kalshi.>",), **more):
        async with self.client() as client:
            await client.jetstream().add_stream(name=name, subjects=list(subjects), **more)

    async def count(self, name="PROD_KALSHI"):
        async with self.client() as client:
            return (await client.jetstream().stream_info(name)).state.messages

    async def messages(self, subject="prod.kalshi.>", name="PROD_KALSHI"):
        """Return every stored message on a subject, in order."""
        async with self.client() as client:
            js = client.jetstream()
            total = (await js.stream_info(name)).state.messages
            if not total:
                return []
            # Read through, all subjects, so that the end is known.
            sub = await js.subscribe("", stream=name, ordered_consumer=True)
            got = [await sub.next_msg(timeout=10) for _ in range(total)]
            await sub.unsubscribe()
        prefix = subject.removesuffix(">")
        return [message for message in got if message.subject.startswith(prefix)]

    async def records(self):
        """Return every stored message but the status, in order."""
        return [m for m in await self.messages() if m.subject != "prod.kalshi.status"]


class Files:
    """The guide's files, to be filled in."""

    feed = FEED
    file = FILE_ENV
    nats = NATS_ENV
    both = BOTH_ENV
