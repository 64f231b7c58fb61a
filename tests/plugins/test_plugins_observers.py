import sys
import threading

import pytest

from ssmd_core.plugins import hookimpl
from ssmd_core.plugins.index import Entry, Kind
from ssmd_core.plugins.loading import host_plugin
from ssmd_core.plugins.observers import Observers

WATCH = """
from ssmd_core.plugins import hookimpl
seen = []

@hookimpl
def ssmd_run_started(feed, environment):
    seen.append(("started", feed, environment))

@hookimpl
def ssmd_gap_detected(channel, first, last):
    seen.append(("gap", channel, first, last))

@hookimpl
def ssmd_component_failed(component, reason):
    seen.append(("failed", component, reason))

@hookimpl
def ssmd_run_stopped(error):
    seen.append(("stopped", error))
"""


def test_every_hook_reaches_every_observer_in_order(install, registry):
    install("one", {"observer:one": "watch_one"}, WATCH, module="watch_one")
    install("two", {"observer:two": "watch_two"}, WATCH, module="watch_two")
    observers = registry().observers(pytest.fail)
    observers.run_started(feed="kalshi", environment="prod")
    observers.gap_detected(feed="kalshi", channel="trade", first=3, last=5)
    observers.component_failed(feed="kalshi", component="bus", reason="down")
    observers.run_stopped(feed="kalshi", environment="prod", error=None)
    assert observers.close()
    watch_one, watch_two = sys.modules["watch_one"], sys.modules["watch_two"]
    assert watch_one.seen == [
        ("started", "kalshi", "prod"),
        ("gap", "trade", 3, 5),
        ("failed", "bus", "down"),
        ("stopped", None),
    ]
    assert watch_two.seen == watch_one.seen


@pytest.mark.parametrize(
    "code",
    [
        "raise RuntimeError('broken')",
        "from ssmd_core.plugins import hookimpl\n@hookimpl\ndef ssmd_gap_detectd(): pass",
        "from ssmd_core.plugins import hookimpl\n@hookimpl\ndef ssmd_gap_detected(price): pass",
        "from ssmd_core.plugins import hookimpl\n@hookimpl\nasync def ssmd_gap_detected(): pass",
    ],
)
def test_a_broken_observer_is_a_warning_and_the_others_are_told(install, registry, code):
    install("bad", {"observer:bad": "watch_bad"}, code, module="watch_bad")
    install("good", {"observer:good": "watch_good"}, WATCH, module="watch_good")
    warnings: list[str] = []
    observers = registry().observers(warnings.append)
    observers.run_started(feed="f", environment="e")
    assert observers.close()
    assert sys.modules["watch_good"].seen == [("started", "f", "e")]
    assert len(warnings) == 1
    assert "bad 1.0 (watch_bad)" in warnings[0]


def hosted(plugin, monkeypatch) -> list:
    entry = Entry(kind=Kind.OBSERVER, type="x", distribution="x", version="1", module="x")
    monkeypatch.setattr("ssmd_core.plugins.loading._imported", lambda _entry: plugin)
    return [("x 1 (x)", host_plugin(entry))]


@pytest.mark.parametrize("error", [ValueError("no"), SystemExit(3)])
def test_an_observer_that_raises_is_a_warning_and_is_told_again(monkeypatch, error):
    class Plugin:
        calls = 0

        @hookimpl
        def ssmd_run_started(self):
            Plugin.calls += 1
            raise error

    warnings: list[str] = []
    observers = Observers(hosted(Plugin(), monkeypatch), warnings.append)
    observers.run_started(feed="f", environment="e")
    observers.run_started(feed="f", environment="e")
    assert observers.close()
    assert Plugin.calls == 2
    assert len(warnings) == 2
    assert f"ssmd_run_started raised {type(error).__name__}" in warnings[0]


def test_an_observer_that_hangs_holds_nobody_up_and_what_it_misses_is_counted(monkeypatch):
    release, entered = threading.Event(), threading.Event()

    class Plugin:
        @hookimpl
        def ssmd_gap_detected(self):
            entered.set()
            release.wait(10)

    monkeypatch.setattr("ssmd_core.plugins.observers._MAX_PENDING", 4)
    warnings: list[str] = []
    observers = Observers(hosted(Plugin(), monkeypatch), warnings.append)
    observers.gap_detected(feed="f", channel="c", first=0, last=0)
    assert entered.wait(10)
    for number in range(10):
        observers.gap_detected(feed="f", channel="c", first=number, last=number)
    assert observers.dropped == 6
    assert warnings == [f"observers are too slow: {n} calls dropped so far" for n in (1, 2, 4)]
    assert not observers.close(timeout_seconds=0.01)
    release.set()
    assert observers.close(timeout_seconds=10)


def test_without_observers_no_thread_is_started(registry):
    before = threading.active_count()
    observers = registry().observers(pytest.fail)
    observers.run_started(feed="f", environment="e")
    assert threading.active_count() == before
    assert observers.close()
