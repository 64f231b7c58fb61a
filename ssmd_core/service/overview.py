"""Decides what operators are told of a connector: whether it is ready, and where all stands."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from itertools import chain
from typing import TYPE_CHECKING, Any

from ssmd_core import __version__
from ssmd_core.clock import NS, iso
from ssmd_core.feed.host import FeedHost
from ssmd_core.feed.runner import FeedRunner
from ssmd_core.metrics import Histogram, Metrics
from ssmd_core.pipeline.pipeline import Pipeline
from ssmd_core.service.monitored import Component, Readiness
from ssmd_core.sink import Storage

if TYPE_CHECKING:
    from ssmd_core.service.plan import RunPlan

__all__ = ["RUNNING", "Parts", "readiness", "status"]

RUNNING = "running"


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """What a connector consists of at this moment; what is not open yet is None."""

    plan: RunPlan
    phase: str
    metrics: Metrics
    host: FeedHost | FeedRunner | None
    pipeline: Pipeline | None
    storage: Storage | None


def readiness(parts: Parts) -> Readiness:
    """Say whether the feed is connected and subscribed and every sink takes data."""
    if parts.host is None or parts.pipeline is None:
        return Readiness(ready=False, reasons=(f"starting: {parts.phase}",))
    said = {
        Component.VENUE: tuple(parts.host.reasons()),
        Component.ARCHIVE: tuple(_archive_reasons(parts, parts.pipeline)),
        Component.BUS: tuple(_bus_reasons(parts, parts.pipeline)),
    }
    phase = () if parts.phase == RUNNING else (parts.phase,)
    reasons = (*phase, *chain.from_iterable(said.values()))
    return Readiness(
        ready=not reasons,
        reasons=reasons,
        degraded=(*parts.host.degraded(), *_strains(parts, parts.pipeline)),
        failing=frozenset(component for component, why in said.items() if why),
    )


def status(parts: Parts) -> dict[str, Any]:
    """Return everything as values that JSON can hold; no secret is among them."""
    ready = readiness(parts)
    return {
        "feed": parts.plan.name,
        "environment": parts.plan.environment,
        "version": __version__,
        "phase": parts.phase,
        "ready": ready.ready,
        "reasons": ready.reasons,
        "degraded": ready.degraded,
        "connections": parts.host.status() if parts.host else [],
        "storage": _storage_status(parts),
        "transport": _transport_status(parts),
        "lost": parts.pipeline.lost if parts.pipeline else 0,
        "metrics": _plain(asdict(parts.metrics)),
    }


def _archive_reasons(parts: Parts, pipeline: Pipeline) -> Iterator[str]:
    archiver = pipeline.archiver
    if parts.storage is None or archiver is None:
        return
    why = archiver.failing or _fault(parts.storage)
    if why:
        yield f"archive: {why}; {archiver.held} frames wait in memory"
    hanging = pipeline.durability.hanging() if pipeline.durability is not None else ""
    if hanging:
        yield f"archive: {hanging}: the disk does not answer"


def _bus_reasons(parts: Parts, pipeline: Pipeline) -> Iterator[str]:
    if pipeline.bus is None:
        return
    health = pipeline.bus.health()
    if not health.ok:
        yield f"bus: {health.reason}; {_backlog(parts, pipeline)}"
    if pipeline.catchup is not None and pipeline.catchup.seeking:
        yield f"bus: {pipeline.catchup.seeking}"
    elif health.ok and pipeline.catchup is not None and pipeline.catchup.failing:
        why = pipeline.catchup.failing
        yield f"bus: cannot catch up, reading the archive fails: {why}; {_backlog(parts, pipeline)}"


def _strains(parts: Parts, pipeline: Pipeline) -> Iterator[str]:
    if pipeline.pressure is not None and (why := pipeline.pressure.paused):
        yield f"reading is paused: {why}"
    yield from (f"archive: {why}" for why in _degraded(parts.storage))
    publisher = pipeline.publisher
    if publisher is None or pipeline.bus is None or not pipeline.bus.health().ok:
        return
    if pipeline.catchup is not None and pipeline.catchup.seeking:
        return  # a reason, and how much is to be worked off nobody knows
    if publisher.backlog or publisher.behind_from is not None:
        yield f"bus: {_backlog(parts, pipeline)}, being worked off"


def _backlog(parts: Parts, pipeline: Pipeline) -> str:
    publisher = pipeline.publisher
    if publisher is not None and publisher.behind_from is not None:
        since, seconds = publisher.behind_from, (pipeline.head_ts - publisher.behind_from) / NS
        return f"backlog: {max(0.0, seconds):.1f} s of the archive, since {iso(since)}"
    waiting = publisher.backlog if publisher is not None else 0
    return f"backlog: {waiting + parts.metrics.unacked} messages"


def _storage_status(parts: Parts) -> dict[str, Any] | None:
    if parts.storage is None or parts.plan.storage_type is None:
        return None
    place = parts.pipeline.place() if parts.pipeline is not None else {}
    return {"type": parts.plan.storage_type.name, **place}


def _transport_status(parts: Parts) -> dict[str, Any]:
    schema = parts.plan.schema_type
    publisher = parts.pipeline.publisher if parts.pipeline else None
    behind_from = publisher.behind_from if publisher else None
    return {
        "type": parts.plan.transport_type.name,
        "schema": f"{schema.name}:{schema.version}" if schema else None,
        "connected": parts.pipeline.bus.connected()
        if parts.pipeline and parts.pipeline.bus
        else None,
        "backlog_messages": publisher.backlog if publisher else 0,
        "behind_from": None if behind_from is None else iso(behind_from),
    }


def _fault(storage: Storage) -> str:
    """Say why the storage takes nothing, or empty; what a stranger's raises is an answer, too."""
    try:
        health = storage.health()
    except Exception as error:  # noqa: BLE001  see above
        return f"the storage's `health` raised {error!r}"
    return "" if health.ok else health.reason


def _degraded(storage: Storage | None) -> list[str]:
    """Return what the storage wants operators to know, and what a stranger's raises."""
    try:
        return [] if storage is None else list(storage.degraded())
    except Exception as error:  # noqa: BLE001  see above
        return [f"the storage's `degraded` raised {error!r}"]


def _plain(value: Any) -> Any:
    match value:
        case Histogram():
            count = sum(value.buckets)
            return {"count": count, "mean_seconds": value.total / count if count else None}
        case dict():
            return {str(key): _plain(inner) for key, inner in value.items()}
        case _:
            return value
