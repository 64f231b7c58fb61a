from __future__ import annotations

import dataclasses
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from ssmd_core import __version__
from ssmd_core.metrics import Histogram, Metrics, Tally
from ssmd_core.service.exposition import Exposition, Reading, families
from ssmd_core.service.monitored import Component, Readiness

READING = Reading(
    feed="kalshi",
    environment="prod",
    connected=True,
    readiness=Readiness(ready=True),
    idle_seconds=0.0,
    clock_offset_seconds=0.0,
)

NAMES = {
    # the names of the interface, with the type Prometheus is told
    "messages_total": "counter",
    "websocket_connected": "gauge",
    "last_activity_timestamp": "gauge",
    "idle_seconds": "gauge",
    "parse_errors_total": "counter",
    "markets_subscribed": "gauge",
    "markets_requested": "gauge",
    "reconnects_total": "counter",
    "gaps_total": "counter",
    "missing_total": "counter",
    "sequence_regressed_total": "counter",
    "backfilled_total": "counter",
    "repairs_total": "counter",
    "repairs_failed_total": "counter",
    "received_bytes_total": "counter",
    "archived_total": "counter",
    "published_total": "counter",
    "unacked": "gauge",
    "publish_retries_total": "counter",
    "duplicates_total": "counter",
    "dropped_total": "counter",
    "backlog_bytes": "gauge",
    "message_age_seconds": "histogram",
    "publish_duration_seconds": "histogram",
    "archive_sync_seconds": "histogram",
    "clock_offset_seconds": "gauge",
    "build_info": "gauge",
    "ready": "gauge",
    "failing": "gauge",
    "lost_total": "counter",
    "refusals_total": "counter",
}


def scrape(subject, clock=None):
    exposition = Exposition(subject, clock)
    text = exposition.render(exposition.read()).decode()
    return list(text_string_to_metric_families(text))


def values(found):
    return {
        (sample.name.removeprefix("ssmd_connector_"), *sorted(sample.labels.items())): sample.value
        for family in found
        for sample in family.samples
    }


FEED = ("feed", "kalshi")


@pytest.mark.parametrize(("name", "kind"), NAMES.items())
def test_a_name_of_the_interface_stands_there_before_anything_happened(subject, name, kind):
    found = {family.name: family for family in scrape(subject)}
    family = found[f"ssmd_connector_{name.removesuffix('_total')}"]
    assert family.type == kind
    assert family.documentation
    shown = {"histogram": f"{name}_count"}.get(kind, name)
    assert f"ssmd_connector_{shown}" in {sample.name for sample in family.samples}


def test_every_series_of_ours_carries_the_feed(subject):
    subject.metrics.gaps.add("trade")
    for family in scrape(subject):
        if family.name.startswith("ssmd_"):
            assert family.samples
            assert all(sample.labels.get("feed") == "kalshi" for sample in family.samples)


def test_the_process_itself_is_measured_too(subject):
    names = {family.name for family in scrape(subject)}
    assert {"process_resident_memory_bytes", "process_open_fds"} <= names
    assert {"python_info", "python_gc_collections"} <= names


def test_no_name_stands_twice(subject):
    names = [family.name for family in scrape(subject)]
    assert len(names) == len(set(names))


def test_counts_by_label_keep_their_labels(subject):
    subject.metrics.messages.add("trade", 3)
    subject.metrics.reconnects.add("stale")
    subject.metrics.missing.add("orderbook_delta", 9)
    found = values(scrape(subject))
    assert found["messages_total", FEED, ("message_type", "trade")] == 3
    assert found["reconnects_total", FEED, ("reason", "stale")] == 1
    assert found["missing_total", ("channel", "orderbook_delta"), FEED] == 9


def test_a_count_that_never_moved_is_zero_and_not_absent(subject):
    found = values(scrape(subject))
    assert found["gaps_total", FEED] == 0
    assert found["dropped_total", FEED] == 0


def test_subscriptions_are_told_by_what_became_of_them(subject):
    subject.metrics.subscriptions_requested = 5
    subject.metrics.subscriptions_confirmed = 3
    subject.metrics.subscriptions_refused = 2
    found = values(scrape(subject))
    states = ("requested", "confirmed", "refused")
    assert [found["subscriptions", FEED, ("state", state)] for state in states] == [5, 3, 2]


def test_a_histogram_counts_upwards_and_ends_with_everything(subject):
    subject.metrics.publish_duration = Histogram((0.1, 1.0))
    subject.metrics.publish_duration.observe(0.05, 2)
    subject.metrics.publish_duration.observe(0.5)
    subject.metrics.publish_duration.observe(7.0)
    found = values(scrape(subject))
    bounds = ("0.1", "1.0", "+Inf")
    assert [found["publish_duration_seconds_bucket", FEED, ("le", bound)] for bound in bounds] == [
        2,
        3,
        4,
    ]
    assert found["publish_duration_seconds_count", FEED] == 4
    assert math.isclose(found["publish_duration_seconds_sum", FEED], 7.6)


def test_idleness_is_measured_from_the_last_frame(subject, clock):
    subject.metrics.last_activity_ns = clock.wall_ns()
    clock.pass_seconds(2.5)
    found = values(scrape(subject, clock))
    assert found["idle_seconds", FEED] == 2.5
    assert found["last_activity_timestamp", FEED] == 1_795_000_000


def test_before_the_first_frame_idleness_is_measured_from_the_start(subject, clock):
    exposition = Exposition(subject, clock)
    clock.pass_seconds(40)
    assert exposition.read().idle_seconds == 40


def test_a_wall_clock_set_back_makes_no_negative_idleness(subject, clock):
    subject.metrics.last_activity_ns = clock.wall_ns() + 1_000_000_000
    assert Exposition(subject, clock).read().idle_seconds == 0


def test_connection_and_clock_offset_come_from_the_subject(subject):
    subject.is_connected = False
    subject.offset_ns = 1_500_000_000
    found = values(scrape(subject))
    assert found["websocket_connected", FEED] == 0
    assert found["clock_offset_seconds", FEED] == 1.5


def test_readiness_and_what_it_fails_for_come_from_the_subject(subject):
    failing = frozenset({Component.BUS})
    subject.is_ready = Readiness(ready=False, reasons=("bus: away",), failing=failing)
    found = values(scrape(subject))
    assert found["ready", FEED] == 0
    shown = {each: found["failing", ("component", each), FEED] for each in Component}
    assert shown == {"venue": 0, "archive": 0, "bus": 1}


def test_free_space_is_shown_once_it_is_known(subject):
    assert "ssmd_connector_archive_free_bytes" not in {family.name for family in scrape(subject)}
    subject.metrics.archive_free_bytes = 7 * 2**40
    (family,) = [f for f in scrape(subject) if f.name == "ssmd_connector_archive_free_bytes"]
    assert family.type == "gauge"
    assert [(s.labels["feed"], s.value) for s in family.samples] == [(subject.name, 7 * 2**40)]


def test_the_build_says_what_runs_and_where(subject):
    (sample,) = next(f for f in scrape(subject) if f.name == "ssmd_connector_build_info").samples
    assert sample.value == 1
    assert sample.labels["version"] == __version__
    assert sample.labels["environment"] == "prod"


@pytest.mark.parametrize("field", [field.name for field in dataclasses.fields(Metrics)])
def test_whatever_is_counted_is_shown(field):
    metrics = Metrics()
    before = list(families(metrics, READING))
    match getattr(metrics, field):
        case Tally() as tally:
            tally.add("something")
        case Histogram() as histogram:
            histogram.observe(0.2)
        case _:
            setattr(metrics, field, 2_000_000_000)
    assert [f.samples for f in families(metrics, READING)] != [f.samples for f in before]


@given(
    labels=st.dictionaries(st.text(max_size=20), st.integers(0, 2**60), max_size=8),
    feed=st.from_regex(r"[a-z0-9][a-z0-9_-]{0,20}", fullmatch=True),
)
def test_labels_that_a_venue_chooses_never_break_the_text(labels, feed):
    metrics = Metrics(messages=Tally(labels))
    reading = dataclasses.replace(READING, feed=feed)

    class Once(CollectorRegistry):
        def collect(self):
            return families(metrics, reading)

    text = generate_latest(Once()).decode()
    (family,) = (
        found
        for found in text_string_to_metric_families(text)
        if found.name == "ssmd_connector_messages"
    )
    shown = {sample.labels.get("message_type"): sample.value for sample in family.samples}
    assert shown == ({label: float(count) for label, count in labels.items()} or {None: 0.0})


def test_a_label_without_an_encoding_or_end_is_shown_as_far_as_it_goes(subject):
    subject.metrics.messages.add("\ud800")
    subject.metrics.messages.add("a" * 1000)
    subject.metrics.messages.add("a" * 1001)
    found = values(scrape(subject))
    assert found["messages_total", FEED, ("message_type", "?")] == 1
    assert found["messages_total", FEED, ("message_type", "a" * 128)] == 2
