"""Makes the sinks of a plan, which reads their secrets and certificates; opens nothing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ssmd_core.metrics import Metrics
from ssmd_core.sink import Encoder, Message, Storage, StorageContext, Transport, TransportContext

if TYPE_CHECKING:
    from ssmd_core.service.plan import RunPlan

__all__ = ["Wiring", "make_storage", "make_transport"]


def _ignore(*_args: Any, **_fields: Any) -> None:
    """Take a call of a sink that is only looked at."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wiring:
    """What sinks are given to call."""

    metrics: Metrics
    warn: Callable[[str], None]
    report: Callable[..., None] = _ignore
    on_room: Callable[[], None] = _ignore
    on_rejected: Callable[[Message, str], None] = _ignore
    on_lost: Callable[[int, int, int, str], None] = _ignore


def make_storage(plan: RunPlan, wiring: Wiring) -> Storage | None:
    """Return the storage of a plan, None where nothing is archived.

    Raises:
        StartError: it cannot be made as configured.
    """
    if plan.storage_type is None:
        return None
    context = StorageContext(
        feed=plan.name,
        environment=plan.environment,
        metrics=wiring.metrics,
        report=wiring.report,
        environ=plan.environ,
        warn=wiring.warn,
        on_lost=wiring.on_lost,
    )
    return plan.storage_type.open(context, plan.storage_config)


def make_transport(plan: RunPlan, encoder: Encoder, wiring: Wiring, *, archived: bool) -> Transport:
    """Return the transport of a plan.

    Raises:
        StartError: it cannot be made as configured.
    """
    context = TransportContext(
        feed=plan.name,
        environment=plan.environment,
        metrics=wiring.metrics,
        report=wiring.report,
        environ=plan.environ,
        warn=wiring.warn,
        kinds=encoder.kinds & plan.feed.kinds,
        archived=archived,
        on_room=wiring.on_room,
        on_rejected=wiring.on_rejected,
    )
    return plan.transport_type.open(context, plan.transport_config)
