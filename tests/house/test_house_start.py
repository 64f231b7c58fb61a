from __future__ import annotations

import json
import subprocess
import sys

import pytest

HEAVY = {
    "aiohttp",
    "capnp",
    "cryptography",
    "fsspec",
    "httpx",
    "nats",
    "picows",
    "prometheus_client",
    "ssmd_kalshi.plugin",
    "ssmd_sink_file.plugin",
    "ssmd_sink_nats.plugin",
    "starlette",
    "structlog",
    "uvicorn",
    "websockets",
    "zstandard",
}
CALL = """
import contextlib, io, json, sys
from ssmd_core.cli import main
with contextlib.redirect_stdout(io.StringIO()):
    code = main(sys.argv[1:])
print(json.dumps([code, sorted(sys.modules)]))
"""


@pytest.mark.parametrize("words", [["--version"], ["--help"], ["plugins"], ["plugins", "--json"]])
def test_a_light_command_imports_no_plugin_and_no_library_of_the_heavy_ones(words):
    done = subprocess.run(
        [sys.executable, "-c", CALL, *words], capture_output=True, text=True, check=True
    )
    code, modules = json.loads(done.stdout)
    assert code == 0
    assert HEAVY & set(modules) == set()


@pytest.mark.parametrize(
    "module",
    ["ssmd_core", "ssmd_core.feed", "ssmd_core.sink", "ssmd_core.plugins", "ssmd_core.config"],
)
def test_what_an_author_imports_is_light(module):
    code = f"import json, sys, {module}; print(json.dumps(sorted(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert HEAVY & set(json.loads(done.stdout)) == set()


@pytest.mark.parametrize("package", ["ssmd_kalshi", "ssmd_sink_file", "ssmd_sink_nats"])
def test_the_entry_module_of_a_plugin_is_light(package):
    code = f"import json, sys, {package}.plugin; print(json.dumps(sorted(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert (HEAVY - {f"{package}.plugin"}) & set(json.loads(done.stdout)) == set()
