from __future__ import annotations

import ast
import importlib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SOURCES = ("ssmd_core", *(f"plugins/{path.name}/src" for path in (ROOT / "plugins").iterdir()))
MODULES = sorted(
    path.relative_to(ROOT)
    for source in SOURCES
    for path in (ROOT / source).rglob("*.py")
    if "templates" not in path.parts
)
AUTHORS = ("ssmd_core.feed", "ssmd_core.sink", "ssmd_core.plugins")


@pytest.mark.parametrize("module", MODULES, ids=str)
def test_a_module_opens_with_one_line_that_says_what_it_decides(module):
    said = ast.get_docstring(ast.parse((ROOT / module).read_text("utf-8")))
    assert said, f"{module} has no docstring"
    first = said.splitlines()[0]
    assert first.endswith((".", "?")), f"{module}: {first!r} is not one sentence on one line"


@pytest.mark.parametrize("module", MODULES, ids=str)
def test_a_module_needs_no_endless_scrolling(module):
    lines = (ROOT / module).read_text("utf-8").count("\n")
    assert lines <= 400, f"{module} has {lines} lines: it is two modules"


def test_the_surface_for_plugin_authors_stays_under_forty_names():
    names = {
        f"{name}.{public}" for name in AUTHORS for public in importlib.import_module(name).__all__
    }
    assert len(names) < 40, sorted(names)


@pytest.mark.parametrize("name", AUTHORS)
def test_whatever_an_author_may_import_exists_and_says_what_it_is(name):
    module = importlib.import_module(name)
    for public in module.__all__:
        thing = getattr(module, public)
        if isinstance(thing, type):
            assert thing.__doc__, f"{name}.{public} has no docstring"


@pytest.mark.parametrize("source", SOURCES)
def test_every_package_tells_type_checkers_that_it_is_typed(source):
    package = ROOT / source if source == "ssmd_core" else next((ROOT / source).glob("ssmd_*"))
    assert (package / "py.typed").is_file()
