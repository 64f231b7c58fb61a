"""Decides what a YAML text says: plain values, and the line on which each key stands."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from ruamel.yaml import YAML
from ruamel.yaml.composer import ComposerError
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from ssmd_core.config.faults import Fault, KeyPath, dotted
from ssmd_core.errors import ConfigError

__all__ = ["Document", "Mark", "parse_document", "read_document"]

_MAX_BYTES = 1024 * 1024
_MAX_DEPTH = 32
_MAX_NODES = 50_000
"""Aliases let a short text stand for a huge one."""
_TAG = "tag:yaml.org,2002:"


class Mark(NamedTuple):
    """Where a value stands: 1-based line, and its key as written."""

    line: int
    key: str


@dataclass(frozen=True, slots=True)
class Document:
    """One YAML file. The values may hold secrets."""

    file: str
    data: dict[str, Any] = field(repr=False)
    marks: dict[KeyPath, Mark]


def read_document(path: Path | str) -> Document:
    """Read a file of at most 1 MiB.

    Raises:
        ConfigError: missing, unreadable, not UTF-8, or not a YAML mapping.
    """
    try:
        with Path(path).open("rb") as file:
            content = file.read(_MAX_BYTES + 1)
    except IsADirectoryError:
        raise ConfigError("is a directory; name the file in it", file=path) from None
    except FileNotFoundError:
        raise ConfigError("no such file", file=path) from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise ConfigError(f"cannot be read: {reason}", file=path) from None
    if len(content) > _MAX_BYTES:
        raise ConfigError(f"is larger than {_MAX_BYTES} bytes", file=path)
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise ConfigError("is not UTF-8 text", file=path, line=line) from None
    return parse_document(text, str(path))


def parse_document(text: str, file: str) -> Document:
    """Read a YAML 1.2 text whose root is a mapping.

    Raises:
        ConfigError: bad YAML, a duplicate key, NaN or infinity, an unknown tag, or another root.
    """
    yaml = YAML(typ="safe", pure=True)
    try:
        root = yaml.compose(text)
    except MarkedYAMLError as error:
        raise ConfigError(_reason(error, text), file=file, line=_line(error)) from None
    except YAMLError as error:
        first = str(error).strip().splitlines()[0]
        raise ConfigError(f"is not YAML: {first}", file=file) from None
    except (RecursionError, ValueError):
        raise ConfigError("is not YAML, or nested too deeply", file=file) from None
    if root is None:
        raise ConfigError("is empty", file=file)
    if not isinstance(root, MappingNode):
        raise ConfigError(
            "must be a mapping of keys to values", file=file, line=root.start_mark.line + 1
        )
    reader = _Reader(yaml, file)
    reader.marks[()] = Mark(root.start_mark.line + 1, "")
    data = reader.value(root, ())
    return Document(file, data, reader.marks)


class _Reader:
    """Walks the nodes of one text."""

    def __init__(self, yaml: YAML, file: str) -> None:
        self._yaml = yaml
        self._file = file
        self._nodes = 0
        self.marks: dict[KeyPath, Mark] = {}

    def value(self, node: Node, path: KeyPath) -> Any:
        self._nodes += 1
        if len(path) > _MAX_DEPTH or self._nodes > _MAX_NODES:
            raise self._fault("is nested too deeply, or grows through aliases", node, path)
        match node:
            case MappingNode():
                return self._mapping(node, path)
            case SequenceNode():
                return self._sequence(node, path)
            case ScalarNode():
                return self._scalar(node, path)
            case _:  # pragma: no cover  there are no other nodes
                raise self._fault("cannot be read", node, path)

    def _mapping(self, node: MappingNode, path: KeyPath) -> dict[str, Any]:
        merged: dict[str, Any] = {}
        own: dict[str, Any] = {}
        for key_node, value_node in node.value:
            if key_node.tag == f"{_TAG}merge":
                for source in self._merge_sources(value_node, path):
                    merged = self._mapping(source, path) | merged
                continue
            if not isinstance(key_node, ScalarNode):
                raise self._fault("a key must be text", key_node, path)
            key = str(key_node.value)
            if key in own:
                first = self.marks[(*path, key)].line
                raise self._fault(
                    f"duplicate key, first on line {first}; remove one", key_node, (*path, key)
                )
            self.marks[(*path, key)] = Mark(key_node.start_mark.line + 1, key)
            own[key] = self.value(value_node, (*path, key))
        return merged | own

    def _merge_sources(self, node: Node, path: KeyPath) -> Iterator[MappingNode]:
        sources = node.value if isinstance(node, SequenceNode) else [node]
        for source in sources:
            self._nodes += 1
            if not isinstance(source, MappingNode) or self._nodes > _MAX_NODES:
                raise self._fault("`<<` merges mappings only", source, path)
            yield source

    def _sequence(self, node: SequenceNode, path: KeyPath) -> list[Any]:
        items = []
        for index, item in enumerate(node.value):
            self.marks[(*path, index)] = Mark(item.start_mark.line + 1, str(index))
            items.append(self.value(item, (*path, index)))
        return items

    def _scalar(self, node: ScalarNode, path: KeyPath) -> Any:
        text = str(node.value)
        match str(node.tag).removeprefix(_TAG):
            # A date stays the text that was written; the model that wants a date reads it.
            case "str" | "timestamp":
                return text
            case "null":
                return None
            case "bool":
                return self._yaml.constructor.construct_yaml_bool(node)
            case "int":
                return self._yaml.constructor.construct_yaml_int(node)
            case "float":
                number = self._yaml.constructor.construct_yaml_float(node)
                if not math.isfinite(number):
                    raise self._fault(f"{text} is not a number to configure with", node, path)
                return float(number)
            case _:
                # The tag is not shown: it may be the beginning of a password.
                message = "tags are not supported; put a value that begins with `!` in quotes"
                raise self._fault(message, node, path)

    def _fault(self, message: str, node: Node, path: KeyPath) -> ConfigError:
        line = node.start_mark.line + 1
        return Fault(message, key=dotted(path), file=self._file, line=line).error()


def _line(error: MarkedYAMLError) -> int | None:
    mark = error.problem_mark or error.context_mark
    return None if mark is None else mark.line + 1


def _reason(error: MarkedYAMLError, text: str) -> str:
    mark = error.problem_mark
    if mark is not None and text[mark.index : mark.index + 1] == "\t":
        return "is not YAML: a tab; indent with spaces"
    if isinstance(error, ComposerError) and "alias" in (error.problem or ""):
        # Its words quote the alias, which may be a password.
        return (
            "is not YAML: an alias without its anchor; put a value that begins with `*` in quotes"
        )
    parts = [part.strip() for part in (error.context, error.problem) if part]
    return f"is not YAML: {', '.join(parts)}"
