"""Decides which variables hold the credentials, and what is wrong with them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final, NamedTuple

from pydantic import BaseModel, ConfigDict, SecretStr

from ssmd_core.errors import CredentialError

__all__ = [
    "CREDENTIAL_FIELDS",
    "DemoSwitch",
    "KalshiCredentials",
    "read_credentials",
    "read_demo_switch",
]

_DEFAULTS: Final = {
    "api_key": "KALSHI_API_KEY",
    "private_key": "KALSHI_PRIVATE_KEY",
    "private_key_path": "KALSHI_PRIVATE_KEY_PATH",
    "use_demo": "KALSHI_USE_DEMO",
}
CREDENTIAL_FIELDS: Final = tuple(_DEFAULTS)
"""What the environment file's ``keys`` may place in variables of other names."""

_LARGEST_KEY_BYTES = 64 * 1024
_KEY_ID = "the id of a Kalshi API key (a UUID)"
_PEM_TEXT = "the PEM text of an RSA or Ed25519 private key, literal \\n accepted"
_PEM_FILE = "the path of a PEM file with an RSA or Ed25519 private key"


class KalshiCredentials(BaseModel):
    """A key id and its private key. Shown nowhere."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    api_key: SecretStr
    private_key: SecretStr
    """PEM text."""
    private_key_variable: str
    """Which variable it came from, for messages."""


class DemoSwitch(NamedTuple):
    """Whether ``KALSHI_USE_DEMO`` is on, and what is odd about it."""

    on: bool
    warning: str = ""


def read_credentials(environ: Mapping[str, str], keys: Mapping[str, str]) -> KalshiCredentials:
    """Return the credentials that the process environment holds.

    Args:
        environ: the process environment.
        keys: field → the variable that holds it, in place of the default ``KALSHI_…``.
            Naming one of the two private key fields puts both defaults out of use.

    Raises:
        CredentialError: one is missing, empty or cannot be read; names the variable.
    """
    variable = _variables(keys)
    name = variable["api_key"]
    api_key = environ.get(name, "").strip()
    if not api_key:
        raise CredentialError(f"{name} is not set: expected {_KEY_ID}")
    if not (api_key.isascii() and api_key.isprintable() and " " not in api_key):
        raise CredentialError(f"{name} is no key id: expected {_KEY_ID}")
    source, pem = _private_key(environ, variable)
    return KalshiCredentials(
        api_key=SecretStr(api_key), private_key=SecretStr(pem), private_key_variable=source
    )


def read_demo_switch(environ: Mapping[str, str], keys: Mapping[str, str]) -> DemoSwitch:
    """Return what ``KALSHI_USE_DEMO`` says: true, 1 and yes are on."""
    name = _variables(keys)["use_demo"]
    match environ.get(name, "").strip().lower():
        case "true" | "1" | "yes":
            return DemoSwitch(on=True)
        case "" | "false" | "0" | "no":
            return DemoSwitch(on=False)
    return DemoSwitch(
        on=False, warning=f"{name} is taken as false: it is none of true, 1, yes, false, 0, no"
    )


def _variables(keys: Mapping[str, str]) -> dict[str, str]:
    named = {field: name for field, name in keys.items() if field in _DEFAULTS}
    defaults = dict(_DEFAULTS)
    if "private_key" in named or "private_key_path" in named:
        defaults |= {"private_key": "", "private_key_path": ""}
    return defaults | named


def _private_key(environ: Mapping[str, str], variable: Mapping[str, str]) -> tuple[str, str]:
    """Return the variable that held the key, and the PEM text; text wins over a path."""
    text_in, path_in = variable["private_key"], variable["private_key_path"]
    if text := environ.get(text_in, "").strip():
        return text_in, text.replace("\\r", "").replace("\\n", "\n")
    if path := environ.get(path_in, "").strip():
        return path_in, _read_key_file(path, path_in)
    wanted = {text_in: _PEM_TEXT, path_in: _PEM_FILE}
    raise CredentialError(
        ", and ".join(
            f"{name} is not set: expected {what}" for name, what in wanted.items() if name
        )
        + ("; one of the two is enough" if text_in and path_in else "")
    )


def _read_key_file(path: str, variable: str) -> str:
    # The path is not shown: someone may have put the key itself there.
    if "-----BEGIN" in path:
        raise CredentialError(f"{variable} holds a key and no path: expected {_PEM_FILE}")
    try:
        with Path(path).open("rb") as file:
            data = file.read(_LARGEST_KEY_BYTES + 1)
        text = data.decode("ascii").strip()
    except OSError as error:
        raise CredentialError(
            f"{variable} names a file that cannot be read ({error.strerror}): expected {_PEM_FILE}"
        ) from None
    except ValueError:
        text = ""
    if not text or len(data) > _LARGEST_KEY_BYTES:
        raise CredentialError(f"{variable} names a file that is no key: expected {_PEM_FILE}")
    return text
