"""Decides whether a text frame is valid JSON (RFC 8259, UTF-8), whatever its feed says."""

from __future__ import annotations

import json
from typing import NoReturn

import msgspec

__all__ = ["is_json", "is_utf8"]

_skip = msgspec.json.Decoder(msgspec.Raw).decode


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
        # msgspec refuses some texts that the grammar allows, such as an escaped
        # lone surrogate, so its no is asked again of a second decoder.
        return _strict(data)
    return True


def _strict(data: bytes) -> bool:
    try:
        json.loads(
            data.decode(), parse_constant=_refuse, parse_int=_keep, parse_float=_keep, strict=True
        )
    except (ValueError, RecursionError):
        return False
    return True


def _refuse(constant: str) -> NoReturn:
    raise ValueError(constant)


def _keep(number: str) -> str:
    return number
