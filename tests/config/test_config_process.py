import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ssmd_core.config import ProcessSettings
from ssmd_core.config.process import parse_health_address
from ssmd_core.errors import ConfigError


def complaint(environ: dict[str, str], health_addr: str | None = None) -> str:
    with pytest.raises(ConfigError) as caught:
        ProcessSettings.read(environ, health_addr=health_addr)
    assert caught.value.exit_code == 2
    return str(caught.value)


def test_without_variables_there_are_defaults():
    settings = ProcessSettings.read({})
    assert (settings.health_host, settings.health_port) == ("0.0.0.0", 8080)
    assert (settings.log, settings.log_format, settings.shutdown_seconds) == ("info", None, 20.0)


def test_only_the_given_variables_are_read(monkeypatch):
    monkeypatch.setenv("SSMD_HEALTH_ADDR", ":1234")
    monkeypatch.setenv("RUST_LOG", "nonsense")
    assert ProcessSettings.read({}).health_port == 8080


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [
        ("0.0.0.0:8080", "0.0.0.0", 8080),
        ("localhost:8080", "localhost", 8080),
        (":0", "0.0.0.0", 0),
        ("[::1]:8080", "::1", 8080),
        ("[::]:65535", "::", 65535),
        (" pod-1.ns.svc.:81 ", "pod-1.ns.svc.", 81),
    ],
)
def test_a_health_address_is_read(text, host, port):
    settings = ProcessSettings.read({"SSMD_HEALTH_ADDR": text})
    assert (settings.health_host, settings.health_port) == (host, port)


@pytest.mark.parametrize(
    "text",
    ["8080", "localhost", "localhost:", ":65536", ":-1", ":8o", ":٣", "::1:8080", "[::1]", "[x]:1",
     "a b:1", "http://x:1", "-x:1", "[::1:8080", "::1]:8080"],
)  # fmt: skip
def test_a_bad_health_address_names_the_variable_and_what_is_allowed(text):
    message = complaint({"SSMD_HEALTH_ADDR": text})
    assert message.startswith("SSMD_HEALTH_ADDR: ")
    assert "allowed: HOST:PORT, :PORT or [IPV6]:PORT" in message


def test_the_command_line_wins_over_the_variable():
    environ = {"SSMD_HEALTH_ADDR": "nonsense"}
    assert ProcessSettings.read(environ, health_addr="localhost:1").health_port == 1
    assert complaint({}, health_addr="nonsense").startswith("--health-addr: ")


@given(st.text(max_size=30))
def test_any_text_is_a_health_address_or_a_value_error(text):
    try:
        found, told = parse_health_address(text), "allowed"
    except ValueError as error:
        found, told = ("refused", 0), str(error)
    assert "allowed" in told
    assert found[0]
    assert 0 <= found[1] <= 65535


HOSTS = st.from_regex(r"[a-z0-9]([a-z0-9-]{0,8}[a-z0-9])?(\.[a-z]{1,5})?", fullmatch=True)


@given(HOSTS | st.ip_addresses(v=4).map(str), st.integers(0, 65535))
def test_every_host_and_port_round_trips(host, port):
    assert parse_health_address(f"{host}:{port}") == (host, port)


@given(st.ip_addresses(v=6), st.integers(0, 65535))
def test_every_ipv6_address_in_brackets_round_trips(address, port):
    host, found = parse_health_address(f"[{address}]:{port}")
    assert (ipaddress.ip_address(host), found) == (address, port)


@pytest.mark.parametrize(
    ("environ", "level"),
    [
        ({"RUST_LOG": "debug"}, "debug"),
        ({"RUST_LOG": "WARN"}, "WARN"),
        ({"RUST_LOG": "debug", "SSMD_LOG": "error"}, "error"),
        ({"RUST_LOG": "debug", "SSMD_LOG": ""}, "debug"),
        ({"RUST_LOG": "nonsense", "SSMD_LOG": "trace"}, "trace"),
        ({"RUST_LOG": "info, ssmd_connector=debug ,"}, "info,ssmd_connector=debug"),
        ({"RUST_LOG": "info/only.*these"}, "info"),
        ({"RUST_LOG": " "}, "info"),
        ({"RUST_LOG": ""}, "info"),
    ],
)
def test_the_log_level_is_a_level_or_a_list_of_targets(environ, level):
    assert ProcessSettings.read(environ).log == level


@pytest.mark.parametrize("variable", ["RUST_LOG", "SSMD_LOG"])
@pytest.mark.parametrize("text", ["loud", "info,loud", "ssmd=loud", "ssmd=", "5"])
def test_a_bad_log_level_names_its_variable_and_what_is_allowed(variable, text):
    message = complaint({variable: text})
    assert message.startswith(f"{variable}: ")
    assert "allowed: error, warn, warning, info, debug, trace" in message


@pytest.mark.parametrize("text", ["json", "console", "JSON"])
def test_the_log_format_is_read(text):
    assert ProcessSettings.read({"SSMD_LOG_FORMAT": text}).log_format == text.lower()


@pytest.mark.parametrize(("text", "seconds"), [("0", 0.0), ("5", 5.0), ("2.5", 2.5)])
def test_the_time_to_stop_is_read(text, seconds):
    assert ProcessSettings.read({"SSMD_SHUTDOWN_SECONDS": text}).shutdown_seconds == seconds


@pytest.mark.parametrize("text", ["-1", "nan", "inf", "soon", "3601"])
def test_a_bad_time_to_stop_is_refused(text):
    assert complaint({"SSMD_SHUTDOWN_SECONDS": text}) == (
        "SSMD_SHUTDOWN_SECONDS: must be a number of seconds from 0 to 3600"
    )


@pytest.mark.parametrize("text", ["-1", "101", "nan", "soon"])
def test_a_pace_of_reading_outside_a_second_is_refused(text):
    assert ProcessSettings.read({"SSMD_READ_EVERY_MS": "10"}).read_every_ms == 10
    assert complaint({"SSMD_READ_EVERY_MS": text}) == (
        "SSMD_READ_EVERY_MS: must be a number of milliseconds from 0 to 100"
    )


def test_every_bad_variable_is_told_at_once():
    message = complaint({"SSMD_LOG_FORMAT": "xml", "SSMD_SHUTDOWN_SECONDS": "x", "SSMD_LOG": "y"})
    assert [line.partition(":")[0] for line in message.splitlines()] == [
        "SSMD_LOG",
        "SSMD_LOG_FORMAT",
        "SSMD_SHUTDOWN_SECONDS",
    ]


@pytest.mark.parametrize("word", ["asyncio", " AsyncIO "])
def test_the_event_loop_can_be_chosen(word):
    assert ProcessSettings.read({"SSMD_EVENT_LOOP": word}).event_loop == "asyncio"


def test_without_a_word_the_event_loop_is_left_to_what_is_installed():
    assert ProcessSettings.read({}).event_loop is None


def test_an_unknown_event_loop_is_a_fault_that_lists_the_known_ones():
    with pytest.raises(ConfigError, match=r"`trio` is not known; .*asyncio, uvloop"):
        ProcessSettings.read({"SSMD_EVENT_LOOP": "trio"})


def test_an_event_loop_that_is_not_installed_names_what_brings_it(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"pip install ssmd-core\[fast\]"):
        ProcessSettings.read({"SSMD_EVENT_LOOP": "uvloop"})
