"""Decides the bytes of a message: compiles one function a struct that packs its values.

The function is written as source, as ``dataclasses`` does, because every step that a
general loop would take per field costs as much as the packing itself. Only numbers
of the layout get into the source; names of the schema never do.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from typing import Any

from ssmd_core.errors import RecordError
from ssmd_core.schema.layout import NUMBER_CODES, Field, Layout, read_layout
from ssmd_core.schema.oracle import find_fault, pack_by_pycapnp

__all__ = ["Packer", "compile_packer"]

Packer = Callable[[Sequence[Any]], bytes]
"""Takes the values of all fields in ordinal order; returns one framed message.

Raises:
    RecordError: a value that its field cannot carry; the message names the field.
    ValueError: more or fewer values than fields.
"""

_FIRST_SEGMENT_WORDS = 1024
"""What pycapnp allocates at first. A longer message has several segments: left to pycapnp."""

_TEXT_PADDING = tuple(bytes(8 - n) for n in range(8))  # the NUL that ends a text included
_DATA_PADDING = tuple(bytes(-n % 8) for n in range(8))

_REFUSALS = (
    struct.error,
    AttributeError,
    KeyError,
    OverflowError,
    TypeError,
    UnicodeEncodeError,
)


def compile_packer(struct_type: Any) -> Packer:
    """Compile the packer of a struct of a loaded schema.

    Raises:
        SchemaError: the struct holds something that is not packed.
    """
    layout = read_layout(struct_type)
    names = [field.name for field in layout.fields]

    def refuse(values: Sequence[Any]) -> RecordError:
        return RecordError(find_fault(layout, values) or f"{layout.struct} cannot be packed")

    def pack_long(values: Sequence[Any]) -> bytes:
        if fault := find_fault(layout, values):
            raise RecordError(fault)
        return pack_by_pycapnp(struct_type, names, values)

    scope: dict[str, Any] = {
        "TEXT_PADDING": _TEXT_PADDING,
        "DATA_PADDING": _DATA_PADDING,
        "REFUSALS": _REFUSALS,
        "bits32": _bits32,
        "bits64": _bits64,
        "join": b"".join,
        "refuse": refuse,
        "pack_long": pack_long,
        "pack_head": struct.Struct(_head_format(layout)).pack,
        **{f"choice{i}": _choices(field) for i, field in enumerate(layout.fields)},
    }
    source = _write_source(layout)
    exec(compile(source, f"<packer of {layout.struct}>", "exec"), scope)  # noqa: S102  see the module docstring
    packer: Packer = scope["pack"]
    return packer


# ── values that are not packed as they come ──────────────────────────────────────


def _bits32(value: float) -> int:
    try:
        return int.from_bytes(struct.pack("<f", value), "little")
    except OverflowError:
        # Cap'n Proto narrows as C does: what is too large becomes infinite.
        return 0x7F80_0000 if value > 0 else 0xFF80_0000


def _bits64(value: float) -> int:
    return int.from_bytes(struct.pack("<d", value), "little")


def _choices(field: Field) -> dict[Any, int]:
    """Return the stored bits of every value of a closed set."""
    if field.type == "bool":
        bit = 1 << field.place % 8
        return {bool(field.default): 0, not field.default: bit}
    return {name: ordinal ^ field.default for ordinal, name in enumerate(field.enumerants)}


# ── source ───────────────────────────────────────────────────────────────────────


def _data_slots(layout: Layout) -> list[tuple[int, str, str]]:
    """Return first byte, ``struct`` code and expression of every slot, in order of bytes."""
    slots: list[tuple[int, str, str]] = []
    flags: dict[int, list[str]] = {}
    for i, field in enumerate(layout.fields):
        if field.is_pointer:
            continue
        byte = field.place // 8
        code = NUMBER_CODES.get(field.type, "B")
        match field.type:
            case "bool":
                flags.setdefault(byte, []).append(f"choice{i}[v{i}]")
            case "enum":
                slots.append((byte, code, f"choice{i}[v{i}]"))
            case "float32":
                slots.append((byte, "I", f"bits32(v{i}) ^ {field.default}"))
            case "float64" if field.default:
                slots.append((byte, "Q", f"bits64(v{i}) ^ {field.default}"))
            case _:
                slots.append((byte, code, f"v{i} ^ {field.default}" if field.default else f"v{i}"))
    slots += [(byte, "B", " | ".join(parts)) for byte, parts in flags.items()]
    return sorted(slots)


def _head_format(layout: Layout) -> str:
    """Return the format of all but texts: framing, root pointer, data, pointers."""
    parts = ["<4xIQ"]  # segment count less one, words of the segment, root pointer
    end = 0
    for byte, code, _ in _data_slots(layout):
        parts.append(f"{byte - end}x{code}")
        end = byte + struct.calcsize("<" + code)
    parts.append(f"{layout.data_words * 8 - end}x")
    end = 0
    for slot in sorted(field.place for field in layout.fields if field.is_pointer):
        parts.append(f"{(slot - end) * 8}xII")
        end = slot + 1
    parts.append(f"{(layout.pointers - end) * 8}x")
    return "".join(parts)


def _write_source(layout: Layout) -> str:
    arguments = ", ".join(f"v{i}" for i in range(len(layout.fields)))
    fixed = 1 + layout.data_words + layout.pointers
    root = layout.data_words << 32 | layout.pointers << 48
    head = [str(root), *(expression for _, _, expression in _data_slots(layout))]

    # Texts stand behind the struct in ordinal order: the order they are assigned in.
    prepare: list[str] = []
    pointers: dict[int, tuple[str, str]] = {}
    tail: list[str] = []
    before = ""  # the words of the texts that stand before this one
    for i, field in enumerate(layout.fields):
        if not field.is_pointer:
            continue
        statements, pieces, upper = _write_text(i, field)
        prepare += statements
        tail += pieces
        offset = 4 * (layout.pointers - field.place - 1) + 1  # 1: a list pointer
        pointers[field.place] = f"{offset} + 4 * ({before})" if before else f"{offset}", upper
        before = f"{before} + w{i}" if before else f"w{i}"
    for slot in sorted(pointers):
        head += pointers[slot]

    result = f"pack_head({', '.join(['words', *head])})"
    if tail:
        result = f"join(({result}, {', '.join(tail)}))"
    lines = [
        "def pack(values):",
        f"    ({arguments},) = values",
        "    try:",
        *(f"        {statement}" for statement in prepare),
        f"        words = {fixed}{' + ' + before if before else ''}",
        f"        if words > {_FIRST_SEGMENT_WORDS}:",
        "            return pack_long(values)",
        f"        return {result}",
        "    except REFUSALS as error:",
        "        raise refuse(values) from error",
    ]
    return "\n".join(lines)


def _write_text(i: int, field: Field) -> tuple[list[str], list[str], str]:
    """Return the statements before, the pieces behind, and the pointer's upper half.

    That half is the number of bytes, the final NUL of a text included, above three
    bits that say: a list of bytes (2).
    """
    if field.type == "text":
        prepare = [f"t{i} = v{i}.encode()", f"n{i} = len(t{i})", f"w{i} = (n{i} >> 3) + 1"]
        return prepare, [f"t{i}", f"TEXT_PADDING[n{i} & 7]"], f"(n{i} << 3) + 10"
    prepare = [f"n{i} = len(v{i})", f"w{i} = (n{i} + 7) >> 3"]
    return prepare, [f"v{i}", f"DATA_PADDING[n{i} & 7]"], f"(n{i} << 3) + 2"
