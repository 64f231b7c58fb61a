from __future__ import annotations

import json
import logging
import os
import re
import subprocess
import sys
import warnings
from datetime import datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ssmd_core.errors import UsageError
from ssmd_core.log import get_logger
from ssmd_core.service.logs import TRACE, configure, parse_levels


@pytest.fixture
def lines(capfd):
    """Return what stands on standard error since the last call, as JSON objects."""
    root = logging.getLogger()
    before, level = list(root.handlers), root.level

    def read():
        return [json.loads(line) for line in capfd.readouterr().err.splitlines()]

    yield read
    configure("info", "json")  # forgets the levels of the targets
    for handler in [held for held in root.handlers if held not in before]:
        root.removeHandler(handler)
    root.setLevel(level)
    logging.captureWarnings(capture=False)


def _ours():
    return next(held for held in logging.getLogger().handlers if hasattr(held, "_writer"))


def test_a_line_is_one_json_object_with_time_level_and_event_first(lines):
    configure("info", "json")
    get_logger("ssmd_core.feed").info("connected", conn=0, feed="kalshi")
    (line,) = lines()
    assert list(line) == ["timestamp", "level", "event", "feed", "conn", "logger"]
    assert line["event"] == "connected"
    assert line["level"] == "info"
    assert line["conn"] == 0
    assert line["logger"] == "ssmd_core.feed"


def test_the_time_is_iso_in_utc(lines):
    configure("info", "json")
    get_logger("ssmd").info("now")
    (line,) = lines()
    assert datetime.fromisoformat(line["timestamp"]).utcoffset() == timedelta(0)


def test_the_standard_library_comes_the_same_way_with_its_extra_fields(lines):
    configure("info", "json")
    logging.getLogger("ssmd_core.sink").warning("took %d of %d", 1, 2, extra={"left": 1})
    (line,) = lines()
    assert line["event"] == "took 1 of 2"
    assert line["level"] == "warning"
    assert line["left"] == 1


@pytest.mark.parametrize("name", ["uvicorn.error", "nats.aio.client", "websockets.client"])
def test_a_library_that_chats_is_heard_from_warnings_on(lines, name):
    configure("debug", "json")
    logging.getLogger(name).info("chat")
    logging.getLogger(name).warning("fault")
    assert [line["event"] for line in lines()] == ["fault"]


def test_a_library_is_heard_when_it_is_named(lines):
    configure("info,nats=debug", "json")
    logging.getLogger("nats.aio.client").debug("chat")
    assert [line["event"] for line in lines()] == ["chat"]


@pytest.mark.parametrize(
    ("word", "heard"),
    [
        ("error", ["error"]),
        ("warn", ["warning", "error"]),
        ("info", ["info", "warning", "error"]),
        ("debug", ["debug", "info", "warning", "error"]),
        ("trace", ["trace", "debug", "info", "warning", "error"]),
        ("off", []),
    ],
)
def test_a_level_word_decides_what_is_heard(lines, word, heard):
    configure(word, "json")
    logger = logging.getLogger("ssmd_core.some")
    for number in (TRACE, logging.DEBUG, logging.INFO, logging.WARNING, logging.ERROR):
        logger.log(number, "said")
    assert [line["level"] for line in lines()] == heard


def test_the_same_levels_hold_for_our_own_loggers(lines):
    configure("warn,ssmd_core.feed=debug", "json")
    for name in ("ssmd_core.feed.host", "ssmd_core.pipeline"):
        get_logger(name).debug("said")
        get_logger(name).warning("said")
    assert [(line["logger"], line["level"]) for line in lines()] == [
        ("ssmd_core.feed.host", "debug"),
        ("ssmd_core.feed.host", "warning"),
        ("ssmd_core.pipeline", "warning"),
    ]


def test_a_level_nobody_knows_is_a_warning_and_the_rest_holds(lines):
    configure("loud,error,x=y", "json")
    assert lines() == []
    configure("loud", "json")
    (line,) = lines()
    assert line["event"] == "log level not understood"
    assert line["part"] == "loud"


@pytest.mark.parametrize(
    ("text", "default", "targets"),
    [
        ("", logging.INFO, {}),
        ("DEBUG", logging.DEBUG, {}),
        ("warn, nats = error", logging.WARNING, {"nats": logging.ERROR}),
        ("ssmd_connector=debug", logging.DEBUG, {}),
        ("ssmd_connector=debug,warn,hyper=error", logging.DEBUG, {"hyper": logging.ERROR}),
        ("ssmd_connector_lib::ws=trace", TRACE, {}),
        ("ssmd=error", logging.ERROR, {}),
        ("ssmd_kalshi::feed=trace", logging.INFO, {"ssmd_kalshi.feed": TRACE}),
    ],
)
def test_the_reference_programs_level_lists_are_understood(text, default, targets):
    levels = parse_levels(text)
    assert (levels.default, levels.targets, levels.unknown) == (default, targets, ())


@given(st.text())
def test_no_level_text_is_an_error(text):
    levels = parse_levels(text)
    assert levels.default in range(TRACE, 100)


def test_an_unknown_format_is_a_usage_error_that_names_the_two():
    with pytest.raises(UsageError, match="'xml': it is console or json"):
        configure("info", "xml")


def test_an_exception_is_one_line_with_its_traceback(lines):
    configure("info", "json")
    for logger in (get_logger("ssmd"), logging.getLogger("ssmd_core")):
        try:
            int("x")
        except ValueError:
            logger.exception("failed")
    for line in lines():
        assert line["level"] == "error"
        assert line["event"] == "failed"
        assert line["error"] == "ValueError: invalid literal for int() with base 10: 'x'"
        assert line["traceback"].startswith("Traceback (most recent call last):\n")
        assert line["traceback"].endswith(line["error"])


def test_an_exception_handed_over_is_shown_without_being_raised(lines):
    configure("info", "json")
    get_logger("ssmd").warning("retried", exc_info=ValueError("cut"))
    (line,) = lines()
    assert line["error"] == "ValueError: cut"


def test_no_exception_at_hand_makes_no_traceback(lines):
    configure("info", "json")
    get_logger("ssmd").info("fine", exc_info=True)
    (line,) = lines()
    assert "traceback" not in line


@pytest.mark.parametrize("fmt", ["json", "console"])
def test_no_secret_stands_in_a_line_whatever_way_it_came(lines, capfd, fmt):
    configure("info", fmt)
    key = "-----BEGIN " + "PRIVATE KEY-----\nhunter2\n-----END " + "PRIVATE KEY-----"
    get_logger("ssmd").info("nats://u:hunter2@h", api_key="hunter2", deep={"pem": key})
    logging.getLogger("ssmd_core").warning(
        "at %s", "nats://u:hunter2@h", extra={"token": "hunter2"}
    )
    error = ConnectionError("nats://u:hunter2@h refused")
    get_logger("ssmd").error("failed", exc_info=error)
    shown = capfd.readouterr().err
    assert "hunter2" not in shown
    assert shown.count("***") >= 5
    assert "refused" in shown


def test_a_line_that_cannot_be_shown_is_a_line_that_says_so(lines):
    configure("info", "json")
    fields = {"name": "ssmd_core", "msg": "%d of them", "args": ("x",)}
    _ours().handle(logging.makeLogRecord(fields))
    (line,) = lines()
    assert line["event"] == "log line lost"
    assert line["error"] == "TypeError while formatting"


def test_odd_values_are_shown(lines):
    configure("info", "json")
    get_logger("ssmd").info("odd", big=2**80, name="\udcff", nothing=None, flag=True)
    (line,) = lines()
    assert line["big"] == str(2**80)
    assert line["name"] == "\\udcff"
    assert line["nothing"] is None
    assert line["flag"] is True


def test_configuring_again_replaces_the_levels_and_writes_each_line_once(lines):
    configure("info,ssmd_core.feed=debug", "json")
    configure("info", "json")
    logging.getLogger("ssmd_core.feed").debug("hidden")
    logging.getLogger("ssmd_core.feed").info("shown")
    assert [line["event"] for line in lines()] == ["shown"]


def test_a_warning_of_python_is_a_line_too(lines):
    configure("info", "json")
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        logging.captureWarnings(capture=True)
        warnings.warn("old thing", DeprecationWarning, stacklevel=1)
    (line,) = lines()
    assert "old thing" in line["event"]
    assert line["logger"] == "py.warnings"


def test_the_console_shows_an_event_with_its_fields_on_one_line(lines, capfd):
    configure("info", "console")
    get_logger("ssmd").info("connected", conn=0, feed="kalshi")
    shown = capfd.readouterr().err
    assert re.search(r"\[info +\] connected +.*feed=kalshi conn=0\n$", shown)
    assert "\x1b" not in shown


def test_what_a_venue_wrote_cannot_steer_the_console(lines, capfd):
    configure("info", "console")
    get_logger("ssmd").warning("refused", why="no\x1b[2J\nfaked")
    assert capfd.readouterr().err.endswith("why='no\\x1b[2J\\nfaked'\n")


def test_a_field_does_not_take_the_place_of_what_every_line_has(lines):
    configure("info", "json")
    get_logger("ssmd").info("said", level="faked", timestamp="never", msg="kept")
    (line,) = lines()
    assert (line["level"], line["event"], line["msg"]) == ("info", "said", "kept")
    assert line["timestamp"] != "never"


SAY = "import logging; from ssmd_core.service.logs import configure; configure('info', {}); "
SAY += "logging.getLogger('ssmd_core').info('said')"


def test_away_from_a_terminal_lines_are_json():
    done = subprocess.run([sys.executable, "-c", SAY.format(None)], capture_output=True, check=True)
    assert json.loads(done.stderr)["event"] == "said"


def test_on_a_terminal_lines_are_for_people():
    ours, theirs = os.openpty()
    subprocess.run([sys.executable, "-c", SAY.format(None)], stderr=theirs, check=True)
    shown = os.read(ours, 65536).decode()
    os.close(ours)
    os.close(theirs)
    assert "said" in shown
    assert not shown.startswith("{")


def test_a_reader_of_the_log_that_is_gone_does_not_change_the_exit_code():
    read_end, write_end = os.pipe()
    os.close(read_end)
    done = subprocess.run(
        [sys.executable, "-c", SAY.format("'json'")], stderr=write_end, check=False
    )
    os.close(write_end)
    assert done.returncode == 0


def test_lost_lines_are_told_when_the_reader_is_back(lines):
    configure("info", "json")
    _ours()._writer._lost = 3
    logging.getLogger("ssmd_core").info("said")
    said, told = lines()
    assert said["event"] == "said"
    assert told["lines"] == 3
    assert told["level"] == "warning"
