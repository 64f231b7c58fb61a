"""Decides what a feed file and an environment file may say."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import date
from typing import Annotated, Any, ClassVar, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, ConfigDict, Field, model_validator

from ssmd_core.config.shape import Strict

__all__ = [
    "EnvFile",
    "FeedFile",
    "FeedVersion",
    "Keys",
    "Protocol",
    "StorageHead",
    "TransportHead",
    "endpoint_fault",
    "protocol_fault",
]

_NAME = re.compile(r"[a-z0-9][a-z0-9_-]*")
_SCHEMA = re.compile(r"([A-Za-z0-9._-]+:)?[A-Za-z0-9_-]+:[A-Za-z0-9._-]+")


def _name(text: str) -> str:
    if not _NAME.fullmatch(text):
        raise ValueError(
            f"`{text[:40]}` must begin with a-z or 0-9 and go on with a-z, 0-9, `_` and `-`: "
            "it becomes a path, a subject and a stream name"
        )
    return text


def _schema(text: str) -> str:
    if not _SCHEMA.fullmatch(text):
        raise ValueError(f"`{text[:40]}` must be name:version, such as trade:v1")
    return text


def _version(value: Any) -> Any:
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return str(value) if number else value


def _filled(text: str) -> str:
    if not text.strip():
        raise ValueError("is empty")
    return text


def _some(versions: tuple[FeedVersion, ...]) -> tuple[FeedVersion, ...]:
    if not versions:
        raise ValueError("is empty; give at least one version")
    return versions


Name = Annotated[str, AfterValidator(_name)]
Filled = Annotated[str, AfterValidator(_filled)]
FeedKind = Literal["websocket", "rest", "multicast"]


class Protocol(Strict):
    """How a version of a venue speaks."""

    transport: Literal["websocket", "wss", "https", "multicast", "tcp"]
    message: Literal["json", "itch", "fix", "sbe", "protobuf"]
    version: str | None = None


class FeedVersion(Strict):
    """One version of a venue's interface."""

    open_prefixes: ClassVar[tuple[str, ...]] = ("supports_",)

    version: Annotated[str, BeforeValidator(_version), AfterValidator(_filled)]
    endpoint: Filled
    protocol: Protocol
    effective_from: date | None = None
    effective_to: date | None = None
    auth_method: Literal["api_key", "oauth", "mtls", "none"] | None = None
    rate_limit_per_second: Annotated[int, Field(gt=0)] | None = None
    max_symbols_per_connection: Annotated[int, Field(gt=0)] | None = None
    parser_config: dict[str, Any] | None = None
    supports: dict[str, bool] = Field(default_factory=dict, validation_alias="supports_")

    @model_validator(mode="before")
    @classmethod
    def _gather_supports(cls, data: Any) -> Any:
        if not isinstance(data, Mapping):
            return data
        claims = {key: value for key, value in data.items() if str(key).startswith("supports_")}
        return {key: value for key, value in data.items() if key not in claims} | (
            {"supports_": claims} if claims else {}
        )

    def as_written(self) -> Mapping[str, Any]:
        """Return the keys that are set, as the file spells them."""
        plain: dict[str, Any] = self.model_dump(mode="json", exclude_unset=True)
        claims: dict[str, Any] = plain.pop("supports", {})
        return plain | claims


class FeedFile(Strict):
    """A feed file: which venue, and how to reach it."""

    name: Name
    feed_type: FeedKind
    versions: Annotated[tuple[FeedVersion, ...], AfterValidator(_some)]
    plugin: Filled | None = None
    settings: dict[str, Any] | None = None
    status: Literal["active", "deprecated", "disabled"] = "active"
    display_name: str | None = None
    capture_locations: list[Any] | None = None
    calendar: dict[str, Any] | str | None = None


class TransportHead(Strict):
    """What the host reads of ``transport``; the rest belongs to the plugin."""

    model_config = ConfigDict(extra="allow", frozen=True)

    transport_type: Filled


class StorageHead(Strict):
    """What the host reads of ``storage``; the rest belongs to the plugin."""

    model_config = ConfigDict(extra="allow", frozen=True)

    storage_type: Filled
    on_archive_failure: Literal["publish", "pause"] = "publish"
    """What follows when the archive refuses frames for longer than memory holds: the oldest
    are dropped and the bus goes on, or reading pauses."""


class Keys(Strict):
    """A credential: which variable holds each of its fields."""

    type: str
    fields: tuple[str, ...] = ()
    source: str | None = None
    description: str | None = None
    required: bool | None = None
    rotation_days: int | None = None

    @model_validator(mode="after")
    def _match(self) -> Keys:
        if self.source is not None and len(self.variables()) != len(self.fields):
            raise ValueError(
                f"`source` names {len(self.variables())} variables for {len(self.fields)} `fields`"
            )
        return self

    def variables(self) -> tuple[str, ...]:
        """Return the variables of ``env:A,B``."""
        scheme, _, names = (self.source or "").partition(":")
        found = tuple(name.strip() for name in names.split(","))
        if scheme.strip() != "env" or not all(found):
            raise ValueError("`source` must be env:VARIABLE or env:A,B, one for each of `fields`")
        return found


class EnvFile(Strict):
    """An environment file: what runs, and where the data goes."""

    name: Name
    feed: Name
    schema_: Annotated[str, AfterValidator(_schema), Field(validation_alias="schema")]
    transport: TransportHead
    storage: StorageHead | None = None
    keys: dict[str, Keys] | None = None
    schedule: Any = None
    cache: Any = None

    def variables(self) -> dict[str, str]:
        """Return field of a credential → variable that holds it."""
        found: dict[str, str] = {}
        for keys in (self.keys or {}).values():
            if keys.source is not None:
                found |= dict(zip(keys.fields, keys.variables(), strict=True))
        return found


_TRANSPORTS = {
    "websocket": ("websocket", "wss"),
    "rest": ("https",),
    "multicast": ("multicast", "tcp"),
}
_SCHEMES = {"websocket": ("wss", "ws"), "rest": ("https", "http")}


def protocol_fault(feed_type: str, transport: str) -> str | None:
    """Say why a feed of this type cannot speak this transport, None when it can."""
    allowed = _TRANSPORTS[feed_type]
    if transport in allowed:
        return None
    return f"`{transport}` does not carry a {feed_type} feed; allowed: {', '.join(allowed)}"


def endpoint_fault(feed_type: str, endpoint: str) -> str | None:
    """Say why an endpoint cannot serve a feed of this type, None when it can."""
    schemes = _SCHEMES.get(feed_type)
    if schemes is None:
        return None
    wanted = " or ".join(f"{scheme}://" for scheme in schemes)
    message = f"must be a {wanted} URL with a host"
    if endpoint != endpoint.strip() or any(char.isspace() for char in endpoint):
        return f"{message}, without spaces"
    try:
        url = urlsplit(endpoint)
        usable = url.scheme in schemes and bool(url.hostname)
        _ = url.port
    except ValueError as error:
        return f"{message}: {error}"
    return None if usable else message
