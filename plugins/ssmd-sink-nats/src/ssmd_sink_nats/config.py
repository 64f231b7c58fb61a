"""What the ``transport`` section of a NATS environment may say."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import SplitResult, unquote, urlsplit

from pydantic import BaseModel, ConfigDict, Field, SecretStr, field_validator, model_validator

__all__ = ["MAX_WINDOW", "NatsConfig", "Server", "TlsConfig"]

MAX_WINDOW = 9_000
"""The server queues 10,000 messages a stream and drops from there on: stay well below."""

_DEFAULT_PORT = 4222
_MAX_PORT = 65_535
_NAME = re.compile(r"[^\s.*>/\\]+")
_INBOX = re.compile(r"[^\s.*>]+(\.[^\s.*>]+)*")


@dataclass(frozen=True, slots=True)
class Server:
    """One address of the bus."""

    host: str
    port: int = _DEFAULT_PORT
    tls: bool = False
    certificate_name: str | None = None
    """The name its certificate is made out to, where that is not ``host``."""

    @property
    def url(self) -> str:
        """The address without any credential, for messages and commands."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{'tls' if self.tls else 'nats'}://{host}:{self.port}"


class TlsConfig(BaseModel):
    """How the bus is trusted, and who we are to it. All are paths of PEM files."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    ca: Path | None = None
    cert: Path | None = None
    key: Path | None = None
    handshake_first: bool = False
    """For servers with ``tls.handshake_first``: encrypt before anything is said."""

    @model_validator(mode="after")
    def _pair(self) -> TlsConfig:
        if self.key is not None and self.cert is None:
            raise ValueError("key is given without cert: name the certificate too")
        return self


class NatsConfig(BaseModel):
    """Where the bus is, how to log in, and how to publish."""

    # A rejected section is printed: never with the values, a url may hold a password.
    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    url: Annotated[tuple[str, ...], Field(min_length=1)]
    """``nats://host:port`` or ``tls://…``; several make a cluster. Held without credentials."""
    user: str | None = None
    password: SecretStr | None = None
    password_file: Path | None = None
    token: SecretStr | None = None
    token_file: Path | None = None
    credentials: Path | None = None
    """A ``.creds`` file."""
    nkey_seed_path: Path | None = None
    tls: TlsConfig | None = None
    stream: str | None = None
    """The stream that must take the messages; by default it is found by subject."""
    domain: str | None = None
    """JetStream domain."""
    inbox_prefix: str = "_INBOX"
    """What acknowledgements are addressed to; the user must be allowed to subscribe to it."""
    create_stream: bool = False
    linger_ms: Annotated[float, Field(ge=0, le=1_000)] = 0.0
    """Gather messages so long before they are written; 0 writes each batch at once."""
    window: Annotated[int, Field(ge=1, le=MAX_WINDOW)] = 4_096
    """How many messages may be unacknowledged."""

    @property
    def servers(self) -> tuple[Server, ...]:
        """The addresses, in the order given."""
        return tuple(_server(urlsplit(url)) for url in self.url)

    @model_validator(mode="before")
    @classmethod
    def _take_credentials_out_of_urls(cls, section: Any) -> Any:
        if not isinstance(section, dict) or not isinstance(section.get("url"), str | list | tuple):
            return section
        urls = [_split(url) for url in _listed(section["url"])]
        logins = {_login(url) for url in urls if url.username is not None}
        section = {**section, "url": tuple(_server(url).url for url in urls)}
        match sorted(logins):
            case []:
                return section
            case [login]:
                named = {"user": login[0], "password": login[1]}
                found = named if login[1] else {"token": login[0]}
                if clash := sorted(set(found) & {k for k, v in section.items() if v is not None}):
                    raise ValueError(f"{clash[0]} stands in the url and as a key: keep one")
                return section | found
            case _:
                raise ValueError("the urls hold different credentials: one login serves them all")

    @field_validator("stream", "domain")
    @classmethod
    def _one_name(cls, name: str | None) -> str | None:
        if name is not None and not _NAME.fullmatch(name):
            raise ValueError("must be a name without spaces, dots, slashes and wildcards")
        return name

    @field_validator("inbox_prefix")
    @classmethod
    def _legal_prefix(cls, prefix: str) -> str:
        if not _INBOX.fullmatch(prefix):
            raise ValueError("must be a subject without spaces, wildcards and empty tokens")
        return prefix

    @model_validator(mode="after")
    def _one_login(self) -> NatsConfig:
        if self.password and self.password_file:
            raise ValueError("password and password_file are both given: keep one")
        if self.token and self.token_file:
            raise ValueError("token and token_file are both given: keep one")
        secret = self.password or self.password_file
        if (self.user is None) != (secret is None):
            given, missing = ("password", "user") if self.user is None else ("user", "password")
            raise ValueError(f"{given} is given without {missing}")
        methods = {
            "user": self.user,
            "token": self.token or self.token_file,
            "credentials": self.credentials,
            "nkey_seed_path": self.nkey_seed_path,
        }
        given_methods = [name for name, value in methods.items() if value is not None]
        if len(given_methods) > 1:
            raise ValueError(f"{' and '.join(given_methods)} are both given: log in one way only")
        return self


def _listed(url: str | list[Any] | tuple[Any, ...]) -> list[str]:
    urls = url.split(",") if isinstance(url, str) else [str(item) for item in url]
    return [item.strip() for item in urls if item.strip()]


def _split(url: str) -> SplitResult:
    parts = urlsplit(url if "://" in url else f"nats://{url}")
    # The text itself may hold a password, so messages name the parts that cannot.
    if parts.scheme not in {"nats", "tls"}:
        raise ValueError(f"url: {parts.scheme}:// is not supported; use nats:// or tls://")
    try:
        port = parts.port
    except ValueError:
        raise ValueError(f"url: the port must be a number up to {_MAX_PORT}") from None
    if not parts.hostname or re.search(r"\s", parts.hostname) or port == 0:
        raise ValueError("url: must be nats://host or nats://host:port")
    if parts.path not in {"", "/"} or parts.query or parts.fragment:
        raise ValueError(f"url: nothing may follow nats://{parts.hostname}:{port or _DEFAULT_PORT}")
    return parts


def _login(url: SplitResult) -> tuple[str, str]:
    return unquote(url.username or ""), unquote(url.password or "")


def _server(url: SplitResult) -> Server:
    return Server(url.hostname or "", url.port or _DEFAULT_PORT, tls=url.scheme == "tls")
