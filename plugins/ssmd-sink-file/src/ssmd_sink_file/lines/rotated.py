"""Decides which finished files a ledger speaks of."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import msgspec

__all__ = ["files_named"]


class _Rotated(msgspec.Struct, tag_field="event", tag="rotated"):
    file: str


_decode = msgspec.json.Decoder(_Rotated).decode


def files_named(lines: Iterable[bytes]) -> Iterator[str]:
    """Yield the files that ``rotated`` lines among some lines of a ledger name."""
    for line in lines:
        if b'"rotated"' in line:
            try:
                yield _decode(line).file
            except msgspec.DecodeError:
                continue
