"""What a log or a status must not show: values of secret names, keys, credentials in URLs."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

__all__ = ["MASK", "redact", "redact_text"]

MASK = "***"
_MAX_TEXT = 16_384
_MAX_DEPTH = 8
_MAX_BITS = 64

_WORDS = (
    r"pass(?:word|wd|phrase)|pwd|secret|token|api[_-]?key|private[_-]?key|access[_-]?key"
    r"|authorization|signature|credentials?|cookie|jwt|nkey|seed"
)
_SECRET_NAME = re.compile(rf"(?:{_WORDS})", re.IGNORECASE)
_HARMLESS_NAME = re.compile(r"(?:path|file|source|count|seconds)s?$", re.IGNORECASE)

# No pattern backtracks over a long run of text: a venue chooses part of what is logged.
_PATTERNS: tuple[tuple[re.Pattern[str], str], ...] = (
    # PEM and NATS credentials; one that is cut off is masked to the end.
    (re.compile(r"-{5}BEGIN [A-Z0-9 ]+-{5}.*?(?:-{5,6}END [A-Z0-9 ]+-{5,6}|\Z)", re.DOTALL), MASK),
    (re.compile(r"(\b[a-z][a-z0-9+.-]{0,20}://)[^\s/?#]*@", re.IGNORECASE), rf"\1{MASK}@"),
    (re.compile(r"\b(bearer|basic)\s+[\w.~+/=-]{8,}", re.IGNORECASE), rf"\1 {MASK}"),
    (
        re.compile(
            rf"((?:{_WORDS})[\w-]{{0,40}}(?:=|[\"']\s?:\s?))(\"[^\"]*\"|'[^']*'|[^\s,;&)]+)",
            re.IGNORECASE,
        ),
        rf"\1{MASK}",
    ),
    (re.compile(r"\bS[UACNOX][A-Z2-7]{56}\b"), MASK),
    (re.compile(r"\beyJ[\w-]{8,}(?:\.[\w-]+)*"), MASK),
)


def redact_text(text: str) -> str:
    """Return ``text`` with keys, tokens and credentials masked, cut at 16,384 characters."""
    length = len(text)
    # Room beyond the cut, so that it does not fall into a secret.
    text = text[: 2 * _MAX_TEXT]
    for pattern, masked in _PATTERNS:
        text = pattern.sub(masked, text)
    return text if length <= _MAX_TEXT else f"{text[:_MAX_TEXT]}… ({length} characters)"


def redact(value: Any, name: str = "") -> Any:
    """Return ``value`` made of plain JSON values, without secrets.

    ``name`` is the key it stands under. Booleans and None are kept whatever their name;
    what JSON does not know becomes its redacted text.
    """
    return _redact(value, name, 0)


def _redact(value: Any, name: str, depth: int) -> Any:
    if value is None or isinstance(value, bool):
        return value
    if _SECRET_NAME.search(name) and not _HARMLESS_NAME.search(name):
        return MASK
    if isinstance(value, float) or _is_small(value):
        return value
    if depth < _MAX_DEPTH:
        if isinstance(value, Mapping):
            named = ((_text(key), held) for key, held in value.items())
            return {key: _redact(held, key, depth + 1) for key, held in named}
        if isinstance(value, list | tuple | set | frozenset):
            return [_redact(held, name, depth + 1) for held in value]
    return redact_text(_text(value))


def _is_small(value: Any) -> bool:
    # JSON readers, and our writer, stop at 64 bits.
    return isinstance(value, int) and value.bit_length() < _MAX_BITS


def _text(value: Any) -> str:
    if isinstance(value, bytes | bytearray):
        return value.decode("utf-8", "backslashreplace")
    try:
        # File names may hold bytes that no encoding takes.
        return str(value).encode("utf-8", "backslashreplace").decode()
    except Exception:  # noqa: BLE001  a broken __str__ never costs a log line
        return f"<{type(value).__name__}>"
