"""Opens the venue and the sinks once, for ``ssmd check --connect``, and closes them again."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ssmd_core.errors import ConnectionEnded, CredentialsRefused, StartError
from ssmd_core.feed import Verdict, WebSocketFeed
from ssmd_core.feed.dialing import dial
from ssmd_core.metrics import Metrics
from ssmd_core.service.sinks import Wiring, make_storage, make_transport
from ssmd_core.sink import Transport

if TYPE_CHECKING:
    from ssmd_core.service.plan import RunPlan

__all__ = ["Finding", "probe", "rehearse"]


class Finding(list[str]):
    """What was opened, one sentence each."""


def rehearse(plan: RunPlan) -> None:
    """Make the sinks, which reads their secrets and certificates; open nothing.

    Raises:
        StartError: a sink cannot be made as configured.
    """
    wiring = _wiring(Finding())
    make_storage(plan, wiring)
    _make_transport(plan, wiring)


async def probe(plan: RunPlan) -> Finding:
    """Open archive, bus and venue in turn; return what was found.

    Raises:
        StartError: one of them cannot be used.
        CredentialsRefused: the venue said 401 or 403.
    """
    found = Finding()
    await _probe_storage(plan, found)
    await _probe_transport(plan, found)
    await _probe_venue(plan, found)
    return found


def _wiring(found: Finding) -> Wiring:
    return Wiring(metrics=Metrics(), warn=found.append)


async def _probe_storage(plan: RunPlan, found: Finding) -> None:
    storage = make_storage(plan, _wiring(found))
    if storage is None:
        return
    try:
        await storage.open()
        found.append(f"archive: opened, the next frame goes to {storage.mark().file}")
    finally:
        await storage.aclose()


async def _probe_transport(plan: RunPlan, found: Finding) -> None:
    transport = _make_transport(plan, _wiring(found))
    if transport is None:
        return
    try:
        await transport.open()
        health = transport.health()
        if not health.ok:
            raise StartError(f"the bus cannot be used now: {health.reason}")
        found.append(f"bus: {plan.transport_type.name} looked at, it takes what is published")
    finally:
        await transport.aclose()


def _make_transport(plan: RunPlan, wiring: Wiring) -> Transport | None:
    if plan.schema_type is None:
        return None
    encoder = plan.schema_type.open(wiring.metrics)
    # Not as one with an archive: a bus that would not take the records is a fault to a check.
    return make_transport(plan, encoder, wiring, archived=False)


async def _probe_venue(plan: RunPlan, found: Finding) -> None:
    feed = plan.feed
    if not isinstance(feed, WebSocketFeed):
        found.append("venue: this feed does its own I/O, not tried")
        return
    try:
        connection = await dial(
            feed.endpoint(feed.connections()[0]), _Deaf(), on_reached=lambda: None
        )
    except ConnectionEnded as why:
        if feed.classify(why) is Verdict.FATAL:
            raise CredentialsRefused(f"the venue refused the credentials: {why.detail}") from why
        raise StartError(f"the venue cannot be reached: {why}") from why
    await connection.close(1.0)
    found.append("venue: connected, credentials accepted")


class _Deaf:
    """Listens to nothing."""

    def on_bytes(self, count: int) -> None:
        """Ignore."""

    def on_frames(self, frames: list[bytes], binary: frozenset[int]) -> None:
        """Ignore."""

    def on_pong(self) -> None:
        """Ignore."""
