import json
import subprocess
import sys

import pytest

from ssmd_core import __version__
from ssmd_core.cli import main

HEAVY = {
    "capnp",
    "cryptography",
    "fsspec",
    "nats",
    "rich",
    "ruamel",
    "ssmd_kalshi",
    "ssmd_sink_file",
    "ssmd_sink_nats",
    "starlette",
    "structlog",
    "uvicorn",
    "websockets",
}


@pytest.mark.parametrize(
    "arguments",
    [["--version"], ["--help"], ["plugins"], ["plugins", "--json"], ["check", "--help"]],
)
def test_looking_around_imports_no_plugin_and_nothing_heavy(arguments):
    script = (
        "import json, sys\n"
        "from ssmd_core.cli import main\n"
        f"code = main({arguments!r})\n"
        "print()\n"
        "print(json.dumps([code, sorted(sys.modules)]))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60
    )
    code, modules = json.loads(done.stdout.splitlines()[-1])
    assert code == 0
    assert HEAVY.isdisjoint(name.partition(".")[0] for name in modules)
    assert [name for name in modules if name.startswith("ssmd_core.sink")] == []


def test_the_version_is_the_distribution_s(capsys):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"ssmd {__version__}\n"


def test_help_names_every_command(capsys):
    assert main(["--help"]) == 0
    out = capsys.readouterr().out
    assert {"check", "demo", "plugins"} <= set(out.split())


def test_without_arguments_help_goes_to_standard_error_and_exit_is_2(capsys):
    assert main([]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "Usage: ssmd" in captured.err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--feed", "x"], "missing option --env"),
        (["-e", "x"], "missing option --feed"),
        (["--health-addr", ":0"], "missing option --feed"),
        (["--bogus"], "No such option: --bogus"),
        (["bogus"], "No such command 'bogus'"),
        (["--feed"], "requires an argument"),
        (["check", "--feed", "x"], "Missing option '--env'"),
        (["--feed", "x", "check"], "options of a command stand after it: ssmd check"),
        (["demo", "--seconds", "soon"], "'--seconds'"),
        (["plugins", "show"], "Missing argument 'NAME'"),
    ],
)
def test_a_usage_error_says_what_is_wrong_and_exits_2(capsys, arguments, message):
    assert main(arguments) == 2
    err = capsys.readouterr().err
    assert message in err
    assert "Traceback" not in err


def test_demo_is_given_its_options(monkeypatch, tmp_path):
    calls = []
    monkeypatch.setattr(
        "ssmd_core.cli.demo.run_demo", lambda *arguments: calls.append(arguments) or 0
    )
    assert main(["demo"]) == 0
    assert main(["demo", "--nats", "--seconds", "2", "--path", str(tmp_path)]) == 0
    assert calls == [(False, 30.0, None), (True, 2.0, tmp_path)]


def test_an_unexpected_exception_exits_1_and_the_last_line_says_so(monkeypatch, capsys):
    def fail(*_arguments):
        raise ZeroDivisionError("by zero")

    monkeypatch.setattr("ssmd_core.cli.demo.run_demo", fail)
    assert main(["demo"]) == 1
    last = capsys.readouterr().err.splitlines()[-1]
    assert last == "Error: internal failure: ZeroDivisionError: by zero"
