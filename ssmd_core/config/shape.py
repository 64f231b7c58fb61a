"""Decides which keys a model allows at a place: for overrides and for messages."""

from __future__ import annotations

import types
from collections.abc import Iterable, Iterator, Mapping, MutableMapping, Sequence
from typing import Annotated, Any, ClassVar, Literal, NamedTuple, Union, get_args, get_origin

from pydantic import BaseModel, ConfigDict
from pydantic.fields import FieldInfo

__all__ = ["Slot", "Strict", "allowed_keys", "allowed_values", "is_nested", "slot_of"]

_LISTS: frozenset[Any] = frozenset({list, tuple, set, frozenset, Sequence})
_MAPPINGS: frozenset[Any] = frozenset({dict, Mapping, MutableMapping})


class Strict(BaseModel):
    """A model of the configuration: frozen, and no key that it does not name."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    open_prefixes: ClassVar[tuple[str, ...]] = ()
    """Keys with these prefixes are allowed too."""


class Slot(NamedTuple):
    """A place in a model: the key as the data spells it, and the type that belongs there."""

    key: str | int
    shape: Any


def slot_of(shape: Any, token: str, data: Any) -> Slot | None:
    """Return the place that ``token`` (any case, or a position) names, None for none.

    ``data`` is what stands there: the spelling that it uses is the one returned.
    """
    if isinstance(data, list):
        return _item_slot(shape, token, len(data))
    present = list(data) if isinstance(data, Mapping) else []
    for model, name, field in _fields(shape):
        spellings = _spellings(model, name, field)
        if _same(token, spellings):
            used = next((key for key in spellings if key in present), spellings[0])
            return Slot(used, field.annotation)
    key = _same(token, present) or token
    values = [get_args(member)[1:] for member in _members(shape) if _origin(member) in _MAPPINGS]
    if values or any(map(_is_free, _members(shape))):
        return Slot(key, next((args[0] for args in values if args), Any))
    if any(key.startswith(prefix) for prefix in _open_prefixes(shape)):
        return Slot(key, Any)
    return None


def _item_slot(shape: Any, token: str, length: int) -> Slot | None:
    lists = [get_args(member) for member in _members(shape) if _origin(member) in _LISTS]
    within = token.isascii() and token.isdigit() and int(token) < length
    if not within or not (lists or Any in _members(shape)):
        return None
    return Slot(int(token), next((args[0] for args in lists if args), Any))


def allowed_keys(shape: Any) -> list[str]:
    """Return the keys that the models among ``shape`` name, spelled as in the YAML."""
    keys = [_spellings(model, name, field)[0] for model, name, field in _fields(shape)]
    prefixes = _open_prefixes(shape)
    return [key for key in keys if key not in prefixes] + [f"{prefix}…" for prefix in prefixes]


def allowed_values(shape: Any) -> list[str]:
    """Return the words of a closed set, empty for an open one."""
    literals = [member for member in _members(shape) if get_origin(member) is Literal]
    return [str(value) for member in literals for value in get_args(member)]


def is_nested(shape: Any) -> bool:
    """Say whether a list or a mapping may stand here."""
    nested = _LISTS | _MAPPINGS
    return any(
        member is Any or _is_model(member) or _origin(member) in nested
        for member in _members(shape)
    )


def _members(shape: Any) -> list[Any]:
    origin = get_origin(shape)
    if origin is Annotated:
        return _members(get_args(shape)[0])
    if origin is Union or origin is types.UnionType:
        return [inner for arg in get_args(shape) for inner in _members(arg)]
    return [] if shape is types.NoneType else [shape]


def _is_model(shape: Any) -> bool:
    return isinstance(shape, type) and issubclass(shape, BaseModel)


def _is_free(shape: Any) -> bool:
    return shape is Any or (_is_model(shape) and shape.model_config.get("extra") == "allow")


def _origin(shape: Any) -> Any:
    return get_origin(shape) or shape


def _fields(shape: Any) -> Iterator[tuple[type[BaseModel], str, FieldInfo]]:
    for model in filter(_is_model, _members(shape)):
        for name, field in model.model_fields.items():
            yield model, name, field


def _open_prefixes(shape: Any) -> list[str]:
    models = filter(_is_model, _members(shape))
    return [prefix for model in models for prefix in getattr(model, "open_prefixes", ())]


def _spellings(model: type[BaseModel], name: str, field: FieldInfo) -> list[str]:
    """Return the spellings that validation takes, first the one to be shown."""
    alias = field.validation_alias or field.alias
    if alias is None:
        return [name]
    choices = [alias] if isinstance(alias, str) else getattr(alias, "choices", [])
    spellings = [choice for choice in choices if isinstance(choice, str)]
    config = model.model_config
    if config.get("populate_by_name") or config.get("validate_by_name") or not spellings:
        spellings.append(name)
    return spellings


def _same(token: str, words: Iterable[str]) -> str | None:
    return next((word for word in words if word.lower() == token.lower()), None)
