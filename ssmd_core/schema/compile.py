"""Decides the bytes of a message: compiles one function a struct that packs its values.

The function is written as source, as ``dataclasses`` does, because every step that a
general loop would take per field costs as much as the packing itself. Only numbers
of the layout get into the source; names of the schema never do.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Collection, Sequence
from typing import Any

from ssmd_core.errors import RecordError, SchemaError
from ssmd_core.schema.layout import NUMBER_CODES, Field, Layout, read_layout
from ssmd_core.schema.oracle import find_fault, pack_by_pycapnp

__all__ = ["Packer", "TextCache", "compile_packer"]

Packer = Callable[..., bytes]
"""Takes the value of every field in ordinal order; returns one framed message.

Raises:
    RecordError: a value that its field cannot carry; the message names the field.
"""

FIRST_SEGMENT_WORDS = 1024
"""What pycapnp allocates at first. A longer message has several segments."""

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


class TextCache(dict[str, tuple[bytes, int, int]]):
    """Text → its padded bytes, the upper half of its pointer, its length in words.

    Emptied when full, so that what it costs does not depend on how many tickers live.
    """

    def __init__(self, *, max_entries: int = 65_536, max_text_bytes: int = 128) -> None:
        super().__init__()
        self._max_entries = max_entries
        self._max_text_bytes = max_text_bytes

    def __missing__(self, text: str) -> tuple[bytes, int, int]:
        encoded = text.encode()
        size = len(encoded)
        padded = encoded + _TEXT_PADDING[size & 7]
        entry = padded, (size << 3) + 10, len(padded) >> 3
        if size <= self._max_text_bytes:
            if len(self) >= self._max_entries:
                self.clear()
            self[text] = entry
        return entry


def compile_packer(
    struct_type: Any, *, repeating: Collection[str] = (), texts: TextCache | None = None
) -> Packer:
    """Compile the packer of a struct of a loaded schema.

    Args:
        struct_type: the pycapnp struct.
        repeating: text fields whose values come again and again, such as tickers.
        texts: where those are kept; to be shared by the structs of one schema.

    Raises:
        SchemaError: the struct holds something that is not packed, or has no such text.
    """
    layout = read_layout(struct_type)
    known = {field.name for field in layout.fields if field.type == "text"}
    if unknown := set(repeating) - known:
        raise SchemaError(f"{layout.struct}: no text field {', '.join(sorted(unknown))}")
    names = [field.name for field in layout.fields]

    def refuse(values: Sequence[Any]) -> RecordError:
        return RecordError(find_fault(layout, values) or f"{layout.struct} cannot be packed")

    def pack_long(values: Sequence[Any]) -> bytes:
        if fault := find_fault(layout, values):
            raise RecordError(fault)
        return pack_by_pycapnp(struct_type, names, values)

    scope: dict[str, Any] = {
        "texts": TextCache() if texts is None else texts,
        "TEXT_PADDING": _TEXT_PADDING,
        "DATA_PADDING": _DATA_PADDING,
        "REFUSALS": _REFUSALS,
        "bits32": _bits32,
        "bits64": _bits64,
        "refuse": refuse,
        "pack_long": pack_long,
        "pack_head": struct.Struct(_head_format(layout)).pack,
        **{f"choice{i}": _choices(field) for i, field in enumerate(layout.fields)},
    }
    source = _write_source(layout, frozenset(repeating))
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


def _write_source(layout: Layout, repeating: frozenset[str]) -> str:
    arguments = ", ".join(f"v{i}" for i in range(len(layout.fields)))
    texts = [(i, field) for i, field in enumerate(layout.fields) if field.is_pointer]
    fixed = 1 + layout.data_words + layout.pointers
    root = layout.data_words << 32 | layout.pointers << 48
    head = [str(root), *(expression for _, _, expression in _data_slots(layout))]

    prepare: list[str] = []
    pointers: dict[int, tuple[str, str]] = {}
    tail: list[str] = []
    before = ""  # the words of the texts that stand before this one
    for i, field in texts:
        size, pieces, upper = _write_text(i, field, cached=field.name in repeating)
        prepare += size
        tail += pieces
        offset = 4 * (layout.pointers - field.place - 1) + 1  # 1: a list pointer
        lower = f"{offset} + 4 * ({before})" if before else f"{offset}"
        pointers[field.place] = lower, upper
        before = f"{before} + w{i}" if before else f"w{i}"
    for slot in sorted(pointers):
        head += pointers[slot]

    message = f"pack_head({', '.join(['words' if texts else str(fixed), *head])})"
    lines = [f"def pack({arguments}):", "    try:", *(f"        {line}" for line in prepare)]
    if texts:
        lines += [
            f"        words = {fixed} + {before}",
            f"        if words > {FIRST_SEGMENT_WORDS}:",
            f"            return pack_long(({arguments},))",
        ]
    lines += [
        f"        return {' + '.join([message, *tail])}",
        "    except REFUSALS as error:",
        f"        raise refuse(({arguments},)) from error",
    ]
    return "\n".join(lines)


def _write_text(i: int, field: Field, *, cached: bool) -> tuple[list[str], list[str], str]:
    """Return the statements before, the pieces of the tail, and the pointer's upper half."""
    if cached:
        return [f"t{i}, u{i}, w{i} = texts[v{i}]"], [f"t{i}"], f"u{i}"
    if field.type == "text":
        prepare = [f"t{i} = v{i}.encode()", f"n{i} = len(t{i})", f"w{i} = (n{i} >> 3) + 1"]
        return prepare, [f"t{i}", f"TEXT_PADDING[n{i} & 7]"], f"(n{i} << 3) + 10"
    prepare = [f"n{i} = len(v{i})", f"w{i} = (n{i} + 7) >> 3"]
    return prepare, [f"v{i}", f"DATA_PADDING[n{i} & 7]"], f"(n{i} << 3) + 2"
