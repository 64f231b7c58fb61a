"""Decides what will run: the plugins that the files name, each with its section validated."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

from ssmd_core.config import Loaded, Section
from ssmd_core.config.faults import joined
from ssmd_core.errors import ConfigError, PluginError, SsmdError
from ssmd_core.feed import Feed, FeedContext, WebSocketFeed
from ssmd_core.plugins import FeedType, SchemaType, StorageType, TransportType
from ssmd_core.plugins.index import Kind
from ssmd_core.plugins.registry import Registry

__all__ = ["RunPlan", "resolve"]

_DEFAULT_PATH = "./data"
_PLACES = ("path", "bucket")
"""Keys of a storage section that say where the archive goes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunPlan:
    """What runs: plugins found, sections valid, credentials there. Nothing is open yet."""

    name: str
    """The feed's name: token of subjects, file name of the archive."""
    environment: str
    endpoint: str
    version: str
    """The version of the feed file in effect."""
    feed_type: FeedType
    plugin: str
    """Who provides the feed: ``distribution:type``."""
    feed: WebSocketFeed | Feed
    transport_type: TransportType
    transport_config: Any = field(repr=False)
    storage_type: StorageType | None
    """None: nothing is archived."""
    storage_config: Any = field(repr=False)
    pause_on_archive_failure: bool
    """Reading pauses, rather than frames be dropped, when the archive refuses for long."""
    schema_type: SchemaType | None
    """None: nothing is published."""
    warnings: tuple[str, ...]
    origins: Mapping[str, str]
    """Kind of plugin → distribution, version and module it came from."""
    environ: Mapping[str, str] = field(repr=False)


class _Storage(NamedTuple):
    """The storage that runs, with its section."""

    type: StorageType
    section: Section


def resolve(
    loaded: Loaded, registry: Registry, environ: Mapping[str, str], *, offline: bool = False
) -> RunPlan:
    """Find the plugins, validate their sections and credentials; opens nothing.

    Args:
        loaded: both files.
        registry: what is installed.
        environ: the process environment.
        offline: the venue is not contacted and nothing is archived: the feed only parses,
            without credentials where its plugin can do that, and there is no storage.

    Raises:
        PluginError: a plugin is missing, claimed twice, or broken.
        ConfigError: a section that its plugin does not accept; every fault, one a line.
        CredentialError: a key is missing or unreadable; names the variable.
    """
    warnings = list(loaded.warnings)
    with _placed(loaded.feed_file, "plugin" if loaded.feed.plugin else "name"):
        feed_type = _feed_type(loaded, registry)
    with _placed(loaded.env_file, "transport", "transport_type"):
        transport_type = registry.transport(loaded.env.transport.transport_type)
    with _placed(loaded.env_file, "schema"):
        schema_type = registry.schema(loaded.env.schema_)
    with _placed(loaded.env_file, "storage", "storage_type"):
        storage = None if offline else _storage(loaded, registry, transport_type, warnings.append)

    sections = _Sections(registry, warnings.append)
    settings = sections.validate(loaded.settings, feed_type)
    transport_config = sections.validate(loaded.transport, transport_type)
    storage_config = sections.validate(storage.section, storage.type) if storage else None
    sections.raise_faults()

    context = FeedContext(
        name=loaded.feed.name,
        environment=loaded.env.name,
        endpoint=loaded.version.endpoint,
        version=loaded.version.as_written(),
        environ=environ,
        keys=loaded.env.variables(),
        warn=warnings.append,
    )
    provider = registry.origin(feed_type)
    feed = _feed(feed_type, context, settings, provider.origin, offline=offline)
    _check_kind(loaded, feed)
    records = {
        "feed": feed_type,
        "transport": transport_type,
        "storage": storage.type if storage else None,
        "schema": schema_type,
    }
    return RunPlan(
        name=loaded.feed.name,
        environment=loaded.env.name,
        endpoint=loaded.version.endpoint,
        version=loaded.version.version,
        feed_type=feed_type,
        plugin=f"{provider.distribution}:{feed_type.name}",
        feed=feed,
        transport_type=transport_type,
        transport_config=transport_config,
        storage_type=storage.type if storage else None,
        storage_config=storage_config,
        pause_on_archive_failure=_pauses(loaded),
        schema_type=schema_type if transport_type.publishes else None,
        warnings=tuple(warnings),
        origins={kind: registry.origin(found).origin for kind, found in records.items() if found},
        environ=environ,
    )


def _pauses(loaded: Loaded) -> bool:
    head = loaded.env.storage
    return head is not None and head.on_archive_failure == "pause"


class _Sections:
    """Validates sections and keeps the faults of all of them."""

    def __init__(self, registry: Registry, warn: Callable[[str], None]) -> None:
        self._registry = registry
        self._warn = warn
        self._faults: list[ConfigError] = []

    def validate(self, section: Section, owner: FeedType | TransportType | StorageType) -> Any:
        try:
            return section.validate(owner.config, self._warn)
        except ConfigError as error:
            self._faults.append(error)
        except Exception as error:
            # A model is a stranger's code; what it says may quote a secret.
            origin, kind = self._registry.origin(owner).origin, type(error).__name__
            raise PluginError(f"plugin {origin}: its settings model raised {kind}") from error
        return None

    def raise_faults(self) -> None:
        if self._faults:
            raise joined(self._faults)


@contextlib.contextmanager
def _placed(file: Section, *path: str) -> Iterator[None]:
    """Say of a plugin that cannot be used which line, or variable, asks for it."""
    try:
        yield
    except PluginError as error:
        raise PluginError(str(file.fault(path, str(error)))) from error


def _feed_type(loaded: Loaded, registry: Registry) -> FeedType:
    feed = loaded.feed
    try:
        return registry.feed(feed.name, feed.plugin)
    except PluginError as error:
        if feed.plugin is None and not registry.provided(Kind.FEED, feed.name):
            raise PluginError(
                f"{error}; where the feed's name is not its type, `plugin: TYPE` in "
                f"{loaded.settings.file} picks the plugin"
            ) from error
        raise


def _storage(
    loaded: Loaded,
    registry: Registry,
    transport: TransportType,
    warn: Callable[[str], None],
) -> _Storage | None:
    """Return the storage that runs, None where only the bus is fed.

    A transport that publishes runs without an archive unless the section says where one
    goes. One that does not publish needs an archive, by default in ``./data``.
    """
    head, section = loaded.env.storage, loaded.storage
    if head is None or section is None:
        section = Section(file=loaded.transport.file, path=("storage",))
        if transport.publishes:
            return None
        return _Storage(registry.storage("local"), section.with_default("path", _DEFAULT_PATH))
    spec = head.storage_type
    if transport.publishes and not section.keys():
        # The guide's NATS mode: a type alone. Its plugin need not be installed.
        if not registry.provided(Kind.STORAGE, spec):
            registry.storage(spec)
        return None
    storage = registry.storage(spec)
    if section.has(*_PLACES) or not _needs_place(storage):
        return _Storage(storage, section)
    if transport.publishes:
        warn(f"`storage` has neither {' nor '.join(_PLACES)}: nothing is archived")
        return None
    if storage.name == "local":
        section = section.with_default("path", _DEFAULT_PATH)
    return _Storage(storage, section)


def _needs_place(storage: StorageType) -> bool:
    return not set(_PLACES).isdisjoint(storage.config.model_fields)


def _feed(
    feed_type: FeedType, context: FeedContext, settings: Any, origin: str, *, offline: bool
) -> WebSocketFeed | Feed:
    if offline and feed_type.offline is not None:
        return _made("offline", feed_type.offline, origin)
    feed = _made("open", lambda: feed_type.open(context, settings), origin)
    if isinstance(feed, WebSocketFeed) and not offline:
        _check_connections(feed, origin)
    return feed


def _made(call: str, make: Callable[[], Any], origin: str) -> WebSocketFeed | Feed:
    try:
        feed = make()
    except SsmdError:
        raise
    except Exception as error:
        # Its text is a stranger's and may quote a credential.
        kind = type(error).__name__
        raise PluginError(f"plugin {origin}: opening the feed raised {kind}") from error
    if not isinstance(feed, (WebSocketFeed, Feed)):
        kind = type(feed).__name__
        raise PluginError(f"plugin {origin}: `{call}` returns {kind}, not a WebSocketFeed or Feed")
    return feed


def _check_connections(feed: WebSocketFeed, origin: str) -> None:
    try:
        numbers = [plan.conn for plan in feed.connections()]
    except SsmdError:
        raise
    except Exception as error:
        kind = type(error).__name__
        raise PluginError(f"plugin {origin}: `connections` raised {kind}") from error
    if not numbers:
        raise PluginError(f"plugin {origin}: `connections` returns none, nothing would be captured")
    if len(set(numbers)) < len(numbers):
        raise PluginError(
            f"plugin {origin}: `connections` returns conn {', '.join(map(str, numbers))}; the "
            "archive tells connections apart by conn: number them from 0"
        )


def _check_kind(loaded: Loaded, feed: WebSocketFeed | Feed) -> None:
    kind = loaded.feed.feed_type
    if isinstance(feed, WebSocketFeed) and kind != "websocket":
        root = replace(loaded.settings, path=(), overrides=())
        message = f"is {kind}, but this feed's plugin speaks WebSocket; write websocket"
        raise root.fault(("feed_type",), message)
