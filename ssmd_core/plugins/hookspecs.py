"""The hooks of ssmd. A plugin module implements those of the groups it is named in."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import pluggy

from ssmd_core.plugins.records import FeedType, SchemaType, StorageType, TransportType

if TYPE_CHECKING:
    from ssmd_core.errors import SsmdError

__all__ = ["hookimpl", "hookspec"]

hookspec = pluggy.HookspecMarker("ssmd")
hookimpl = pluggy.HookimplMarker("ssmd")


@hookspec
def ssmd_feeds() -> Iterable[FeedType]:
    """Yield the feeds of this distribution (group ``ssmd.feeds``)."""
    raise NotImplementedError


@hookspec
def ssmd_transports() -> Iterable[TransportType]:
    """Yield the transports of this distribution (group ``ssmd.transports``)."""
    raise NotImplementedError


@hookspec
def ssmd_storages() -> Iterable[StorageType]:
    """Yield the storages of this distribution (group ``ssmd.storages``)."""
    raise NotImplementedError


@hookspec
def ssmd_schemas() -> Iterable[SchemaType]:
    """Yield the wire schemas of this distribution (group ``ssmd.schemas``)."""
    raise NotImplementedError


@hookspec
def ssmd_run_started(feed: str, environment: str) -> None:
    """Observe that a connector runs (group ``ssmd.observers``)."""


@hookspec
def ssmd_gap_detected(feed: str, channel: str, first: int | None, last: int | None) -> None:
    """Observe missing sequence numbers ``first``..``last``; None where nobody can know them."""


@hookspec
def ssmd_component_failed(feed: str, component: str, reason: str) -> None:
    """Observe that a sink or a connection does not work."""


@hookspec
def ssmd_run_stopped(feed: str, environment: str, error: SsmdError | None) -> None:
    """Observe that a connector stopped; ``error`` is None after a clean stop."""
