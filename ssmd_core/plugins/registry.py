"""Decides which plugin a type means, and loads that one only."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TypeVar

from packaging.utils import canonicalize_name

from ssmd_core.errors import PluginError
from ssmd_core.plugins.index import Entry, Kind, PluginIndex, Status
from ssmd_core.plugins.loading import check_api_version, host_plugin, load_records
from ssmd_core.plugins.observers import Observers
from ssmd_core.plugins.records import (
    FeedType,
    PluginRecord,
    SchemaType,
    StorageType,
    TransportType,
)

__all__ = ["Registry"]

_PROVIDERS: Mapping[tuple[Kind, str], str] = {
    (Kind.FEED, "kalshi"): "ssmd-kalshi",
    (Kind.TRANSPORT, "nats"): "ssmd-sink-nats",
    (Kind.STORAGE, "local"): "ssmd-sink-file",
}
"""Distributions known to provide a type: what the message proposes to install."""

RecordT = TypeVar("RecordT", bound=PluginRecord)


class Registry:
    """Finds plugins in an index by the type key of the YAML, or by ``distribution:type``."""

    def __init__(self, index: PluginIndex) -> None:
        self._index = index
        self._origins: dict[int, tuple[PluginRecord, Entry]] = {}

    def feed(self, type_: str, plugin: str | None = None) -> FeedType:
        """Return the feed of a type; ``plugin`` is the feed file's key and wins.

        Raises:
            PluginError: nobody provides it, two do, or it is broken.
        """
        return self._record(Kind.FEED, plugin or type_, FeedType)

    def transport(self, type_: str) -> TransportType:
        """Return the transport of a type. Raises as ``feed``."""
        return self._record(Kind.TRANSPORT, type_, TransportType)

    def storage(self, type_: str) -> StorageType:
        """Return the storage of a type. Raises as ``feed``."""
        return self._record(Kind.STORAGE, type_, StorageType)

    def schema(self, label: str) -> SchemaType:
        """Return the schema ``name:version``, or ``distribution:name:version``.

        Raises:
            PluginError: no such name or version (lists the known ones), or it is broken.
        """
        spec, _, version = label.rpartition(":")
        name = spec.rpartition(":")[2]
        if not self._index.of(Kind.SCHEMA, name):
            raise PluginError(f"unknown schema `{label}`; known: {self._known_schemas()}")
        entry = self._chosen(Kind.SCHEMA, spec)
        for record in load_records(entry):
            if isinstance(record, SchemaType) and (record.name, record.version) == (name, version):
                return self._accepted(entry, record)
        raise PluginError(f"unknown schema `{label}`; known: {self._known_schemas()}")

    def provided(self, kind: Kind, spec: str) -> bool:
        """Say whether anybody provides a type, or is known to, without loading anything."""
        return bool(self._claimants(kind, spec)) or (kind, spec) in _PROVIDERS

    def origin(self, record: PluginRecord) -> Entry:
        """Return the entry that a record returned by this registry came from."""
        return self._origins[id(record)][1]

    def entries(self, *, check: bool = False) -> list[Entry]:
        """Return everything installed; with ``check`` each is loaded, in isolation."""
        entries = list(self._index.entries)
        if not check:
            return entries
        return [_checked(entry, self._index.of(entry.kind)) for entry in entries]

    def observers(self, warn: Callable[[str], None]) -> Observers:
        """Load every observer; a broken one is a warning."""
        hosted = []
        for entry in self._index.of(Kind.OBSERVER):
            try:
                hosted.append((entry.origin, host_plugin(entry)))
            except PluginError as error:
                warn(f"observer ignored: {error}")
        return Observers(hosted, warn)

    def _record(self, kind: Kind, spec: str, record_type: type[RecordT]) -> RecordT:
        entry = self._chosen(kind, spec)
        for record in load_records(entry):
            if record.name == entry.type and isinstance(record, record_type):
                return self._accepted(entry, record)
        raise PluginError(
            f"plugin {entry.origin} yields no {entry.type}"
        )  # pragma: no cover  load_records saw to it

    def _accepted(self, entry: Entry, record: RecordT) -> RecordT:
        check_api_version(entry, record)
        # The record is kept with its entry: an id alone could be reused.
        self._origins[id(record)] = (record, entry)
        return record

    def _chosen(self, kind: Kind, spec: str) -> Entry:
        match self._claimants(kind, spec):
            case []:
                raise PluginError(self._unknown(kind, spec))
            case [entry]:
                return entry
            case several:
                names = " and ".join(f"{entry.distribution} {entry.version}" for entry in several)
                first = several[0]
                raise PluginError(
                    f"the {kind.value} type `{spec}` is provided by {names}; write "
                    f"`{first.distribution}:{first.type}` to pick one, or uninstall the other"
                )

    def _claimants(self, kind: Kind, spec: str) -> list[Entry]:
        distribution, colon, type_ = spec.rpartition(":")
        claimants = self._index.of(kind, type_)
        if not colon:
            return claimants
        wanted = canonicalize_name(distribution)
        return [entry for entry in claimants if canonicalize_name(entry.distribution) == wanted]

    def _unknown(self, kind: Kind, spec: str) -> str:
        entries = self._index.of(kind)
        types = list(dict.fromkeys(entry.type for entry in entries))
        wanted = spec.rpartition(":")[2]
        close = difflib.get_close_matches(wanted.lower(), types, n=1)
        parts = [f"nobody provides the {kind.value} type `{spec}`"]
        if close and close[0] != wanted:
            parts.append(f"did you mean `{close[0]}`?")
        shown = ", ".join(f"{entry.type} ({entry.distribution})" for entry in entries)
        parts.append(f"installed: {shown or 'none'}")
        parts.append(self._install_hint(kind, spec))
        return "; ".join(parts)

    def _install_hint(self, kind: Kind, spec: str) -> str:
        distribution, _, wanted = spec.rpartition(":")
        known = _PROVIDERS.get((kind, wanted))
        provider = distribution or known or f"ssmd-{wanted}"
        if any(entry.distribution == provider for entry in self._index.entries):
            return f"`pip install --upgrade {provider}` may bring it"
        fate = "provides it" if provider == known else "installs it where it has the usual name"
        return f"`pip install {provider}` {fate}"

    def _known_schemas(self) -> str:
        known: list[str] = []
        for entry in self._index.of(Kind.SCHEMA):
            try:
                records: Sequence[PluginRecord] = load_records(entry)
            except PluginError:
                continue
            known += [
                f"{record.name}:{record.version}"
                for record in records
                if isinstance(record, SchemaType)
            ]
        return ", ".join(dict.fromkeys(known)) or "none"


def _checked(entry: Entry, siblings: Iterable[Entry]) -> Entry:
    """Load one entry to see whether it is sound."""
    if entry.status is not Status.INSTALLED:
        return entry
    reached = {sibling.type for sibling in siblings if sibling.distribution == entry.distribution}
    try:
        _check(entry, reached)
    except PluginError as error:
        return replace(entry, status=Status.BROKEN, error=str(error))
    return replace(entry, status=Status.OK)


def _check(entry: Entry, reached: set[str]) -> None:
    if entry.kind is Kind.OBSERVER:
        host_plugin(entry)
        return
    for record in load_records(entry):
        if record.name == entry.type:
            check_api_version(entry, record)
        elif record.name not in reached:
            raise PluginError(f"plugin {entry.origin}: no entry point names `{record.name}`")
