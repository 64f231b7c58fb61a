"""Decides what the two files together ask for, before any plugin is looked at."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel

from ssmd_core.clock import NS, Clock, SystemClock
from ssmd_core.config.document import Document, Mark, read_document
from ssmd_core.config.faults import KeyPath, dotted, joined
from ssmd_core.config.models import (
    EnvFile,
    FeedFile,
    FeedVersion,
    StorageHead,
    TransportHead,
    endpoint_fault,
    protocol_fault,
)
from ssmd_core.config.overrides import Override, leaves, read_overrides
from ssmd_core.config.section import Section
from ssmd_core.errors import ConfigError

__all__ = ["Loaded", "load_files", "version_in_effect"]

_FEED_SPELLINGS: Mapping[KeyPath, Mapping[str, str]] = {(): {"type": "feed_type"}}
_ENV_SPELLINGS: Mapping[KeyPath, Mapping[str, str]] = {
    ("transport",): {"type": "transport_type"},
    ("storage",): {"type": "storage_type"},
}
_HEADS: Mapping[str, tuple[str, ...]] = {
    "settings": (),
    "transport": tuple(TransportHead.model_fields),
    "storage": tuple(StorageHead.model_fields),
}
"""Keys of each section that are the host's own; the rest is its plugin's."""
_SINGLES = ("name", "feed", "schema", "transport", "storage", "keys")
"""Keys of the environment file that ``SSMD_KEY``, without ``__``, overrides whole."""

Model = TypeVar("Model", bound=BaseModel)


@dataclass(frozen=True, slots=True, kw_only=True)
class Loaded:
    """Both files, valid as far as the host can tell. Sections await their plugin's model."""

    feed: FeedFile
    version: FeedVersion
    """The version in effect."""
    env: EnvFile
    settings: Section
    """The feed plugin's own section."""
    transport: Section
    """Without what is the host's, such as ``transport_type``."""
    storage: Section | None
    """Without what is the host's; None where the file has no ``storage``."""
    feed_file: Section
    env_file: Section
    """The files as a whole, to say where in them something stands."""
    warnings: tuple[str, ...]


def load_files(
    feed_path: Path | str,
    env_path: Path | str,
    environ: Mapping[str, str],
    *,
    clock: Clock | None = None,
) -> Loaded:
    """Read a feed file and an environment file, with the variables of ``environ`` over them.

    Raises:
        ConfigError: every fault of both files, one a line; carries the place of the first.
    """
    warnings: list[str] = []
    faults: list[ConfigError] = []
    feed_overrides, env_overrides = _split(read_overrides(environ, _SINGLES))
    feed_root = _root(feed_path, _FEED_SPELLINGS, feed_overrides, faults)
    env_root = _root(env_path, _ENV_SPELLINGS, env_overrides, faults)
    feed = _head(feed_root, FeedFile, ("settings",), warnings, faults)
    env = _head(env_root, EnvFile, ("transport", "storage"), warnings, faults)
    today = _today(clock or SystemClock())
    version = _feed_version(feed_root, feed, today, faults)
    if feed and env and env_root and feed.name != env.feed:
        message = f"is `{env.feed}`, but the feed file's name is `{feed.name}`; they must be equal"
        faults.append(env_root.fault(("feed",), message))
    if faults:
        raise joined(faults)
    if not (feed and env and feed_root and env_root and version):  # pragma: no cover
        raise ConfigError("cannot be read", file=feed_path)
    warnings += _idle_keys(env)
    return Loaded(
        feed=feed,
        version=version,
        env=env,
        settings=_part(feed_root, "settings"),
        transport=_part(env_root, "transport"),
        storage=None if env.storage is None else _part(env_root, "storage"),
        feed_file=feed_root,
        env_file=env_root,
        warnings=tuple(warnings),
    )


def version_in_effect(versions: Sequence[FeedVersion], today: date) -> int | None:
    """Return the position of the version in effect, None where none is.

    Both dates are inclusive. Of several the one that began last wins, then the one
    that is listed last; a version without dates is always in effect.
    """
    in_effect = [
        (version.effective_from or date.min, position)
        for position, version in enumerate(versions)
        if (version.effective_from or date.min) <= today <= (version.effective_to or date.max)
    ]
    return max(in_effect)[1] if in_effect else None


def _split(
    overrides: Sequence[Override],
) -> tuple[tuple[Override, ...], tuple[Override, ...]]:
    """Return those of the feed file, ``SSMD_FEED__…``, and those of the environment file."""
    feed = [item for item in overrides if item.tokens[0] == "feed" and len(item.tokens) > 1]
    env = [item for item in overrides if item not in feed]
    return tuple(item.within(1) for item in feed), tuple(env)


def _root(
    path: Path | str,
    spellings: Mapping[KeyPath, Mapping[str, str]],
    overrides: tuple[Override, ...],
    faults: list[ConfigError],
) -> Section | None:
    try:
        document = read_document(path)
    except ConfigError as error:
        faults.append(error)
        return None
    data, marks = _respelled(document, spellings, faults)
    split = [leaf for item in overrides for leaf in (leaves(item) if _is_top(item) else [item])]
    spelled = tuple(_respelled_override(item, spellings) for item in split)
    return Section(file=document.file, data=data, marks=marks, overrides=spelled)


def _is_top(override: Override) -> bool:
    return len(override.tokens) == 1


def _respelled(
    document: Document,
    spellings: Mapping[KeyPath, Mapping[str, str]],
    faults: list[ConfigError],
) -> tuple[dict[str, Any], dict[KeyPath, Mark]]:
    """Give keys of two spellings their one name; their marks keep the spelling used."""
    data, marks = dict(document.data), dict(document.marks)
    for where, names in spellings.items():
        holder = data
        if where:
            inner = data.get(str(where[0]))
            if not isinstance(inner, dict):
                continue
            holder = data[str(where[0])] = dict(inner)
        for other, name in names.items():
            if other not in holder:
                continue
            mark, first = marks[(*where, other)], marks.get((*where, name))
            if first is not None:
                message = f"is the same key as `{name}` on line {first.line}; give one of them"
                key = dotted((*where, other))
                faults.append(ConfigError(message, file=document.file, line=mark.line, key=key))
                del holder[other]
                continue
            holder[name] = holder.pop(other)
            marks[(*where, name)] = mark
    return data, marks


def _respelled_override(
    override: Override, spellings: Mapping[KeyPath, Mapping[str, str]]
) -> Override:
    *where, last = override.tokens
    name = spellings.get(tuple(where), {}).get(last.lower(), last)
    return replace(override, tokens=(*where, name))


def _head(
    root: Section | None,
    model: type[Model],
    parts: tuple[str, ...],
    warnings: list[str],
    faults: list[ConfigError],
) -> Model | None:
    """Validate what the host owns; what a plugin owns waits for the plugin's model."""
    if root is None:
        return None
    try:
        return _own(root, parts).validate(model, warnings.append)
    except ConfigError as error:
        faults.append(error)
        return None


def _own(root: Section, parts: tuple[str, ...]) -> Section:
    """Return the file with only those overrides that the host can place."""
    kept = [item for item in root.overrides if not _belongs_to_plugin(item, parts)]
    given = {item.tokens[0] for item in root.overrides if len(item.tokens) > 1}
    data = dict(root.data)
    if "storage" in given and data.get("storage") is None:
        # A path given by a variable alone asks for the archive that needs no more than it.
        data["storage"] = {"storage_type": "local"}
    return replace(root, data=data, overrides=tuple(kept))


def _belongs_to_plugin(override: Override, parts: tuple[str, ...]) -> bool:
    head, *rest = override.tokens
    return head in parts and bool(rest) and rest[0] not in _HEADS[head]


def _part(root: Section, key: str) -> Section:
    """Return a plugin's section of the file, without the keys that are the host's."""
    inner = root.data.get(key)
    data = {name: value for name, value in (inner or {}).items() if name not in _HEADS[key]}
    overrides = [item.within(1) for item in root.overrides if _belongs_to_plugin(item, (key,))]
    return replace(root, path=(key,), data=data, overrides=tuple(overrides))


def _feed_version(
    root: Section | None, feed: FeedFile | None, today: date, faults: list[ConfigError]
) -> FeedVersion | None:
    """Return the version in effect, and check every version against the feed's type."""
    if root is None or feed is None:
        return None
    if feed.status == "disabled":
        message = "is disabled: this feed must not run; set `active` to run it"
        faults.append(root.fault(("status",), message))
    for position, version in enumerate(feed.versions):
        path: KeyPath = ("versions", position)
        if reason := protocol_fault(feed.feed_type, version.protocol.transport):
            faults.append(root.fault((*path, "protocol", "transport"), reason))
        if reason := endpoint_fault(feed.feed_type, version.endpoint):
            faults.append(root.fault((*path, "endpoint"), reason))
    found = version_in_effect(feed.versions, today)
    if found is None:
        spans = ", ".join(_span(version) for version in feed.versions)
        message = f"none is in effect on {today}; the file has {spans}"
        faults.append(root.fault(("versions",), message))
    return None if found is None else feed.versions[found]


def _span(version: FeedVersion) -> str:
    start = version.effective_from or "ever"
    return f"{version.version} from {start} to {version.effective_to or 'ever'}"


def _idle_keys(env: EnvFile) -> list[str]:
    given = {"schedule": env.schedule, "cache": env.cache}
    return [
        f"`{key}` of the environment file has no effect"
        for key, value in given.items()
        if value is not None
    ]


def _today(clock: Clock) -> date:
    return datetime.fromtimestamp(clock.wall_ns() // NS, UTC).date()
