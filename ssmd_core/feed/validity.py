"""Decides whether a text frame is valid JSON (RFC 8259, UTF-8), whatever its feed says."""

from __future__ import annotations

import re

import msgspec

__all__ = ["is_json", "is_utf8"]

_skip = msgspec.json.Decoder(msgspec.Raw).decode
_SPACE = re.compile(rb"[ \t\n\r]*+")
_STRING = re.compile(rb'"(?:[^"\\\x00-\x1f]|\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4}))*+"')
_SCALAR = re.compile(
    _STRING.pattern + rb"|-?(?:0|[1-9][0-9]*+)(?:\.[0-9]++)?+(?:[eE][+-]?[0-9]++)?+|true|false|null"
)


def is_utf8(data: bytes) -> bool:
    """Say whether the bytes are UTF-8 text."""
    if data.isascii():
        return True
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True


def is_json(data: bytes) -> bool:
    """Say whether UTF-8 bytes are one JSON text by the grammar of RFC 8259."""
    try:
        _skip(data)
    except (msgspec.DecodeError, RecursionError):
        # msgspec refuses some texts that the grammar allows, such as an escaped lone
        # surrogate or deep nesting, so its no is checked against the grammar itself.
        return _follows_grammar(data)
    return True


def _follows_grammar(data: bytes) -> bool:
    """Walk the grammar with a stack of our own: no depth is too deep."""
    closers = bytearray()
    at = _skip_space(data, 0)
    while True:
        # A value begins here.
        opener = data[at : at + 1]
        if opener in {b"[", b"{"}:
            closer = b"]" if opener == b"[" else b"}"
            closers += closer
            at = _skip_space(data, at + 1)
            if data[at : at + 1] != closer:
                if opener == b"{" and (at := _skip_key(data, at)) < 0:
                    return False
                continue
        else:
            scalar = _SCALAR.match(data, at)
            if scalar is None:
                return False
            at = _skip_space(data, scalar.end())
        # A value ended here, or a closer stands here.
        while closers and data[at : at + 1] == closers[-1:]:
            closers.pop()
            at = _skip_space(data, at + 1)
        if not closers:
            return at == len(data)
        if data[at : at + 1] != b",":
            return False
        at = _skip_space(data, at + 1)
        if closers[-1:] == b"}" and (at := _skip_key(data, at)) < 0:
            return False


def _skip_space(data: bytes, at: int) -> int:
    found = _SPACE.match(data, at)
    return found.end() if found else at


def _skip_key(data: bytes, at: int) -> int:
    """Return where the value of a member begins, or -1."""
    key = _STRING.match(data, at)
    if key is None:
        return -1
    at = _skip_space(data, key.end())
    return _skip_space(data, at + 1) if data[at : at + 1] == b":" else -1
