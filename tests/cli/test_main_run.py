"""How a run begins and ends, as a process. What it captures is tested end to end."""

import json
import signal
import socket
import subprocess
import time

import pytest

from ssmd_core.cli.run import loop_options, only_fault, report
from ssmd_core.errors import ConfigError, CredentialsRefused, StorageFailed
from ssmd_core.log import FIELDS

RUN = ("--feed", "feed.yaml", "--env", "env.yaml")


def logged(err: str) -> list[dict]:
    return [json.loads(line) for line in err.splitlines()]


def test_a_fault_is_one_line_of_the_log_each_and_exit_2(world):
    world.write("name: acme\n", "nam: prod\n")
    code, out, err = world.run(*RUN)
    assert (code, out) == (2, "")
    lines = logged(err)
    assert {line["level"] for line in lines} == {"error"}
    events = [line["event"] for line in lines]
    assert "feed.yaml:1: versions: is missing" in events
    assert any(event.startswith("env.yaml:1: nam: unknown key") for event in events)


def test_the_console_format_says_it_without_a_traceback(world):
    world.write("", "")
    code, _, err = world.run(*RUN, SSMD_LOG_FORMAT="console")
    assert code == 2
    assert "feed.yaml: is empty" in err
    assert "Traceback" not in err


def test_at_debug_level_the_traceback_is_there_and_the_message_is_still_last(world):
    world.write("", "name: prod\n")
    code, _, err = world.run(*RUN, SSMD_LOG="debug", SSMD_LOG_FORMAT="console")
    assert code == 2
    assert "Traceback" in err
    assert "env.yaml:1: transport: is missing" in err.splitlines()[-1]


@pytest.mark.parametrize(
    ("environ", "arguments", "message"),
    [
        ({"SSMD_LOG": "loud"}, (), "Error: SSMD_LOG: `loud` is no level"),
        ({"SSMD_HEALTH_ADDR": "x"}, (), "Error: SSMD_HEALTH_ADDR: the port must be a number"),
        ({}, ("--health-addr", "x"), "Error: --health-addr: the port must be a number"),
    ],
)
def test_a_bad_process_setting_exits_2(world, environ, arguments, message):
    code, _, err = world.run(*RUN, *arguments, **environ)
    assert code == 2
    assert err.startswith(message)


def test_a_missing_credential_exits_2_and_names_the_variable(world):
    code, _, err = world.run(*RUN, ACME_TOKEN="")
    assert code == 2
    assert logged(err)[-1]["event"].startswith("ACME_TOKEN is not set")


def test_a_health_port_that_is_taken_exits_2(world):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        code, _, err = world.run(*RUN, "--health-addr", address)
    assert code == 2
    assert address in logged(err)[-1]["event"]


def test_warnings_of_the_configuration_are_logged(world):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        _, _, err = world.run(*RUN, "--health-addr", address, SSMD_TRANSPRT__URL="x")
    warnings = [line["event"] for line in logged(err) if line["level"] == "warning"]
    assert any("SSMD_TRANSPRT__URL names no key" in event for event in warnings)


SLOW = """
    import time
    from pathlib import Path
    from pydantic import BaseModel
    from ssmd_core.plugins import FeedType, hookimpl

    def start(context, config):
        Path("opening").touch()
        time.sleep(60)

    class Config(BaseModel):
        pass

    @hookimpl
    def ssmd_feeds():
        yield FeedType(name="slow", api_version=1, config=Config, open=start)
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_while_the_plan_is_made_stops_cleanly(world, number):
    world.install("slow", {"ssmd.feeds": {"slow": "slow"}}, SLOW)
    feed, env = ((world.folder / name).read_text() for name in ("feed.yaml", "env.yaml"))
    world.write(feed + "plugin: slow\n", env)
    with subprocess.Popen(
        world.command(*RUN), cwd=world.folder, env=world.environ, stderr=subprocess.PIPE, text=True
    ) as process:
        deadline = time.monotonic() + 30
        while not (world.folder / "opening").exists():
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.01)
        process.send_signal(number)
        _, err = process.communicate(timeout=30)
    assert process.returncode == 0
    assert logged(err)[-1]["event"] == "stopped before anything was received"


CRASHING = """
    from pydantic import BaseModel
    from ssmd_core.plugins import TransportType, hookimpl

    def start(context, config):
        raise ZeroDivisionError("by zero")

    class Config(BaseModel):
        pass

    @hookimpl
    def ssmd_transports():
        yield TransportType(name="crash", api_version=1, config=Config, open=start)
"""


def test_an_unexpected_exception_exits_1_and_the_last_line_says_so(world):
    world.install("crash", {"ssmd.transports": {"crash": "crash"}}, CRASHING)
    env = (world.folder / "env.yaml").read_text().replace("memory", "crash")
    world.write((world.folder / "feed.yaml").read_text(), env)
    code, _, err = world.run(*RUN, "--health-addr", "127.0.0.1:0")
    assert code == 1
    last = logged(err)[-1]
    assert last["event"].startswith("stopped by an internal failure: ")
    assert "by zero" in err


# ── decisions ────────────────────────────────────────────────────────────────────


def test_one_fault_within_groups_is_that_fault():
    fault = ConfigError("x")
    group = BaseExceptionGroup("g", [ExceptionGroup("h", [fault])])
    assert only_fault(group) is fault


def test_a_group_that_holds_anything_else_is_no_fault_of_ours():
    group = ExceptionGroup("g", [ConfigError("x"), ValueError("y")])
    assert only_fault(group) is None


@pytest.mark.parametrize(
    ("error", "code"),
    [(ConfigError("x"), 2), (CredentialsRefused("x"), 3), (StorageFailed("x"), 1)],
)
def test_a_fault_of_ours_has_its_exit_code(error, code, caplog):
    assert report(error) == code
    last = caplog.records[-1]
    assert (last.message, last.levelname) == ("x", "ERROR")
    assert getattr(last, FIELDS) == {"exit_code": code}


def test_uvloop_is_used_where_it_is_installed(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: object())
    assert loop_options() == {"use_uvloop": True}
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert loop_options() == {"use_uvloop": False}


@pytest.mark.parametrize(("asked", "used"), [("asyncio", False), ("uvloop", True)])
def test_the_event_loop_that_is_asked_for_is_used(asked, used):
    assert loop_options(asked) == {"use_uvloop": used}
