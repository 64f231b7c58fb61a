"""A schema with everything that is packed, loaded once, and pycapnp's own way of packing."""

from __future__ import annotations

import itertools

import pytest

from ssmd_core.schema import load_schema

EVERYTHING = """
enum Colour { red @0; green @1; blue @2; }

struct Scalars {
  a @0 :Int8;
  b @1 :Int16;
  c @2 :Int32;
  d @3 :Int64;
  e @4 :UInt8;
  f @5 :UInt16;
  g @6 :UInt32;
  h @7 :UInt64;
  i @8 :Float32;
  j @9 :Float64;
  k @10 :Bool;
  l @11 :Colour;
}

struct Defaults {
  a @0 :Int8 = -7;
  b @1 :Int16 = 300;
  c @2 :Int32 = -70000;
  d @3 :Int64 = -9223372036854775808;
  e @4 :UInt8 = 255;
  f @5 :UInt16 = 513;
  g @6 :UInt32 = 4294967295;
  h @7 :UInt64 = 18446744073709551615;
  i @8 :Float32 = 1.5;
  j @9 :Float64 = -2.25;
  k @10 :Bool = true;
  l @11 :Colour = blue;
  m @12 :Text = "not empty";
}

struct Flags {
  a @0 :Bool;
  b @1 :Bool = true;
  gap @2 :UInt16;
  c @3 :Bool = true;
  d @4 :Bool;
  e @5 :Bool;
  f @6 :Bool = true;
  g @7 :Bool;
  h @8 :Bool;
  i @9 :Bool = true;
  j @10 :UInt8 = 3;
}

struct Texts {
  last @3 :Text;
  number @1 :UInt8;
  first @0 :Text;
  blob @2 :Data;
  class @4 :Text;
}

struct Numbers {
  a @0 :UInt8;
  b @1 :Float64;
  c @2 :UInt16;
}
"""


@pytest.fixture(scope="session")
def load_text(tmp_path_factory):
    """Write a schema text under a file id of its own, and load it."""
    folder = tmp_path_factory.mktemp("schemas")
    numbers = itertools.count(1)

    def load(text):
        number = next(numbers)
        path = folder / f"schema{number}.capnp"
        path.write_text(f"@0xc0ffee000000{number:04x};\n{text}")
        return load_schema(path)

    return load


@pytest.fixture(scope="session")
def everything(load_text):
    return load_text(EVERYTHING)


@pytest.fixture(scope="session")
def assign():
    """Pack by assigning attributes, as the reference does."""

    def pack(struct_type, fields):
        message = struct_type.new_message()
        for name, value in fields.items():
            setattr(message, name, value)
        return message.to_bytes()

    return pack
