"""Decides which bus an archive is compared with, and reads it."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from ssmd_core.audit.comparison import Comparison
from ssmd_core.audit.events import read_event
from ssmd_core.audit.holdings import Holdings
from ssmd_core.audit.scope import Scope
from ssmd_core.config import Section
from ssmd_core.config.environment import load_environment
from ssmd_core.errors import UsageError
from ssmd_core.plugins import TransportType
from ssmd_core.plugins.registry import Registry
from ssmd_core.sink.archive import Archive, Content, Damaged
from ssmd_core.sink.bus import BusReader

__all__ = ["Bus", "find_bus", "name_extras", "read_bus"]

_TYPES = {"tls": "nats"}
"""Schemes of a URL that are not the name of their transport."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bus:
    """A bus that can be read."""

    type: TransportType
    config: Any
    environ: Mapping[str, str]
    environment: str = ""
    """Of the environment file; empty: the archive tells."""
    feed: str = ""
    """Of the environment file; empty: any."""

    def open(self) -> AbstractAsyncContextManager[BusReader]:
        """Open it for reading.

        Raises:
            UsageError: this type cannot be read.
        """
        if self.type.browse is None:
            raise UsageError(f"the transport `{self.type.name}` cannot be read: nothing to compare")
        return self.type.browse(self.config, self.environ)


def find_bus(
    url: str | None, env_path: str | None, registry: Registry, environ: Mapping[str, str]
) -> Bus | None:
    """Return the bus of ``--bus`` and ``--env``, None where neither is given.

    Raises:
        StartError: a fault of the file, the plugin or the URL.
    """
    if env_path is None:
        return None if url is None else _from_url(url, registry, environ)
    loaded = load_environment(env_path, environ)
    type_ = registry.transport(loaded.env.transport.transport_type)
    section = loaded.transport
    if url is not None:
        kept = tuple(item for item in section.overrides if item.tokens[:1] != ("url",))
        section = Section(
            file=section.file,
            path=section.path,
            data={**section.data, "url": url},
            marks=section.marks,
            overrides=kept,
        )
    bus = Bus(
        type=type_,
        config=section.validate(type_.config),
        environ=environ,
        environment=loaded.env.name,
        feed=loaded.env.feed,
    )
    bus.open()
    return bus


def _from_url(url: str, registry: Registry, environ: Mapping[str, str]) -> Bus:
    scheme = urlsplit(url).scheme if "://" in url else ""
    if not scheme:
        raise UsageError("--bus is no URL; write it as nats://HOST:4222")
    type_ = registry.transport(_TYPES.get(scheme, scheme))
    section = Section(file="--bus", data={"url": url})
    return Bus(type=type_, config=section.validate(type_.config), environ=environ)


async def read_bus(bus: Bus, archive: Archive, scope: Scope, registry: Registry) -> Comparison:
    """Read what the bus holds of a feed.

    Raises:
        UsageError: it holds several environments, and nothing says which is meant.
        TransportUnusable: it cannot be read.
    """
    # Before the bus is read: it holds at least what the cursor says.
    cursor = _cursor(archive, scope.feed)
    upto = min(scope.upto, scope.end_ts - 1, cursor or scope.upto)
    connector = (archive.load(scope.feed, "connector") or b"").decode(errors="replace").strip()
    async with bus.open() as reader:
        environment = bus.environment or _last_environment(archive, scope)
        environment = environment or await _only_environment(reader, scope.feed)
        holdings = Holdings(scope.feed, after=scope.from_ts - 1, upto=upto)
        if environment:
            async for messages in reader.messages(environment, scope.feed):
                holdings.take(messages)
    if holdings.begun and cursor is None:
        holdings.upto = min(holdings.upto, holdings.last_ts)
    # No cursor is kept with objects: what waits for its upload is on the bus already.
    lags = cursor is None and scope.after is None
    return Comparison(scope.feed, environment, holdings, registry, connector=connector, lags=lags)


async def name_extras(bus: Bus, comparison: Comparison) -> None:
    """Read the bus once more, to name what the archive does not explain."""
    async with bus.open() as reader:
        async for messages in reader.messages(comparison.environment, comparison.feed):
            comparison.take_extras(messages)


def _cursor(archive: Archive, feed: str) -> int | None:
    kept = (archive.load(feed, "cursor") or b"").strip()
    return int(kept) if kept.isdigit() else None


def _last_environment(archive: Archive, scope: Scope) -> str:
    """Return the environment that the archive was captured for, as its ledger last tells."""
    for day in reversed(scope.days):
        found = ""
        for file in archive.files(scope.feed, day):
            if file.content is not Content.LEDGER:
                continue
            for note in archive.notes(file):
                event = None if isinstance(note, Damaged) else read_event(*note)
                if event is not None:
                    found = event.text("environment") or found
        if found:
            return found
    return ""


async def _only_environment(reader: BusReader, feed: str) -> str:
    found = await reader.environments(feed)
    if len(found) > 1:
        raise UsageError(
            f"the bus holds {feed} of several environments: {', '.join(found)}; say which with "
            "--env, the environment file"
        )
    return found[0] if found else ""
