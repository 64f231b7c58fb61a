"""Decides how a fault of the configuration is told: place, key, what is wrong."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from ssmd_core.errors import ConfigError

__all__ = ["Fault", "KeyPath", "dotted", "joined", "listed", "nearest"]

KeyPath = tuple[str | int, ...]
"""The way from the root to a value: keys, and positions in lists."""


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that is wrong. ``variable`` stands in for a place in a file."""

    message: str
    key: str = ""
    file: str | None = None
    line: int | None = None
    variable: str | None = None

    def error(self) -> ConfigError:
        """Return it as an exception."""
        if self.variable is not None:
            about = f" ({self.key})" if self.key else ""
            return ConfigError(f"{self.message}{about}", key=self.variable)
        return ConfigError(self.message, file=self.file, line=self.line, key=self.key or None)


def joined(faults: Sequence[ConfigError]) -> ConfigError:
    """Return one error of at least one, one a line; it carries the place of the first."""
    first, *others = faults
    if not others:
        return first
    message = "\n".join([first.reason, *map(str, others)])
    return ConfigError(message, file=first.file, line=first.line, key=first.key)


def dotted(path: KeyPath) -> str:
    """Return ``versions[0].endpoint`` for ``("versions", 0, "endpoint")``."""
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text


def nearest(word: str, known: Iterable[str]) -> str | None:
    """Return the known word that looks most like ``word``, None when none does."""
    lowered = {candidate.lower(): candidate for candidate in known}
    found = difflib.get_close_matches(word.lower(), lowered, n=1)
    return lowered[found[0]] if found else None


def listed(words: Iterable[str]) -> str:
    """Return ``a, b, c``, or ``none`` where there are none."""
    return ", ".join(words) or "none"
