"""Decides which struct carries which kind of record, and hands out encoders and decoders."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ssmd_core.errors import RecordError, SchemaError
from ssmd_core.metrics import Metrics
from ssmd_core.records import Record
from ssmd_core.schema.compile import Packer, compile_packer
from ssmd_core.schema.load import find_schema, load_schema
from ssmd_core.schema.oracle import check_packer
from ssmd_core.schema.trade import TradeV1
from ssmd_core.schema.trade_v2 import TradeV2

__all__ = [
    "Codec",
    "Decoder",
    "Wire",
    "open_codec",
    "open_decoder",
    "open_trade_v1",
    "open_trade_v1_decoder",
    "open_trade_v2",
]

_TRADE_FILES = {"trade:v1": "trade.capnp", "trade:v2": "trade-v2.capnp"}
_TRADE_STRUCTS = {"trade": "Trade", "ticker": "Ticker"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Wire:
    """How one kind of record is written."""

    struct: str
    """Name of the struct in the schema."""
    values: Callable[[Any, int], tuple[Any, ...]]
    """Record, receipt time → the value of every field, in ordinal order; enumerants by name."""


class Codec:
    """An ``Encoder``: a schema compiled for the kinds it has a struct for."""

    __slots__ = ("_wires", "kinds", "label")

    def __init__(
        self, label: str, wires: Mapping[str, tuple[Callable[[Any, int], tuple[Any, ...]], Packer]]
    ) -> None:
        self.label = label
        self.kinds = frozenset(wires)
        self._wires = dict(wires)

    def encode(self, record: Record, ts: int = 0) -> bytes:
        """Return the wire form of a record whose frame was received at ``ts``.

        Raises:
            RecordError: no struct for this kind, or one that cannot carry the record.
        """
        try:
            values, pack = self._wires[record.kind]
            return pack(values(record, ts))
        except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
            if record.kind not in self._wires:
                raise RecordError(f"{self.label} has no struct for {record.kind}") from error
            raise RecordError(f"not a {record.kind} record as {self.label} knows it") from error


class Decoder:
    """Reads messages back through pycapnp: for people and tests, not for speed."""

    __slots__ = ("_structs", "label")

    def __init__(self, label: str, path: Path, structs: Mapping[str, str]) -> None:
        self.label = label
        schema = load_schema(path)
        self._structs = {kind: _find_struct(schema, name) for kind, name in structs.items()}

    def decode(self, kind: str, payload: bytes) -> dict[str, Any]:
        """Return field name → value of one message; an enum is the enumerant's name.

        Raises:
            SchemaError: the schema has no such kind, or the payload is no such message.
        """
        struct_type = self._structs.get(kind)
        if struct_type is None:
            raise SchemaError(f"{self.label} has no struct for {kind}")
        try:
            with struct_type.from_bytes(payload) as message:
                fields: dict[str, Any] = message.to_dict()
        except Exception as error:  # pycapnp raises KjException, ValueError, RuntimeError …
            raise SchemaError(f"not a {kind} message of {self.label}") from error
        return fields


def open_codec(label: str, path: Path, wires: Mapping[str, Wire]) -> Codec:
    """Compile a schema text, and check it against pycapnp.

    Args:
        label: ``name:version``.
        path: the schema text.
        wires: kind of record → how it is written.

    Raises:
        SchemaError: the text cannot be used, or packer and pycapnp disagree.
    """
    schema = load_schema(path)
    compiled = {}
    for kind, wire in wires.items():
        struct_type = _find_struct(schema, wire.struct)
        pack = compile_packer(struct_type)
        check_packer(struct_type, pack)
        compiled[kind] = wire.values, pack
    return Codec(label, compiled)


def open_trade_v1(metrics: Metrics) -> Codec:
    """Open ``trade:v1``; ``metrics`` counts what it rounds or saturates.

    Raises:
        SchemaError: the installation is broken.
    """
    return _open_trade("trade:v1", TradeV1(metrics))


def open_trade_v2(metrics: Metrics) -> Codec:
    """Open ``trade:v2``; ``metrics`` counts what it saturates.

    Raises:
        SchemaError: the installation is broken.
    """
    return _open_trade("trade:v2", TradeV2(metrics))


def open_decoder(label: str) -> Decoder:
    """Open the decoder of a schema that comes with ssmd, such as ``trade:v2``.

    Raises:
        SchemaError: none that comes with ssmd is called so.
    """
    file = _TRADE_FILES.get(label)
    if file is None:
        known = ", ".join(_TRADE_FILES)
        raise SchemaError(f"no decoder for {label}; there are {known}")
    return Decoder(label, find_schema(file), _TRADE_STRUCTS)


def open_trade_v1_decoder() -> Decoder:
    """Open the decoder of ``trade:v1``."""
    return open_decoder("trade:v1")


def _open_trade(label: str, rows: TradeV1 | TradeV2) -> Codec:
    return open_codec(
        label,
        find_schema(_TRADE_FILES[label]),
        {
            "trade": Wire(struct=_TRADE_STRUCTS["trade"], values=rows.trade),
            "ticker": Wire(struct=_TRADE_STRUCTS["ticker"], values=rows.ticker),
        },
    )


def _find_struct(schema: Any, name: str) -> Any:
    struct_type = getattr(schema, name, None)
    if struct_type is None:
        raise SchemaError(f"{schema.__file__}: no struct {name}")
    return struct_type
