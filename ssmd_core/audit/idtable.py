"""Decides whether a message id was seen, in nine bytes an id: hashes in an open table."""

from __future__ import annotations

from array import array
from collections.abc import Iterator

__all__ = ["IdTable"]

_MASK = (1 << 64) - 1


class IdTable:
    """Flags of message ids, by a hash of 64 bits. At most half full: 18 bytes an id, at best 36.

    Two ids of ten million share a hash with a chance of three in a million.
    """

    def __init__(self, capacity: int = 1 << 12) -> None:
        """``capacity`` is a power of two."""
        self._slots = array("Q", bytes(8 * capacity))
        self._flags = bytearray(capacity)
        self._mask = capacity - 1
        self._count = 0

    def __len__(self) -> int:
        """Return how many ids are known."""
        return self._count

    def get(self, name: str) -> int:
        """Return the flags of an id, 0 for one that is not known."""
        return self._flags[self._find(_hash(name))]

    def add(self, name: str, flags: int) -> int:
        """Give an id more flags; return those that it had."""
        key = _hash(name)
        place = self._find(key)
        had = self._flags[place]
        if not self._slots[place]:
            if self._count * 2 >= self._mask:
                self._grow()
                place = self._find(key)
            self._slots[place] = key
            self._count += 1
        self._flags[place] = had | flags
        return had

    def flags(self) -> Iterator[int]:
        """Yield the flags of every id."""
        return filter(None, self._flags)

    def _find(self, key: int) -> int:
        slots, mask = self._slots, self._mask
        place = key & mask
        while (held := slots[place]) != key and held:
            place = (place + 1) & mask
        return place

    def _grow(self) -> None:
        slots, flags = self._slots, self._flags
        capacity = 2 * len(slots)
        self._slots, self._flags = array("Q", bytes(8 * capacity)), bytearray(capacity)
        self._mask = capacity - 1
        for place, key in enumerate(slots):
            if key:
                new = self._find(key)
                self._slots[new] = key
                self._flags[new] = flags[place]


def _hash(name: str) -> int:
    return hash(name) & _MASK or 1
