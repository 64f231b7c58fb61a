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

import pytest

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


def test_the_schema_travels_in_the_wheel(installed):
    code = (
        "from importlib.resources import files;"
        "print((files('ssmd_core.schema') / 'files/trade.capnp').read_text())"
    )
    assert installed.run("python", "-c", code) == (ROOT / "schemas/trade.capnp").read_text() + "\n"


def test_every_plugin_is_found_and_sound(installed):
    listed = json.loads(installed.run("ssmd", "plugins", "--json", "--check"))
    found = {(entry["kind"], entry["type"]) for entry in listed}
    assert found >= {
        ("feed", "kalshi"),
        ("transport", "memory"),
        ("transport", "nats"),
        ("storage", "local"),
        ("storage", "s3"),
    }
    assert [entry for entry in listed if entry["error"]] == []


def test_the_demo_captures_without_account_network_or_checkout(installed):
    shown = installed.run("ssmd", "demo", "--seconds", "2")
    archives = [path for path in installed.folder.rglob("*.jsonl") if "coverage" not in path.name]
    assert archives, shown
    for line in archives[0].read_text("utf-8").splitlines():
        assert list(json.loads(line))[:2] == ["ts", "feed"]
