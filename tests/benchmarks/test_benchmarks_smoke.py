from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
BEGIN, END = "<!-- measured: begin -->", "<!-- measured: end -->"


@pytest.fixture(scope="module")
def ran(tmp_path_factory):
    """Run the quick form of one section, into a page and a file."""
    folder = tmp_path_factory.mktemp("bench")
    (folder / "page.md").write_text(f"above\n{BEGIN}\nold\n{END}\nbelow\n", "utf-8")
    done = subprocess.run(
        [
            *(sys.executable, "-m", "benchmarks", "--quick", "--no-peers", "--only", "saturation"),
            *("--json", str(folder / "out.json"), "--write", str(folder / "page.md")),
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


@pytest.fixture
def outcomes(ran):
    (saturation,) = json.loads((ran / "out.json").read_text("utf-8")).values()
    return {case["contender"]: case["rounds"] for case in saturation}


def test_every_contender_runs(outcomes):
    assert set(outcomes) == {
        "naive file",
        "bare loop, file",
        "ssmd file, asyncio",
        "ssmd file",
        "naive NATS",
        "ssmd NATS",
        "ssmd both",
        "server ceiling",
    }


def test_nobody_loses_a_frame_of_a_short_load(outcomes):
    assert {name: [one["lost"] for one in rounds] for name, rounds in outcomes.items()} == {
        name: [0] for name in outcomes
    }


def test_ssmd_ends_cleanly_each_time(outcomes):
    assert [one["fault"] for rounds in outcomes.values() for one in rounds] == [""] * 8


def test_the_page_gets_the_tables_between_its_marks_and_keeps_the_rest(ran):
    page = (ran / "page.md").read_text("utf-8")
    before, _, rest = page.partition(BEGIN)
    measured, _, after = rest.partition(END)
    assert (before, after) == ("above\n", "\nbelow\n")
    assert "| server ceiling |" in measured
    assert "old" not in measured
