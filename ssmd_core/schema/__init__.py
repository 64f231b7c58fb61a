"""Wire schemas: load the Cap'n Proto text, compile a fast packer, decode for people.

A stranger's schema needs a text, and one ``Wire`` a kind of record; ``open_codec``
makes the ``Encoder`` of it. Importing this package does not import pycapnp.
"""

from ssmd_core.schema.codec import (
    Codec,
    Decoder,
    Wire,
    open_codec,
    open_decoder,
    open_trade_v1,
    open_trade_v1_decoder,
    open_trade_v2,
)
from ssmd_core.schema.compile import Packer, compile_packer
from ssmd_core.schema.load import find_schema, load_schema

__all__ = [
    "Codec",
    "Decoder",
    "Packer",
    "Wire",
    "compile_packer",
    "find_schema",
    "load_schema",
    "open_codec",
    "open_decoder",
    "open_trade_v1",
    "open_trade_v1_decoder",
    "open_trade_v2",
]
