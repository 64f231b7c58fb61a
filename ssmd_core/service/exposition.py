"""What ``/metrics`` says: the plain integers of ``Metrics`` under their Prometheus names."""

from __future__ import annotations

import platform
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import accumulate

from prometheus_client import (
    CollectorRegistry,
    GCCollector,
    PlatformCollector,
    ProcessCollector,
    generate_latest,
)
from prometheus_client.core import HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from ssmd_core import __version__
from ssmd_core.clock import NS, Clock, SystemClock
from ssmd_core.metrics import Histogram, Metrics
from ssmd_core.service.monitored import Component, Monitored, Readiness

__all__ = ["PREFIX", "Exposition", "Reading", "families"]

PREFIX = "ssmd_connector_"
_MAX_LABEL = 128


@dataclass(frozen=True, slots=True)
class Reading:
    """What is needed beside ``Metrics``, read in one go."""

    feed: str
    environment: str
    connected: bool
    readiness: Readiness
    idle_seconds: float
    clock_offset_seconds: float


_COUNTERS = {
    "received_bytes_total": ("received_bytes", "Bytes of frames received from the venue"),
    "parse_errors_total": ("parse_errors", "Frames that the feed could not read; archived"),
    "invalid_frames_total": ("invalid_frames", "Frames that are not valid JSON; archived"),
    "sequence_regressed_total": (
        "sequence_regressed",
        "Frames whose sequence number had passed already",
    ),
    "lost_total": ("lost", "Frames or messages neither archived nor acknowledged: exit code 1"),
    "refusals_total": (
        "refusals",
        "Connections that the venue refused for their credentials",
    ),
    "backfilled_total": ("backfilled", "Records fetched over REST after holes; may be known"),
    "repairs_total": ("repairs", "Holes whose history was fetched completely"),
    "repairs_failed_total": ("repairs_failed", "Holes whose history could not be fetched"),
    "archived_total": ("archived", "Frames appended to the archive"),
    "archived_bytes_total": ("archived_bytes", "Bytes appended to the archive"),
    "torn_tails_total": ("torn_tails", "Partial last lines that a crash left, set aside"),
    "published_total": ("published", "Messages acknowledged by the bus"),
    "publish_retries_total": ("publish_retries", "Messages sent to the bus again"),
    "duplicates_total": ("duplicates", "Messages that the bus had already"),
    "rounded_total": ("rounded", "Values that the wire schema rounds"),
    "saturated_total": ("saturated", "Values too large for the wire schema"),
    "paused_seconds_total": ("paused_seconds", "Seconds without reading, as sinks were slow"),
}
_GAUGES = {
    "markets_requested": ("markets_requested", "Markets asked for by name; 0 for all"),
    "markets_subscribed": ("markets_subscribed", "Markets of confirmed subscriptions"),
    "unacked": ("unacked", "Messages sent and not yet acknowledged by the bus"),
    "backlog_bytes": ("backlog_bytes", "Bytes received and not yet taken by the bus"),
}
_WHERE_KNOWN = {
    "archive_free_bytes": ("archive_free_bytes", "Bytes left on the volume of the archive"),
    "upload_backlog_bytes": (
        "upload_backlog_bytes",
        "Bytes closed and not yet let go of by the spool; object storage only",
    ),
}
_TALLIES = {
    "messages_total": ("messages", "message_type", "Frames received, by the venue's type"),
    "reconnects_total": ("reconnects", "reason", "Connections made anew"),
    "gaps_total": ("gaps", "channel", "Gaps in the venue's sequence numbers"),
    "missing_total": ("missing", "channel", "Sequence numbers never received"),
    "dropped_total": ("dropped", "reason", "Frames lost by the connector"),
    "unpublishable_total": ("unpublishable", "reason", "Records that the schema cannot carry"),
}
_HISTOGRAMS = {
    "message_age_seconds": ("message_age", "From the venue's time to receipt"),
    "publish_duration_seconds": ("publish_duration", "From sending to acknowledgement"),
    "archive_sync_seconds": ("archive_sync", "Duration of making the archive durable"),
}


class Exposition:
    """Prometheus text of a connector, collected when it is asked for."""

    def __init__(self, subject: Monitored, clock: Clock | None = None) -> None:
        self._subject = subject
        self._clock = clock or SystemClock()
        self._started_ns = self._clock.wall_ns()
        self._process = CollectorRegistry()
        ProcessCollector(registry=self._process)
        PlatformCollector(registry=self._process)
        GCCollector(registry=self._process)

    def read(self) -> Reading:
        """Ask the subject. Runs on the event loop."""
        subject = self._subject
        active_ns = subject.metrics.last_activity_ns or self._started_ns
        return Reading(
            feed=subject.name,
            environment=subject.environment,
            connected=subject.connected(),
            readiness=subject.readiness(),
            idle_seconds=max(0, self._clock.wall_ns() - active_ns) / NS,
            clock_offset_seconds=subject.clock_offset_ns() / NS,
        )

    def render(self, reading: Reading) -> bytes:
        """Return the text, format 0.0.4. May run in a thread."""
        registry = CollectorRegistry()
        registry.register(_Once(families(self._subject.metrics, reading)))
        return generate_latest(registry) + generate_latest(self._process)


class _Once(Collector):
    """Families made for one scrape."""

    def __init__(self, made: Iterable[Metric]) -> None:
        self._made = made

    def collect(self) -> Iterable[Metric]:
        return self._made


def families(metrics: Metrics, reading: Reading) -> Iterator[Metric]:
    """Yield every metric of a connector. Dicts and lists are copied before they are walked."""
    feed = {"feed": reading.feed}
    yield _gauge("websocket_connected", "Whether the venue is connected", feed, reading.connected)
    yield _gauge("ready", "What /ready says: 1 or 0", feed, reading.readiness.ready)
    yield _failing(reading.readiness, feed)
    yield _gauge(
        "last_activity_timestamp",
        "Unix seconds of the last frame; 0 before the first",
        feed,
        metrics.last_activity_ns / NS,
    )
    yield _gauge("idle_seconds", "Since the last frame, or the start", feed, reading.idle_seconds)
    yield _gauge(
        "clock_offset_seconds",
        "How far receipt time is ahead of the wall clock",
        feed,
        reading.clock_offset_seconds,
    )
    build = {"version": __version__, "python": platform.python_version()}
    yield _gauge(
        "build_info",
        "What runs",
        {**build, "environment": reading.environment, **feed},
        value=1,
    )
    for name, (field, text) in _GAUGES.items():
        yield _gauge(name, text, feed, getattr(metrics, field))
    for name, (field, text) in _WHERE_KNOWN.items():
        value = getattr(metrics, field)
        if value is not None:
            yield _gauge(name, text, feed, value)
    yield _subscriptions(metrics, feed)
    for name, (field, text) in _COUNTERS.items():
        yield _counter(name, text, [(feed, getattr(metrics, field))])
    for name, (field, label, text) in _TALLIES.items():
        yield _counter(name, text, _labelled(dict(getattr(metrics, field)), label, feed))
    for name, (field, text) in _HISTOGRAMS.items():
        yield _histogram(name, text, feed, getattr(metrics, field))


Labels = Mapping[str, str]


def _gauge(name: str, text: str, labels: Labels, value: float) -> Metric:
    family = Metric(PREFIX + name, text, "gauge")
    family.add_sample(PREFIX + name, dict(labels), float(value))
    return family


def _counter(name: str, text: str, samples: Iterable[tuple[Labels, float]]) -> Metric:
    family = Metric(PREFIX + name.removesuffix("_total"), text, "counter")
    for labels, value in samples:
        family.add_sample(PREFIX + name, dict(labels), float(value))
    return family


def _labelled(counts: Mapping[str, int], label: str, feed: Labels) -> list[tuple[Labels, float]]:
    shown: dict[str, int] = {}
    for key, count in counts.items():
        # A venue may choose the key: neither its length nor its encoding breaks the text.
        fit = key[:_MAX_LABEL].encode("utf-8", "replace").decode()
        shown[fit] = shown.get(fit, 0) + count
    # What never happened is 0, not absent: an alert on it must not wait for the first time.
    return [({**feed, label: key}, count) for key, count in shown.items()] or [(feed, 0)]


def _failing(readiness: Readiness, feed: Labels) -> Metric:
    family = Metric(PREFIX + "failing", "What keeps it from being ready: 1 or 0 each", "gauge")
    for component in Component:
        labels = {**feed, "component": component.value}
        family.add_sample(family.name, labels, float(component in readiness.failing))
    return family


def _subscriptions(metrics: Metrics, feed: Labels) -> Metric:
    family = Metric(PREFIX + "subscriptions", "Subscriptions by what became of them", "gauge")
    for state in ("requested", "confirmed", "refused"):
        count = getattr(metrics, f"subscriptions_{state}")
        family.add_sample(family.name, {**feed, "state": state}, float(count))
    return family


def _histogram(name: str, text: str, feed: Labels, histogram: Histogram) -> Metric:
    bounds = [*map(str, histogram.bounds), "+Inf"]
    counts = accumulate(list(histogram.buckets))
    family = HistogramMetricFamily(PREFIX + name, text, labels=list(feed))
    family.add_metric(
        list(feed.values()), list(zip(bounds, counts, strict=True)), sum_value=histogram.total
    )
    return family
