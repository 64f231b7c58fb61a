"""Decides where each field of a struct lies in a message, by reflection on the schema."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Any

from ssmd_core.errors import SchemaError

__all__ = ["NUMBER_CODES", "Field", "Layout", "read_layout"]

NUMBER_CODES = {
    "int8": "b",
    "int16": "h",
    "int32": "i",
    "int64": "q",
    "uint8": "B",
    "uint16": "H",
    "uint32": "I",
    "uint64": "Q",
    "float32": "f",
    "float64": "d",
    "enum": "H",
}
"""Scalar types of Cap'n Proto, ``bool`` apart → their codes in ``struct``."""

_POINTERS = {"text", "data"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Field:
    """One field of a struct."""

    name: str
    type: str
    """Cap'n Proto's word: ``uint32``, ``bool``, ``enum``, ``text`` …"""
    place: int
    """First bit in the data section; for text and data the index of the pointer."""
    default: int = 0
    """What the stored bits are XORed with: an integer, or the bits of a float."""
    enumerants: tuple[str, ...] = ()

    @property
    def is_pointer(self) -> bool:
        """Say whether the value lies behind a pointer: text or data."""
        return self.type in _POINTERS


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """A struct whose fields are scalars, text and data. Fields stand in ordinal order."""

    struct: str
    data_words: int
    pointers: int
    fields: tuple[Field, ...]


def read_layout(struct_type: Any) -> Layout:
    """Return the layout of a struct of a loaded schema.

    Raises:
        SchemaError: it has no fields, a union, or a field of a type that is not packed.
    """
    node = struct_type.schema.node
    name = node.displayName[node.displayNamePrefixLength :]
    body = node.struct
    if body.discriminantCount:
        raise SchemaError(f"{name}: a struct with a union cannot be packed")
    fields = tuple(_read_field(name, field, struct_type) for field in body.fields)
    if not fields:
        raise SchemaError(f"{name}: a struct without fields cannot be packed")
    return Layout(
        struct=name, data_words=body.dataWordCount, pointers=body.pointerCount, fields=fields
    )


def _read_field(struct_name: str, field: Any, struct_type: Any) -> Field:
    name = field.name
    if field.which() != "slot":
        raise SchemaError(f"{struct_name}.{name}: a group cannot be packed")
    slot = field.slot
    type_name = str(slot.type.which())
    if type_name in _POINTERS:
        return Field(name=name, type=type_name, place=slot.offset)
    if type_name != "bool" and type_name not in NUMBER_CODES:
        raise SchemaError(
            f"{struct_name}.{name}: a field of type {type_name} cannot be packed; "
            "use integers, floats, Bool, enums, Text or Data"
        )
    enumerants: dict[str, int] = {}
    if type_name == "enum":
        enumerants = struct_type.schema.fields[name].schema.enumerants
    bits = 1 if type_name == "bool" else 8 * struct.calcsize("<" + NUMBER_CODES[type_name])
    return Field(
        name=name,
        type=type_name,
        place=slot.offset * bits,
        default=_default_bits(type_name, getattr(slot.defaultValue, type_name)),
        enumerants=tuple(sorted(enumerants, key=enumerants.__getitem__)),
    )


def _default_bits(type_name: str, value: Any) -> int:
    match type_name:
        case "float32":
            return int.from_bytes(struct.pack("<f", value), "little")
        case "float64":
            return int.from_bytes(struct.pack("<d", value), "little")
        case _:
            return int(value)
