"""Decides how the process itself runs: health address, log level, time to stop."""

from __future__ import annotations

import importlib.util
import ipaddress
import math
import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import (
    AfterValidator,
    AliasChoices,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
)

from ssmd_core.errors import ConfigError

__all__ = ["HealthAddress", "ProcessSettings", "parse_health_address", "parse_log_levels"]

_ANY_HOST = "0.0.0.0"  # noqa: S104  a probe comes from outside the container
_MAX_PORT = 65_535
_MAX_SHUTDOWN_SECONDS = 3600
_MAX_READ_EVERY_MS = 100
_HOST = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9._-]*[A-Za-z0-9_.])?")
_DEFAULT_LEVEL = "info"
_VARIABLES = (
    "RUST_LOG",
    "SSMD_EVENT_LOOP",
    "SSMD_HEALTH_ADDR",
    "SSMD_LOG",
    "SSMD_LOG_FORMAT",
    "SSMD_READ_EVERY_MS",
    "SSMD_SHUTDOWN_SECONDS",
)
_LEVELS = ("error", "warn", "warning", "info", "debug", "trace", "off")


class HealthAddress(NamedTuple):
    """Where the health server listens; port 0 lets the system choose."""

    host: str
    port: int

    def __str__(self) -> str:
        """Return ``host:port``, with brackets around an IPv6 host."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def parse_health_address(text: str) -> HealthAddress:
    """Read ``HOST:PORT``, ``:PORT`` (every interface) or ``[IPV6]:PORT``.

    Raises:
        ValueError: anything else; says what is allowed.
    """
    host, colon, port = text.strip().rpartition(":")
    allowed = "allowed: HOST:PORT, :PORT or [IPV6]:PORT, such as 0.0.0.0:8080"
    if not colon or not re.fullmatch(r"[0-9]{1,5}", port) or int(port) > _MAX_PORT:
        raise ValueError(f"the port must be a number from 0 to {_MAX_PORT}; {allowed}")
    if host.startswith("[") and host.endswith("]"):
        try:
            host = str(ipaddress.IPv6Address(host[1:-1]))
        except ValueError:
            raise ValueError(f"no IPv6 address stands in the brackets; {allowed}") from None
    elif ":" in host:
        raise ValueError(f"an IPv6 address stands in brackets; {allowed}")
    elif host and not _HOST.fullmatch(host):
        raise ValueError(f"the host is not a name or an address; {allowed}")
    return HealthAddress(host or _ANY_HOST, int(port))


def parse_log_levels(text: str) -> str:
    """Check a level, or a list such as ``info,ssmd=debug``, and return it.

    Raises:
        ValueError: a word that is no level; says what is allowed.
    """
    # env_logger, which RUST_LOG is made for, takes a filter of lines after a slash.
    directives = [part.strip() for part in text.partition("/")[0].split(",") if part.strip()]
    for directive in directives:
        word = directive.rpartition("=")[2].strip()
        if word.lower() not in _LEVELS:
            raise ValueError(
                f"`{word[:40]}` is no level; allowed: {', '.join(_LEVELS)}, "
                "or a list of target=level"
            )
    return ",".join(directives) or _DEFAULT_LEVEL


def _canonical_address(text: str) -> str:
    return str(parse_health_address(text))


def _shutdown_seconds(value: Any) -> float:
    return _span(value, "seconds", _MAX_SHUTDOWN_SECONDS)


def _read_every_ms(value: Any) -> float:
    return _span(value, "milliseconds", _MAX_READ_EVERY_MS)


def _span(value: Any, unit: str, most: int) -> float:
    try:
        span = float(value)
    except (TypeError, ValueError):
        span = math.nan
    if not 0 <= span <= most:
        raise ValueError(f"must be a number of {unit} from 0 to {most}")
    return span


def _log_format(value: Any) -> Any:
    word = str(value).strip().lower()
    if word not in {"console", "json"}:
        raise ValueError(f"`{word[:40]}` is not known; allowed: console, json")
    return word


def _event_loop(value: Any) -> Any:
    word = str(value).strip().lower()
    if word not in {"asyncio", "uvloop"}:
        raise ValueError(f"`{word[:40]}` is not known; allowed: asyncio, uvloop")
    if word == "uvloop" and importlib.util.find_spec("uvloop") is None:
        raise ValueError("uvloop is not installed; `pip install ssmd-core[fast]` brings it")
    return word


class ProcessSettings(BaseModel):
    """What the environment says of the process. Made by ``read``."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    health_addr: Annotated[
        str, AfterValidator(_canonical_address), Field(validation_alias="SSMD_HEALTH_ADDR")
    ] = f"{_ANY_HOST}:8080"
    log: Annotated[
        str,
        AfterValidator(parse_log_levels),
        Field(validation_alias=AliasChoices("SSMD_LOG", "RUST_LOG")),
    ] = _DEFAULT_LEVEL
    """A level or a list of ``target=level``, as the operator wrote it."""
    log_format: Annotated[
        Literal["console", "json"] | None,
        BeforeValidator(_log_format),
        Field(validation_alias="SSMD_LOG_FORMAT"),
    ] = None
    """None: console on a terminal, JSON otherwise."""
    event_loop: Annotated[
        Literal["asyncio", "uvloop"] | None,
        BeforeValidator(_event_loop),
        Field(validation_alias="SSMD_EVENT_LOOP"),
    ] = None
    """None: uvloop where it is installed, asyncio otherwise."""
    read_every_ms: Annotated[
        float, BeforeValidator(_read_every_ms), Field(validation_alias="SSMD_READ_EVERY_MS")
    ] = 0.0
    """A venue's socket is read no oftener, so that more comes at once; 0: as it comes."""
    shutdown_seconds: Annotated[
        float, BeforeValidator(_shutdown_seconds), Field(validation_alias="SSMD_SHUTDOWN_SECONDS")
    ] = 20.0

    @property
    def health_host(self) -> str:
        """Where the health server listens."""
        return parse_health_address(self.health_addr).host

    @property
    def health_port(self) -> int:
        """The port of the health server; 0 lets the system choose."""
        return parse_health_address(self.health_addr).port

    @classmethod
    def read(cls, environ: Mapping[str, str], *, health_addr: str | None = None) -> ProcessSettings:
        """Read the variables of ``environ``; ``health_addr`` is the command line's and wins.

        Raises:
            ConfigError: every bad value, one a line, with its variable and what is allowed.
        """
        values = _given(environ)
        if health_addr is not None:
            values["SSMD_HEALTH_ADDR"] = health_addr
        try:
            return cls(**values)
        except ValidationError as error:
            details = error.errors(include_url=False)
        first, *others = (
            (_variable(str(detail["loc"][0]), environ, health_addr), detail["ctx"]["error"])
            for detail in details
        )
        lines = [str(first[1]), *(f"{name}: {reason}" for name, reason in others)]
        raise ConfigError("\n".join(lines), key=first[0])


def _given(environ: Mapping[str, str]) -> dict[str, Any]:
    if not any(environ.get(name) for name in _VARIABLES):
        return {}
    from ssmd_core.config.variables import read_variables  # noqa: PLC0415  pydantic-settings

    return read_variables(ProcessSettings, environ)


def _variable(loc: str, environ: Mapping[str, str], health_addr: str | None) -> str:
    if loc == "SSMD_HEALTH_ADDR" and health_addr is not None:
        return "--health-addr"
    return "RUST_LOG" if loc == "SSMD_LOG" and not environ.get("SSMD_LOG") else loc
