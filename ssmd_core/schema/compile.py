"""Decides the bytes of a message: compiles one function a struct that packs its values.

The function is written as source, as ``dataclasses`` does, because every step that a
general loop would take per field costs as much as the packing itself. Only numbers
of the layout get into the source; names of the schema never do.

Messages whose texts are as long as each other's differ in nothing but values: their
shape is worked out once, and one call of ``struct`` packs all of it.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

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

_MAX_SHAPES = 1024

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
        "REFUSALS": _REFUSALS,
        "TooLong": _TooLong,
        "bits32": _bits32,
        "bits64": _bits64,
        "refuse": refuse,
        "pack_long": pack_long,
        "shapes": _Shapes(layout),
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


# ── shapes ───────────────────────────────────────────────────────────────────────


class _TooLong(Exception):
    """The message does not fit the first segment."""


class _Shape(NamedTuple):
    """How messages are packed whose texts have certain lengths."""

    pack: Callable[..., bytes]
    """Takes framing, the data section's values, pointers, texts; fills up with zeros."""
    framing: bytes
    """Segment count less one, words of the segment, root pointer."""
    pointers: bytes


class _Shapes(dict[int | tuple[int, ...], _Shape]):
    """Bytes of each text → shape; a struct with one text has no tuple around them.

    Raises:
        _TooLong: for such lengths.
    """

    def __init__(self, layout: Layout) -> None:
        super().__init__()
        self._layout = layout

    def __missing__(self, key: int | tuple[int, ...]) -> _Shape:
        shape = _plan_shape(self._layout, key if isinstance(key, tuple) else (key,))
        if len(self) >= _MAX_SHAPES:
            self.clear()
        self[key] = shape
        return shape


def _plan_shape(layout: Layout, sizes: Sequence[int]) -> _Shape:
    pointers = bytearray(8 * layout.pointers)
    text_format = ""
    words = layout.data_words + layout.pointers
    # Texts stand behind the struct in ordinal order: the order they are assigned in.
    for field, size in zip(_pointer_fields(layout), sizes, strict=True):
        stored = size + 1 if field.type == "text" else size  # a text ends with a NUL
        offset = words - (layout.data_words + field.place + 1)
        # A list pointer (1) to bytes (2).
        struct.pack_into("<II", pointers, 8 * field.place, offset << 2 | 1, stored << 3 | 2)
        text_words = (stored + 7) // 8
        text_format += f"{8 * text_words}s"
        words += text_words
    if 1 + words > _FIRST_SEGMENT_WORDS:
        raise _TooLong
    root = layout.data_words << 32 | layout.pointers << 48
    return _Shape(
        struct.Struct(f"<16s{_data_format(layout)}{len(pointers)}s{text_format}").pack,
        struct.pack("<4xIQ", 1 + words, root),
        bytes(pointers),
    )


def _pointer_fields(layout: Layout) -> list[Field]:
    return [field for field in layout.fields if field.is_pointer]


def _data_format(layout: Layout) -> str:
    parts: list[str] = []
    end = 0
    for byte, code, _ in _data_slots(layout):
        parts.append(f"{byte - end}x{code}")
        end = byte + struct.calcsize("<" + code)
    return "".join([*parts, f"{layout.data_words * 8 - end}x"])


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


def _write_source(layout: Layout) -> str:
    arguments = ", ".join(f"v{i}" for i in range(len(layout.fields)))
    texts = [i for i, field in enumerate(layout.fields) if field.is_pointer]
    encode = [f"v{i} = v{i}.encode()" for i in texts if layout.fields[i].type == "text"]
    sizes = ", ".join(f"len(v{i})" for i in texts)
    data = [expression for _, _, expression in _data_slots(layout)]
    packed = ", ".join(["framing", *data, "pointers", *(f"v{i}" for i in texts)])
    lines = [
        "def pack(values):",
        f"    ({arguments},) = values",
        "    try:",
        *(f"        {statement}" for statement in encode),
        f"        pack_shape, framing, pointers = shapes[{sizes or '()'}]",
        f"        return pack_shape({packed})",
        "    except TooLong:",
        "        return pack_long(values)",
        "    except REFUSALS as error:",
        "        raise refuse(values) from error",
    ]
    return "\n".join(lines)
