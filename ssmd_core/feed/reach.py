"""Decides which address of a host is taken: the first that answers, asked one after the other.

asyncio knows how to do this by itself, uvloop does not.
"""

from __future__ import annotations

import asyncio
import itertools
import socket
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import anyio

__all__ = ["Address", "alternating", "reach", "resolve"]

_STAGGER_SECONDS = 0.25
"""RFC 8305: an address that is silent so long does not keep the next one waiting."""


class Address(NamedTuple):
    """One place to connect to."""

    family: int
    sockaddr: Any
    """What ``socket.connect`` takes."""


async def resolve(host: str, port: int) -> Sequence[Address]:
    """Return the addresses of a host in the order to try them.

    Raises:
        OSError: the name is not known.
    """
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return alternating(Address(family, sockaddr) for family, _, _, _, sockaddr in found)


def alternating(addresses: Iterable[Address]) -> list[Address]:
    """Return them with the families by turns, so that a dead family costs one attempt."""
    families: dict[int, list[Address]] = {}
    for address in addresses:
        families.setdefault(address.family, []).append(address)
    rounds = itertools.zip_longest(*families.values())
    return [address for turn in rounds for address in turn if address is not None]


async def reach(addresses: Sequence[Address]) -> socket.socket:
    """Return a connected, non-blocking socket; the caller bounds the time.

    Raises:
        OSError: no address took the connection; says why for each.
    """
    race = _Race()
    try:
        async with anyio.create_task_group() as tasks:
            for address in addresses:
                settled = anyio.Event()
                tasks.start_soon(race.attempt, address, settled, tasks.cancel_scope)
                with anyio.move_on_after(_STAGGER_SECONDS):
                    await settled.wait()
    except BaseException:
        race.give_up()
        raise
    if race.won is None:
        raise _combined(race.faults)
    return race.won


class _Race:
    """The attempts of one call, of which at most one wins."""

    def __init__(self) -> None:
        self.won: socket.socket | None = None
        self.faults: list[OSError] = []

    async def attempt(
        self, address: Address, settled: anyio.Event, rivals: anyio.CancelScope
    ) -> None:
        try:
            sock = await _connected(address)
        except OSError as error:
            self.faults.append(error)
            settled.set()
            return
        if self.won is not None:  # two answered in one turn of the loop
            sock.close()
            return
        self.won = sock
        rivals.cancel()

    def give_up(self) -> None:
        if self.won is not None:
            self.won.close()


async def _connected(address: Address) -> socket.socket:
    sock = socket.socket(address.family, socket.SOCK_STREAM)
    try:
        sock.settimeout(0)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        await asyncio.get_running_loop().sock_connect(sock, address.sockaddr)
    except BaseException:
        sock.close()
        raise
    return sock


def _combined(faults: Sequence[OSError]) -> OSError:
    if len(faults) == 1:
        return faults[0]
    return OSError("; ".join(map(str, faults)) or "the name resolves to no address")
