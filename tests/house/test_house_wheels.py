"""What a stranger gets who installs the wheels: nothing of the checkout helps them."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tomllib
from dataclasses import dataclass
from pathlib import Path

import anyio
import pytest

from ssmd_core.testing import Face, LoopbackVenue, Refusal

ROOT = Path(__file__).resolve().parents[2]
ACME = ROOT / "tests/third_party/ssmd-acme"
UV = [found] if (found := shutil.which("uv")) else [sys.executable, "-m", "uv"]
DISTRIBUTIONS = ("ssmd_core", "ssmd_kalshi", "ssmd_sink_file", "ssmd_sink_nats")

# Building and installing everything takes longer than a test may.
pytestmark = pytest.mark.timeout(600)


def uv(*arguments, cwd=ROOT):
    done = subprocess.run(
        [*UV, *map(str, arguments)], cwd=cwd, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done


@dataclass(frozen=True)
class Installed:
    """A virtual environment with our wheels in it, and an empty folder to work in."""

    bin: Path
    folder: Path

    def run(self, *arguments, code=0):
        environ = {
            key: value
            for key, value in os.environ.items()
            if not key.startswith(("SSMD_", "KALSHI_", "PYTHON", "COVERAGE", "VIRTUAL_ENV"))
        }
        done = subprocess.run(
            [self.bin / arguments[0], *arguments[1:]],
            cwd=self.folder,
            env=environ,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == code, done.stdout + done.stderr
        return done.stdout


@pytest.fixture(scope="module")
def wheels(tmp_path_factory):
    out = tmp_path_factory.mktemp("wheels")
    uv("build", "--all-packages", "--out-dir", out)
    return out


@pytest.fixture(scope="module")
def installed(wheels, tmp_path_factory):
    place = tmp_path_factory.mktemp("stranger")
    python = place / "venv/bin/python"
    uv("venv", "--quiet", "--python", sys.executable, place / "venv")
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]["uv"]
    pins = place / "constraints.txt"
    pins.write_text("\n".join(settings["constraint-dependencies"]), "utf-8")
    made = sorted(wheels.glob("*.whl"))
    uv("pip", "install", "--quiet", "--python", python, "--constraint", pins, *made, cwd=place)
    folder = place / "empty"
    folder.mkdir()
    return Installed(python.parent, folder)


def test_every_distribution_is_one_pure_wheel_and_one_source_archive(wheels):
    names = sorted(path.name for path in wheels.iterdir() if not path.name.startswith("."))
    for name in DISTRIBUTIONS:
        assert [made for made in names if made.startswith(name) and made.endswith("none-any.whl")]
        assert [made for made in names if made.startswith(name) and made.endswith(".tar.gz")]
    assert len(names) == 2 * len(DISTRIBUTIONS)


def test_a_wheel_holds_no_tests(wheels, installed):
    listing = subprocess.run(
        [sys.executable, "-m", "zipfile", "-l", next(wheels.glob("ssmd_core-*.whl"))],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert "ssmd_core/py.typed" in listing
    assert "/test_" not in listing


def test_the_command_says_its_version(installed):
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    assert installed.run("ssmd", "--version").split()[-1] == project["version"]


def test_the_code_that_runs_is_not_the_checkout(installed):
    where = installed.run("python", "-c", "import ssmd_core; print(ssmd_core.__file__)")
    assert str(ROOT) not in where


@pytest.mark.parametrize("name", ["trade.capnp", "trade-v2.capnp"])
def test_the_schemas_travel_in_the_wheel(installed, name):
    code = (
        "from importlib.resources import files;"
        f"print((files('ssmd_core.schema') / 'files/{name}').read_text())"
    )
    assert installed.run("python", "-c", code) == (ROOT / "schemas" / name).read_text() + "\n"


def declared():
    """Return (group, type) of every entry point that our distributions declare."""
    files = [ROOT / "pyproject.toml", *(ROOT / "plugins").glob("*/pyproject.toml")]
    projects = [tomllib.loads(path.read_text("utf-8"))["project"] for path in files]
    return {
        (group, name)
        for project in projects
        for group, names in project.get("entry-points", {}).items()
        for name in names
    }


def test_every_plugin_is_found_and_sound(installed):
    listed = json.loads(installed.run("ssmd", "plugins", "--json", "--check"))
    found = {(f"ssmd.{entry['kind']}s", entry["type"]) for entry in listed}
    assert found == declared()
    assert [entry for entry in listed if entry["error"]] == []


def test_the_demo_captures_without_account_network_or_checkout(installed):
    shown = installed.run("ssmd", "demo", "--seconds", "2")
    archives = [path for path in installed.folder.rglob("*.jsonl") if "coverage" not in path.name]
    assert archives, shown
    for line in archives[0].read_text("utf-8").splitlines():
        assert list(json.loads(line))[:2] == ["ts", "feed"]


# ── a stranger's plugin ──────────────────────────────────────────────────────────────


class AcmeFace(Face):
    """The invented venue: a token, one subscription a channel."""

    def admit(self, handshake):
        held = handshake.headers.get("authorization", "")
        return None if held == "Bearer let-me-in" else Refusal(401)

    def new_state(self):
        return set()

    def answer(self, command, client):
        asked = json.loads(command)
        client.state.add(asked["channel"])
        reply = {"type": "subscribed", "id": asked["id"], "channel": asked["channel"]}
        yield json.dumps(reply).encode()

    def listening(self, client):
        return client.state == {"trades", "quotes"}


TRADES = [
    b'{"type":"trade","channel":"trades","seq":%d,"market":"GOLD","ns":1795000000000000000,'
    b'"price":"12.50","quantity":"3","side":"buy","trade":"t%d"}' % (seq, seq)
    for seq in range(1, 51)
]
FEED = """\
name: acme
feed_type: websocket
versions:
  - version: "1.0"
    endpoint: {endpoint}
    protocol: {{transport: websocket, message: json}}
"""
ENV = """\
name: lab
feed: acme
schema: "trade:v1"
transport: {transport_type: memory}
storage: {storage_type: local, path: archive}
"""


@pytest.fixture(scope="module")
def with_acme(installed, tmp_path_factory):
    out = tmp_path_factory.mktemp("acme")
    source = shutil.copytree(ACME, out / "source")
    uv("build", "--wheel", "--out-dir", out, source, cwd=out)
    python = installed.bin / "python"
    uv("pip", "install", "--quiet", "--no-deps", "--python", python, *out.glob("*.whl"), cwd=out)
    return installed


def test_a_strangers_plugin_is_found_once_it_is_installed(with_acme):
    listed = json.loads(with_acme.run("ssmd", "plugins", "--json", "--check"))
    (feed,) = [entry for entry in listed if (entry["kind"], entry["type"]) == ("feed", "acme")]
    assert feed["distribution"] == "ssmd-acme"
    assert feed["version"] == "0.3.0"
    assert feed["error"] is None


@pytest.mark.anyio
async def test_a_strangers_plugin_captures_its_venue(with_acme, tmp_path):
    async with LoopbackVenue(TRADES, AcmeFace()) as venue:
        (tmp_path / "feed.yaml").write_text(FEED.format(endpoint=venue.url), "utf-8")
        (tmp_path / "env.yaml").write_text(ENV, "utf-8")
        command = [with_acme.bin / "ssmd", "--feed", "feed.yaml", "--env", "env.yaml"]
        with (tmp_path / "log").open("wb") as log:
            program = await anyio.open_process(
                [*map(str, command), "--health-addr", "127.0.0.1:0"],
                cwd=tmp_path,
                env={"ACME_TOKEN": "let-me-in", "PATH": os.environ["PATH"]},
                stdout=log,
                stderr=log,
            )
        try:
            with anyio.fail_after(60):
                while len(captured(tmp_path)) < len(TRADES) and program.returncode is None:
                    await anyio.sleep(0.05)
            program.terminate()
            with anyio.fail_after(30):
                code = await program.wait()
        finally:
            if program.returncode is None:
                program.kill()
    assert code == 0, (tmp_path / "log").read_text("utf-8")
    assert captured(tmp_path) == [json.loads(frame) for frame in TRADES]


def captured(folder):
    """Return the trades in the archive."""
    lines = [
        json.loads(line)
        for path in (folder / "archive").glob("*/acme.jsonl")
        for line in path.read_text("utf-8").splitlines(keepends=True)
        if line.endswith("\n")
    ]
    return [line["data"] for line in lines if line["data"]["type"] == "trade"]
