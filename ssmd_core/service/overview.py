"""Decides what operators are told of a connector: whether it is ready, and where all stands."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from ssmd_core import __version__
from ssmd_core.clock import iso
from ssmd_core.feed.host import FeedHost
from ssmd_core.feed.runner import FeedRunner
from ssmd_core.metrics import Histogram, Metrics
from ssmd_core.pipeline.pipeline import Pipeline
from ssmd_core.service.monitored import Readiness
from ssmd_core.sink import Storage, Transport

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
    transport: Transport | None


def readiness(parts: Parts) -> Readiness:
    """Say whether the feed is connected and subscribed and every sink takes data."""
    if parts.host is None or parts.pipeline is None:
        return Readiness(ready=False, reasons=(f"starting: {parts.phase}",))
    reasons = [] if parts.phase == RUNNING else [parts.phase]
    reasons += parts.host.reasons()
    reasons += _archive_reasons(parts, parts.pipeline)
    reasons += _bus_reasons(parts, parts.pipeline)
    degraded = [*parts.host.degraded(), *_strains(parts, parts.pipeline)]
    return Readiness(ready=not reasons, reasons=tuple(reasons), degraded=tuple(degraded))


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
    health = parts.storage.health()
    why = archiver.failing or ("" if health.ok else health.reason)
    if why:
        yield f"archive: {why}; {archiver.held} frames wait in memory"


def _bus_reasons(parts: Parts, pipeline: Pipeline) -> Iterator[str]:
    if parts.transport is None:
        return
    health = parts.transport.health()
    if not health.ok:
        yield f"bus: {health.reason}; {_backlog(parts, pipeline)}"


def _strains(parts: Parts, pipeline: Pipeline) -> Iterator[str]:
    if pipeline.pressure is not None and pipeline.pressure.paused:
        yield "reading is paused: the sinks take less than the venue sends"
    publisher = pipeline.publisher
    if publisher is None or parts.transport is None or not parts.transport.health().ok:
        return
    if publisher.backlog or publisher.behind_from is not None:
        yield f"bus: {_backlog(parts, pipeline)}, being worked off"


def _backlog(parts: Parts, pipeline: Pipeline) -> str:
    publisher = pipeline.publisher
    if publisher is not None and publisher.behind_from is not None:
        return f"backlog: the archive since {iso(publisher.behind_from)}"
    waiting = publisher.backlog if publisher is not None else 0
    return f"backlog: {waiting + parts.metrics.unacked} messages"


def _storage_status(parts: Parts) -> dict[str, Any] | None:
    if parts.storage is None or parts.plan.storage_type is None:
        return None
    mark = parts.storage.mark()
    return {"type": parts.plan.storage_type.name, "file": mark.file, "offset": mark.offset}


def _transport_status(parts: Parts) -> dict[str, Any]:
    schema = parts.plan.schema_type
    publisher = parts.pipeline.publisher if parts.pipeline else None
    behind_from = publisher.behind_from if publisher else None
    return {
        "type": parts.plan.transport_type.name,
        "schema": f"{schema.name}:{schema.version}" if schema else None,
        "connected": parts.transport.connected() if parts.transport else None,
        "backlog_messages": publisher.backlog if publisher else 0,
        "behind_from": None if behind_from is None else iso(behind_from),
    }


def _plain(value: Any) -> Any:
    match value:
        case Histogram():
            count = sum(value.buckets)
            return {"count": count, "mean_seconds": value.total / count if count else None}
        case dict():
            return {str(key): _plain(inner) for key, inner in value.items()}
        case _:
            return value
