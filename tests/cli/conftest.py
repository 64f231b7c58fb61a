import os
import subprocess
import sys
import textwrap
import threading
import tomllib
from collections.abc import Iterator, Mapping
from http import HTTPStatus
from pathlib import Path
from typing import NamedTuple

import pytest
from websockets.sync.server import serve

from ssmd_core.cli import main

ACME = Path(__file__).parents[1] / "third_party" / "ssmd-acme"
CaptureFixture = pytest.CaptureFixture[str]
QUIET = ("SSMD_", "RUST_LOG", "KALSHI_", "ACME_")

FEED = """\
name: acme
feed_type: websocket
versions:
  - version: "1.0"
    endpoint: wss://acme.example/stream
    protocol: {transport: websocket, message: json}
"""
FILE_ENV = """\
name: prod
feed: acme
schema: "trade:v1"
transport:
  transport_type: memory
storage:
  storage_type: local
  path: data
"""


class Result(NamedTuple):
    code: int
    out: str
    err: str


class World:
    """A directory with files, a site of plugins, and an environment for ``ssmd``."""

    def __init__(self, folder: Path, patch: pytest.MonkeyPatch, capture: CaptureFixture) -> None:
        self.folder = folder
        self._patch = patch
        self._capture = capture
        self.site = folder / "site"
        self.site.mkdir()
        self.environ = {k: v for k, v in os.environ.items() if not k.startswith(QUIET)}
        self.environ["PYTHONPATH"] = os.pathsep.join([str(self.site), str(ACME / "src")])
        self.environ["ACME_TOKEN"] = "hunter2"
        self.write(FEED, FILE_ENV)
        project = tomllib.loads((ACME / "pyproject.toml").read_text())["project"]
        self.install("ssmd-acme", project["entry-points"], version=project["version"])

    def write(self, feed: str, env: str) -> None:
        (self.folder / "feed.yaml").write_text(feed)
        (self.folder / "env.yaml").write_text(env)

    def install(
        self,
        name: str,
        groups: Mapping[str, Mapping[str, str]],
        code: str = "",
        *,
        version: str = "1.0",
    ) -> None:
        """Install metadata, and a module named after the distribution where there is code."""
        info = self.site / f"{name.replace('-', '_')}-{version}.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
        lines = [
            f"[{group}]\n" + "\n".join(f"{key} = {value}" for key, value in points.items())
            for group, points in groups.items()
        ]
        (info / "entry_points.txt").write_text("\n".join(lines) + "\n")
        if code:
            module = self.site / f"{name.replace('-', '_')}.py"
            module.write_text(textwrap.dedent(code))

    def command(self, *arguments: str) -> list[str]:
        script = "from ssmd_core.cli import entry; entry()"
        return [sys.executable, "-W", "error", "-c", script, *arguments]

    def call(self, *arguments: str, **environ: str) -> Result:
        """Run a command in this process; fast, for those that end by themselves."""
        with self._patch.context() as patch:
            patch.chdir(self.folder)
            patch.syspath_prepend(str(ACME / "src"))
            patch.syspath_prepend(str(self.site))
            for name in os.environ:
                if name.startswith(QUIET):
                    patch.delenv(name)
            for name, value in ({"ACME_TOKEN": "hunter2"} | environ).items():
                patch.setenv(name, value)
            self._capture.readouterr()
            code = main(arguments)
        captured = self._capture.readouterr()
        return Result(code, captured.out, captured.err)

    def run(self, *arguments: str, **environ: str) -> Result:
        """Run the program as a process."""
        done = subprocess.run(
            self.command(*arguments),
            cwd=self.folder,
            env=self.environ | environ,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        return Result(done.returncode, done.stdout, done.stderr)


@pytest.fixture
def world(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: CaptureFixture
) -> Iterator[World]:
    """A feed file and an environment file, the acme plugin installed, no variables."""
    world = World(tmp_path, monkeypatch, capsys)
    yield world
    for name, module in list(sys.modules.items()):
        if str(getattr(module, "__file__", None) or "").startswith(str(world.site)):
            del sys.modules[name]


@pytest.fixture
def venue() -> Iterator[str]:
    """The URL of a venue on loopback that wants the token hunter2."""

    def admit(connection, request):
        if request.headers.get("Authorization") != "Bearer hunter2":
            return connection.respond(HTTPStatus.UNAUTHORIZED, "no\n")
        return None

    def hold(connection):
        for _ in connection:
            pass

    with serve(hold, "127.0.0.1", 0, process_request=admit) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"ws://127.0.0.1:{server.socket.getsockname()[1]}/"
        server.shutdown()
        thread.join()
