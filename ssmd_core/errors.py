"""Every exception that ssmd raises on purpose, in one tree.

```text
SsmdError
├── StartError                the program cannot start as asked                exit 2
│   ├── UsageError            the command line
│   ├── ConfigError           a YAML file or an SSMD_ variable: file, line, key
│   ├── PluginError           nobody provides it, two do, or it is broken
│   ├── CredentialError       a key is missing or unreadable
│   ├── BindError             the health port is taken
│   ├── StorageUnusable       lock held, directory not writable
│   └── TransportUnusable     no stream covers the subjects, bad bus credentials
├── CredentialsRefused        the venue said 401 or 403 at the first connection  exit 3
├── SchemaError               a schema text or a codec that does not check out
├── RecordError               a record that the wire schema cannot carry
├── ParseError                a frame that the feed cannot read; the frame is kept
├── StorageFailed             an append or a sync did not succeed; tried again
├── FetchFailed               a request over HTTP brought no body
└── ConnectionEnded           a venue connection is over; says why; reconnected
```
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

__all__ = [
    "BindError",
    "ConfigError",
    "ConnectionEnded",
    "CredentialError",
    "CredentialsRefused",
    "FetchFailed",
    "ParseError",
    "PluginError",
    "RecordError",
    "SchemaError",
    "SsmdError",
    "StartError",
    "StorageFailed",
    "StorageUnusable",
    "TransportUnusable",
    "UsageError",
]


class SsmdError(Exception):
    """Root of the tree. The message says what is wrong, where, and what to do."""

    exit_code = 1


class StartError(SsmdError):
    """Found before the venue is contacted."""

    exit_code = 2


class UsageError(StartError):
    """A command line that makes no sense."""


class ConfigError(StartError):
    """A fault in a configuration file or in a variable that overrides it.

    Args:
        message: what is wrong and what is allowed.
        file: the file, or None for a variable.
        line: 1-based line, where known.
        key: dotted path of the key, where known.
    """

    def __init__(
        self,
        message: str,
        *,
        file: Path | str | None = None,
        line: int | None = None,
        key: str | None = None,
    ) -> None:
        self.reason = message
        self.file = file
        self.line = line
        self.key = key
        place = "" if file is None else f"{file}:{line}: " if line else f"{file}: "
        super().__init__(f"{place}{key}: {message}" if key else f"{place}{message}")


class PluginError(StartError):
    """A plugin that is missing, claimed twice, incompatible or broken."""


class CredentialError(StartError):
    """A credential that is missing or unreadable; names the variable, never the value."""


class BindError(StartError):
    """The health address cannot be bound."""


class StorageUnusable(StartError):
    """The archive cannot be opened: lock, directory or permissions."""


class TransportUnusable(StartError):
    """The bus answers, but will not take what would be published."""


class CredentialsRefused(SsmdError):
    """The venue refused the credentials at the first connection."""

    exit_code = 3


class SchemaError(SsmdError):
    """A schema text that cannot be used, or a codec that disagrees with pycapnp."""


class RecordError(SsmdError):
    """A record that the wire schema cannot carry; it is archived, not published."""


class ParseError(SsmdError):
    """A frame that the feed cannot read. The frame is archived all the same."""


class StorageFailed(SsmdError):
    """An append or a sync that did not succeed; nothing of the batch is in the archive."""


class FetchFailed(SsmdError):
    """A request over HTTP that brought no body; shows neither query nor headers.

    Args:
        message: why.
        lasting: asking again would bring the same.
    """

    def __init__(self, message: str, *, lasting: bool = False) -> None:
        self.lasting = lasting
        super().__init__(message)


class ConnectionEnded(SsmdError):
    """A venue connection is over.

    Args:
        cause: short word for metrics and the ledger, such as ``stale`` or ``cut``.
        detail: one sentence for people.
        status: HTTP status of a refused handshake.
        code: WebSocket close code.
    """

    def __init__(
        self, cause: str, detail: str = "", *, status: int | None = None, code: int | None = None
    ) -> None:
        self.cause = cause
        self.detail = detail
        self.status = status
        self.code = code
        super().__init__(f"{cause}: {detail}" if detail else cause)
