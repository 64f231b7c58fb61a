"""Decides whether a part of a file fits a model, and where it does not."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from ssmd_core.config.document import Mark
from ssmd_core.config.faults import Fault, KeyPath, dotted, joined, listed, nearest
from ssmd_core.config.overrides import Merged, Override, merge
from ssmd_core.config.shape import allowed_keys, allowed_values, slot_of
from ssmd_core.errors import ConfigError

__all__ = ["Section"]

_SHOULD = re.compile(r"^[A-Z][a-z]+ should ")

Model = TypeVar("Model", bound=BaseModel)


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """A mapping of a file, with the lines of its keys and the variables that override it.

    ``data`` is what the file says; ``validate`` lays the variables over it, because only
    the owner's model tells which of them name a key.
    """

    file: str
    path: KeyPath = ()
    """Where it stands in the file."""
    data: Mapping[str, Any] = field(default_factory=dict, repr=False)
    marks: Mapping[KeyPath, Mark] = field(default_factory=dict, repr=False)
    """By path from the root of the file."""
    overrides: tuple[Override, ...] = ()

    def has(self, *keys: str) -> bool:
        """Say whether the file or a variable gives a value to one of ``keys``."""
        given = {key for key, value in self.data.items() if value not in (None, "")}
        given |= {item.tokens[0] for item in self.overrides if item.tokens and item.value != ""}
        return not given.isdisjoint(keys)

    def keys(self) -> frozenset[str]:
        """Return the keys that the file or a variable gives."""
        named = {item.tokens[0] for item in self.overrides if item.tokens}
        return frozenset(self.data) | named

    def with_default(self, key: str, value: Any) -> Section:
        """Return it with ``key`` set where nothing sets it."""
        return self if self.has(key) else replace(self, data={**self.data, key: value})

    def validate(self, model: type[Model], warn: Callable[[str], None] | None = None) -> Model:
        """Return the section as ``model``, variables included.

        ``warn`` is told of each variable that names no key of the model.

        Raises:
            ConfigError: every fault, one a line: ``file:line: key: what is wrong; allowed``.
        """
        merged = merge(self.data, self.overrides, model)
        if warn is not None:
            for message in merged.unmatched:
                warn(message)
        try:
            return model.model_validate(merged.data)
        except ValidationError as error:
            details = error.errors(include_url=False)
        raise joined(_told(self, merged, details, model)) from None

    def fault(self, path: KeyPath, message: str) -> ConfigError:
        """Return a fault of the value at ``path`` within the section."""
        return _placed(self, merge(self.data, self.overrides, Any), path, message)


def _placed(section: Section, merged: Merged, path: KeyPath, message: str) -> ConfigError:
    full = (*section.path, *path)
    for end in range(len(path), 0, -1):
        if variable := merged.variables.get(path[:end]):
            return Fault(message, key=dotted(full), variable=variable).error()
    spelled, line = _spelled(section.marks, full)
    return Fault(message, key=spelled, file=section.file, line=line).error()


def _spelled(marks: Mapping[KeyPath, Mark], path: KeyPath) -> tuple[str, int | None]:
    """Return the key as the file spells it, and the line of it or of what holds it."""
    parts: list[str | int] = []
    line = marks[()].line if () in marks else None
    for end in range(1, len(path) + 1):
        mark = marks.get(path[:end])
        line = mark.line if mark else line
        part = path[end - 1]
        parts.append(mark.key if mark and isinstance(part, str) else part)
    return dotted(tuple(parts)), line


def _told(
    section: Section, merged: Merged, details: list[ErrorDetails], model: type[BaseModel]
) -> list[ConfigError]:
    """Return one fault a key: the branches of a union speak of the same one."""
    messages: dict[KeyPath, list[str]] = {}
    for detail in details:
        path = _located(detail, merged.data)
        reason = _reason(detail, path, model, merged.data)
        reasons = messages.setdefault(path, [])
        if reason not in reasons:
            reasons.append(reason)
    faults = [
        _placed(section, merged, path, " or ".join(reasons)) for path, reasons in messages.items()
    ]
    return sorted(faults, key=lambda fault: fault.line or 0)


def _located(detail: ErrorDetails, data: Any) -> KeyPath:
    """Return the path in the data: a location also names branches of unions."""
    path: KeyPath = ()
    for part in detail["loc"]:
        missing = detail["type"] == "missing" and part == detail["loc"][-1]
        if isinstance(data, Mapping) and part in data:
            path, data = (*path, part), data[str(part)]
        elif isinstance(data, list) and isinstance(part, int) and part < len(data):
            path, data = (*path, part), data[part]
        elif missing:
            path = (*path, part)
    return path


def _reason(detail: ErrorDetails, path: KeyPath, model: Any, data: Any) -> str:
    parent, shape = _shapes(model, path, data)
    match detail["type"]:
        case "extra_forbidden":
            known = allowed_keys(parent)
            close = nearest(str(path[-1]), known)
            hint = f"did you mean `{close}`? " if close else ""
            return f"unknown key; {hint}allowed: {listed(known)}"
        case "missing":
            return _with_allowed(f"is missing{_misspelt(path, parent, data)}", shape)
        case "literal_error" | "enum":
            return _not_among(detail, shape)
        case "value_error" | "assertion_error":
            return str(detail["ctx"]["error"]) if "ctx" in detail else detail["msg"]
        case "model_type" | "dict_type" | "mapping_type":
            return f"must be a mapping of keys to values, not {_kind(detail['input'])}"
        case kind:
            wanted = _SHOULD.sub("must ", detail["msg"]).replace("a valid string", "text")
            wanted = wanted.replace("a valid tuple", "a list").replace("a valid list", "a list")
            return f"{wanted}, not {_kind(detail['input'])}" if kind.endswith("_type") else wanted


def _shapes(model: Any, path: KeyPath, data: Any) -> tuple[Any, Any]:
    """Return the types that hold and that are at ``path``."""
    parent, shape = model, model
    for part in path:
        slot = slot_of(shape, str(part), data)
        parent, shape = shape, slot.shape if slot else None
        match data:
            case Mapping():
                data = data.get(part)
            case list() if isinstance(part, int) and part < len(data):
                data = data[part]
            case _:
                data = None
    return parent, shape


def _misspelt(path: KeyPath, parent: Any, data: Any) -> str:
    """Say which key beside a missing one may have been meant, where unknown ones are no fault."""
    if getattr(parent, "model_config", {}).get("extra") == "forbid":
        return ""
    for part in path[:-1]:
        data = data[part]
    strange = set(data) - set(allowed_keys(parent)) if isinstance(data, Mapping) else ()
    close = nearest(str(path[-1]), map(str, strange))
    return f"; is `{close}` misspelt?" if close else ""


def _with_allowed(message: str, shape: Any) -> str:
    words = allowed_values(shape)
    return f"{message}; allowed: {listed(words)}" if words else message


def _not_among(detail: ErrorDetails, shape: Any) -> str:
    given, words = detail["input"], allowed_values(shape)
    if not words:
        return f"must be {detail['ctx']['expected']}"
    close = nearest(given, words) if isinstance(given, str) else None
    shown = f"`{given[:40]}`" if isinstance(given, str) else _kind(given)
    hint = f"did you mean `{close}`? " if close else ""
    return f"{shown} is not known; {hint}allowed: {listed(words)}"


def _kind(value: Any) -> str:
    """Name the kind of a value, never the value: it may be a secret."""
    match value:
        case None:
            return "empty"
        case bool():
            return "true or false"
        case int() | float():
            return "a number"
        case str():
            return "text" if value else "empty text"
        case list():
            return "a list"
        case _:
            return "a mapping"
