"""Decides whether a packer is right: pycapnp has the last word.

Slow on purpose. It also packs what the compiled packer leaves to it, and names the
value at fault when a packer refused.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from ssmd_core.errors import RecordError, SchemaError
from ssmd_core.schema.layout import NUMBER_CODES, Field, Layout, read_layout

__all__ = ["check_packer", "find_fault", "pack_by_pycapnp"]

_MAX_TEXT_BYTES = (1 << 29) - 2
_INFINITY = float("inf")
_FLOATS = (0.0, -0.0, 0.1, 0.45, 1e300, -1e300, 5e-324, 1e-46, _INFINITY, -_INFINITY, float("nan"))
_TEXTS = ("", "a", "sevens.", "eight___", "nine_____", "é€😀", "with\0nul", "l" * 8200)
_DATAS = tuple(text.encode() for text in _TEXTS)


def pack_by_pycapnp(struct_type: Any, names: Sequence[str], values: Sequence[Any]) -> bytes:
    """Return the message that pycapnp makes of the values of the named fields.

    Raises:
        RecordError: pycapnp refuses a value.
    """
    message = struct_type.new_message()
    try:
        for name, value in zip(names, values, strict=True):
            setattr(message, name, value)
    except Exception as error:  # pycapnp raises four unrelated types
        raise RecordError(f"{struct_type.schema.node.displayName} cannot be packed") from error
    packed: bytes = message.to_bytes()
    return packed


def find_fault(layout: Layout, values: Sequence[Any]) -> str | None:
    """Return which value its field cannot carry and why, without the value; None for none."""
    for field, value in zip(layout.fields, values, strict=True):
        if fault := _fault(field, value):
            return f"{layout.struct}.{field.name} {fault}"
    return None


def _fault(field: Field, value: Any) -> str | None:
    match field.type:
        case "text":
            return _text_fault(value)
        case "data":
            if not isinstance(value, bytes | bytearray):
                return "is not bytes"
            return "is too long" if len(value) > _MAX_TEXT_BYTES else None
        case "bool":
            return None if value in (False, True) else "is neither true nor false"
        case "enum":
            return None if value in field.enumerants else "is not in its closed set"
        case _:
            return _number_fault(field.type, value)


def _text_fault(value: Any) -> str | None:
    if not isinstance(value, str):
        return "is not text"
    try:
        size = len(value.encode())
    except UnicodeEncodeError:
        return "is not valid Unicode"
    return "is too long" if size > _MAX_TEXT_BYTES else None


def _number_fault(type_name: str, value: Any) -> str | None:
    # A Float32 takes whatever a Float64 takes.
    code = "d" if type_name == "float32" else NUMBER_CODES[type_name]
    try:
        struct.pack("<" + code, value)
    except OverflowError:
        return "is out of range"
    except struct.error:
        return "is out of range" if isinstance(value, int) else "is not a number of its type"
    return None


# ── the check at start ───────────────────────────────────────────────────────────


def check_packer(struct_type: Any, pack: Callable[[Sequence[Any]], bytes]) -> None:
    """Compare a packer with pycapnp on values that are easily got wrong.

    Raises:
        SchemaError: they differ by a byte.
    """
    layout = read_layout(struct_type)
    names = [field.name for field in layout.fields]
    for values in _nasty_rows(layout):
        if pack(values) != pack_by_pycapnp(struct_type, names, values):
            raise SchemaError(
                f"{layout.struct}: the packer and pycapnp disagree; "
                "install the pycapnp version that this release was tested with"
            )


def _nasty_rows(layout: Layout) -> Iterator[tuple[Any, ...]]:
    samples = [_samples(field) for field in layout.fields]
    for turn in range(2 * max(map(len, samples))):
        # Neighbours are out of step, so that short texts meet long ones.
        yield tuple(row[(turn + i) % len(row)] for i, row in enumerate(samples))


def _samples(field: Field) -> Sequence[Any]:
    match field.type:
        case "text":
            return _TEXTS
        case "data":
            return _DATAS
        case "bool":
            return (False, True)
        case "enum":
            return field.enumerants
        case "float32" | "float64":
            return _FLOATS
        case _:
            bits = 8 * struct.calcsize(NUMBER_CODES[field.type])
            low = -(1 << bits - 1) if field.type.startswith("i") else 0
            return (low, low + 1, 0, 1, 5, low + (1 << bits) - 2, low + (1 << bits) - 1)
