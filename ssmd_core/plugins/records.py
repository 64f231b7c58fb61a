"""What a plugin registers: frozen records that say what it is and how to open it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import BaseModel

if TYPE_CHECKING:
    from ssmd_core.feed import Feed, FeedContext, WebSocketFeed
    from ssmd_core.sink import Encoder, Storage, StorageContext, Transport, TransportContext
    from ssmd_core.sink.archive import Archive
    from ssmd_core.sink.bus import BusReader

__all__ = ["Demo", "FeedType", "PluginRecord", "SchemaType", "StorageType", "TransportType"]


@dataclass(frozen=True, kw_only=True)
class PluginRecord:
    """What every plugin says of itself.

    ``name`` is the entry-point name and the type key in the YAML. ``api_version`` is
    the literal number of the contract that the plugin was written for, never one
    imported from the core.
    """

    group: ClassVar[str] = ""

    name: str
    api_version: int
    summary: str = ""
    stability: str = "beta"


@dataclass(frozen=True, kw_only=True)
class Demo:
    """A venue on loopback and how to capture it, for ``ssmd demo``."""

    endpoint: str
    environ: Mapping[str, str] = field(repr=False)
    """Credentials that this venue accepts."""
    settings: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class FeedType(PluginRecord):
    """A venue. ``config`` validates the feed file's ``settings``."""

    group: ClassVar[str] = "ssmd.feeds"

    config: type[BaseModel]
    open: Callable[[FeedContext, Any], WebSocketFeed | Feed]
    """Validates credentials, opens nothing. Raises CredentialError or ConfigError."""
    offline: Callable[[], WebSocketFeed | Feed] | None = None
    """Makes a feed that only parses, with neither settings nor credentials: for ``verify``
    and ``replay``."""
    demo: Callable[[], AbstractAsyncContextManager[Demo]] | None = None
    """Starts a loopback venue that plays a recorded session for as long as it is entered."""


@dataclass(frozen=True, kw_only=True)
class TransportType(PluginRecord):
    """A bus. ``config`` validates the rest of the ``transport`` section."""

    group: ClassVar[str] = "ssmd.transports"

    config: type[BaseModel]
    open: Callable[[TransportContext, Any], Transport]
    browse: Callable[[Any, Mapping[str, str]], AbstractAsyncContextManager[BusReader]] | None = None
    """Takes the validated section and the process environment; opens the bus for reading."""
    publishes: bool = True
    """False for one that takes no messages: it is never opened, and an archive is needed."""


@dataclass(frozen=True, kw_only=True)
class StorageType(PluginRecord):
    """An archive. ``config`` validates the rest of the ``storage`` section."""

    group: ClassVar[str] = "ssmd.storages"

    config: type[BaseModel]
    open: Callable[[StorageContext, Any], Storage]
    archive: Callable[[str, Mapping[str, str]], Archive] | None = None
    """Takes a path or URL and the process environment; opens what lies there for reading.
    The scheme of a URL is the type's name; a path without one is ``local``."""


@dataclass(frozen=True, kw_only=True)
class SchemaType(PluginRecord):
    """A wire schema: ``schema: "NAME:VERSION"`` in the environment file."""

    group: ClassVar[str] = "ssmd.schemas"

    version: str
    open: Callable[[Any], Encoder]
    """Takes the metrics that count what the schema rounds or saturates."""
