"""Decides what SSMD_ variables change in the files: which key each names, and its value."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ssmd_core.config.faults import KeyPath, nearest
from ssmd_core.config.shape import allowed_keys, is_nested, slot_of

__all__ = ["PREFIX", "Merged", "Override", "leaves", "merge", "read_overrides"]

PREFIX = "SSMD_"
_DELIMITER = "__"


@dataclass(frozen=True, slots=True)
class Override:
    """One variable, or one leaf of a variable whose value is a JSON object."""

    variable: str
    tokens: tuple[str, ...]
    value: Any = field(repr=False)

    def within(self, depth: int) -> Override:
        """Return it as the section ``depth`` levels down sees it."""
        return Override(self.variable, self.tokens[depth:], self.value)


@dataclass(frozen=True, slots=True)
class Merged:
    """Values with the variables laid over them."""

    data: dict[str, Any] = field(repr=False)
    variables: Mapping[KeyPath, str]
    """Where a variable set a value."""
    unmatched: tuple[str, ...]
    """What to tell about each variable that names no key."""


def read_overrides(environ: Mapping[str, str], singles: Iterable[str]) -> tuple[Override, ...]:
    """Return the ``SSMD_…__…`` variables, and ``SSMD_X`` for each X of ``singles``.

    The more specific comes later, so that it wins over a JSON object that holds it too.
    """
    known = set(singles)
    found: list[Override] = []
    for variable, text in environ.items():
        if not variable.startswith(PREFIX):
            continue
        tokens = tuple(variable.removeprefix(PREFIX).lower().split(_DELIMITER))
        if len(tokens) > 1 or tokens[0] in known:
            found.append(Override(variable, tokens, text))
    return tuple(sorted(found, key=lambda item: (item.variable.count(_DELIMITER), item.variable)))


def merge(data: Mapping[str, Any], overrides: Sequence[Override], shape: Any) -> Merged:
    """Lay ``overrides`` over ``data``, each where ``shape`` has a place for it."""
    merged: dict[str, Any] = _copied(data)
    variables: dict[KeyPath, str] = {}
    unmatched: list[str] = []
    for override in overrides:
        path = _place(override, merged, shape, unmatched.append)
        if path is None:
            continue
        where, slot_shape = path
        variables[where] = override.variable
        _put(merged, where, _decoded(override.value, slot_shape))
    return Merged(merged, variables, tuple(unmatched))


def leaves(override: Override) -> Iterator[Override]:
    """Split a JSON object into its leaves: they may belong to several owners."""
    value = _json(override.value)
    if not isinstance(value, dict) or not value:
        yield override
        return
    for key, inner in value.items():
        yield from leaves(Override(override.variable, (*override.tokens, key), inner))


def _json(value: Any) -> Any:
    """Return the list or object that a text is in JSON, else the text."""
    if not isinstance(value, str) or not value.lstrip().startswith(("[", "{")):
        return value
    try:
        return json.loads(value)
    except (ValueError, RecursionError):
        return value


def _decoded(value: Any, shape: Any) -> Any:
    """Read JSON only where a list or mapping may stand: a password may look like one."""
    return _json(value) if is_nested(shape) else value


def _place(
    override: Override, data: Any, shape: Any, tell: Callable[[str], None]
) -> tuple[KeyPath, Any] | None:
    where: KeyPath = ()
    for index, token in enumerate(override.tokens):
        slot = slot_of(shape, token, data)
        if slot is None or not token:
            tell(_unmatched(override, index, allowed_keys(shape)))
            return None
        where, shape = (*where, slot.key), slot.shape
        data = _inner(data, slot.key)
    return where, shape


def _unmatched(override: Override, index: int, known: Sequence[str]) -> str:
    message = f"{override.variable} names no key of the configuration and has no effect"
    close = nearest(override.tokens[index], known)
    if close is None:
        return message
    tokens = [*override.tokens[:index], close, *override.tokens[index + 1 :]]
    # The variable may have lost leading tokens when it was handed to its section.
    lost = override.variable.removeprefix(PREFIX).split(_DELIMITER)
    outer = lost[: max(0, len(lost) - len(override.tokens))]
    suggestion = PREFIX + _DELIMITER.join([*outer, *tokens]).upper()
    return f"{message}; did you mean {suggestion}?"


def _inner(data: Any, key: str | int) -> Any:
    if isinstance(data, Mapping):
        return data.get(str(key))
    return data[key] if isinstance(data, list) and isinstance(key, int) else None


def _put(data: Any, where: KeyPath, value: Any) -> None:
    *parents, last = where
    for position, key in enumerate(parents):
        inner = _inner(data, key)
        if not isinstance(inner, (dict, list)):
            inner = [] if isinstance(where[position + 1], int) else {}
            data[key] = inner
        data = inner
    if isinstance(value, dict) and isinstance(old := _inner(data, last), dict):
        value = _deep(old, value)
    data[last] = value


def _deep(old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, Any]:
    out = dict(old)
    for key, value in new.items():
        match out.get(key), value:
            case dict() as before, dict():
                out[key] = _deep(before, value)
            case _:
                out[key] = value
    return out


def _copied(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _copied(inner) for key, inner in value.items()}
    return [_copied(inner) for inner in value] if isinstance(value, list) else value
