"""Decides what is installed and who claims which type, from metadata alone: imports nothing."""

from __future__ import annotations

import enum
import importlib.metadata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

import ssmd_core

__all__ = ["GROUPS", "Entry", "Kind", "PluginIndex", "Status"]

_CORE = "ssmd-core"


class Kind(enum.Enum):
    """What a plugin provides."""

    FEED = "feed"
    TRANSPORT = "transport"
    STORAGE = "storage"
    SCHEMA = "schema"
    OBSERVER = "observer"

    @property
    def group(self) -> str:
        """The entry-point group."""
        return f"ssmd.{self.value}s"


GROUPS = {kind.group: kind for kind in Kind}


class Status(enum.Enum):
    """How an entry stands. OK and BROKEN are known only once it was loaded."""

    INSTALLED = "installed"
    CONFLICT = "conflict"
    INCOMPATIBLE = "incompatible"
    OK = "ok"
    BROKEN = "broken"


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One entry point: a distribution's claim to provide a type."""

    kind: Kind
    type: str
    distribution: str
    version: str
    module: str
    """``package.module`` or ``package.module:object``."""
    incompatibility: str | None = None
    """Which core the distribution requires, where ours will not do."""
    status: Status = Status.INSTALLED
    error: str | None = None

    @property
    def origin(self) -> str:
        """Distribution, version and module, for messages."""
        return f"{self.distribution} {self.version} ({self.module})"


class PluginIndex:
    """Every entry point of the ssmd groups."""

    def __init__(self, entries: Iterable[Entry]) -> None:
        self.entries: Sequence[Entry] = _with_conflicts(sorted(entries, key=_order))

    @classmethod
    def installed(cls, path: Sequence[str] | None = None) -> PluginIndex:
        """Read the metadata on ``path``, by default ``sys.path``."""
        found = (
            importlib.metadata.distributions()
            if path is None
            else importlib.metadata.distributions(path=list(path))
        )
        entries: list[Entry] = []
        seen: set[str] = set()
        for distribution in found:
            name = _name_of(distribution)
            # The first on the path is the one that would be imported.
            if name is None or canonicalize_name(name) in seen:
                continue
            seen.add(canonicalize_name(name))
            entries += _entries_of(distribution, name)
        return cls(entries)

    def of(self, kind: Kind, type_: str | None = None) -> list[Entry]:
        """Return the entries of a kind, of one type where given."""
        return [
            entry
            for entry in self.entries
            if entry.kind is kind and (type_ is None or entry.type == type_)
        ]

    def named(self, name: str) -> list[Entry]:
        """Return the entries of a type or a distribution of this name, whatever their kind."""
        canonical = canonicalize_name(name)
        return [
            entry
            for entry in self.entries
            if name == entry.type or canonical == canonicalize_name(entry.distribution)
        ]


def _name_of(distribution: importlib.metadata.Distribution) -> str | None:
    """Return the name; None for a directory that only looks like a distribution."""
    try:
        name = distribution.metadata["Name"]
    except Exception:  # noqa: BLE001  a stranger's damaged metadata hurts nobody
        return None
    return str(name) if name else None


def _entries_of(distribution: importlib.metadata.Distribution, name: str) -> list[Entry]:
    try:
        points = [point for point in distribution.entry_points if point.group in GROUPS]
        if not points:
            return []
        version, error = str(distribution.version), _incompatibility(distribution)
    except Exception:  # noqa: BLE001  a stranger's damaged metadata hurts nobody
        return []
    status = Status.INCOMPATIBLE if error else Status.INSTALLED
    return [
        Entry(
            kind=GROUPS[point.group],
            type=point.name,
            distribution=name,
            version=version,
            module=point.value,
            incompatibility=error,
            status=status,
            error=error,
        )
        for point in points
    ]


def _incompatibility(distribution: importlib.metadata.Distribution) -> str | None:
    """Say which core a distribution requires, None when ours will do."""
    ours = ssmd_core.__version__
    for text in distribution.requires or ():
        try:
            requirement = Requirement(text)
        except InvalidRequirement:
            continue
        if canonicalize_name(requirement.name) != _CORE:
            continue
        if requirement.marker and not requirement.marker.evaluate({"extra": ""}):
            continue
        if not requirement.specifier.contains(ours, prereleases=True):
            return f"requires {_CORE}{requirement.specifier}, installed is {_CORE} {ours}"
    return None


def _with_conflicts(entries: Sequence[Entry]) -> list[Entry]:
    """Mark the entries whose type somebody else claims too; observers do not compete."""
    out = []
    for entry in entries:
        rivals = [
            other.origin
            for other in entries
            if other is not entry
            and (other.kind, other.type) == (entry.kind, entry.type)
            and entry.kind is not Kind.OBSERVER
        ]
        if not rivals:
            out.append(entry)
            continue
        reasons = [f"also provided by {', '.join(rivals)}", entry.incompatibility or ""]
        message = "; ".join(filter(None, reasons))
        out.append(replace(entry, status=Status.CONFLICT, error=message))
    return out


def _order(entry: Entry) -> tuple[int, str, str]:
    return list(Kind).index(entry.kind), entry.type, canonicalize_name(entry.distribution)
