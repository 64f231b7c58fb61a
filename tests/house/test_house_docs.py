from __future__ import annotations

import itertools
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted(
    path.relative_to(ROOT)
    for path in ROOT.rglob("*.md")
    if not {".venv", "node_modules", "templates"} & set(path.parts)
)
LINK = re.compile(r"(?<!!)\[[^\]]*\]\(([^)\s]+)(?:\s+\"[^\"]*\")?\)|!\[[^\]]*\]\(([^)\s]+)\)")
HEADING = re.compile(r"^#+ +(.+?)\s*#*$", re.MULTILINE)
FENCE = re.compile(r"^```[^\n]*\n.*?^```", re.MULTILINE | re.DOTALL)
SHELL = re.compile(r"^```(?:sh|bash|console|shell)\n(.*?)^```", re.MULTILINE | re.DOTALL)


def prose(page):
    return FENCE.sub("", (ROOT / page).read_text("utf-8"))


def anchors(page):
    """Return the anchors of a page's headings as the usual viewers make them."""
    words = (
        re.sub(r"[`*_]|\[([^\]]*)\]\([^)]*\)", r"\1", text) for text in HEADING.findall(prose(page))
    )
    return {re.sub(r"[^\w\- ]", "", text.lower()).replace(" ", "-") for text in words}


def links(page):
    for inline, image in LINK.findall(prose(page)):
        target = inline or image
        if not re.match(r"[a-z][a-z0-9+.-]*:", target):
            yield target


def leads_somewhere(page, target):
    path, _, anchor = target.partition("#")
    there = (page.parent / path).resolve() if path else page
    if there.suffix != ".md" or not anchor:
        return there.exists()
    return there.exists() and anchor in anchors(there)


@pytest.mark.parametrize("page", PAGES, ids=str)
def test_every_relative_link_leads_somewhere(page):
    dead = [target for target in links(page) if not leads_somewhere(ROOT / page, target)]
    assert dead == []


def test_every_test_that_durability_names_is_there():
    named = set(re.findall(r"`(test_fault_\w+)`", (ROOT / "docs/durability.md").read_text("utf-8")))
    assert named == {path.stem for path in (ROOT / "tests/faults").glob("test_fault_*.py")}


def commands():
    """Yield (page, command) of every ``ssmd`` call in a shell block, joined and without ``$``."""
    for page in PAGES:
        for block in SHELL.findall((ROOT / page).read_text("utf-8")):
            for line in block.replace("\\\n", " ").splitlines():
                call = line.strip().removeprefix("$ ").removeprefix("uv run ")
                call = re.sub(r"^(?:[A-Z_]+=\S* +)+", "", call)
                if re.match(r"ssmd(?: |$)", call):
                    yield str(page), call


@pytest.mark.parametrize(("page", "call"), sorted(set(commands())))
def test_every_command_of_the_pages_is_one_that_the_program_knows(page, call):
    words = shlex.split(call, comments=True)[1:]
    words = list(itertools.takewhile(lambda word: word[0] not in "|&>;", words))
    options = [word.partition("=")[0] for word in words if word.startswith("-")]
    command = [word for word in words[:1] if not word.startswith("-")]
    shown = subprocess.run(
        [Path(sys.executable).with_name("ssmd"), *command, "--help"],
        capture_output=True,
        text=True,
        check=False,
        env={"COLUMNS": "200", "NO_COLOR": "1", "TERM": "dumb"},
    )
    assert shown.returncode == 0, f"{page}: ssmd knows no command {command}: {shown.stderr}"
    unknown = [option for option in options if option not in shown.stdout]
    assert unknown == [], f"{page}: {call!r}"


def test_continuous_integration_runs_the_readmes_own_command():
    ours = {line.strip() for line in (ROOT / ".ci/run").read_text("utf-8").splitlines()}
    told = {line.strip() for line in (ROOT / "README.md").read_text("utf-8").splitlines()}
    command = "pip install uv && uv run pytest"
    assert command in told
    assert command in ours
