"""Takes the health port, before anything connects."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
from typing import Any

from ssmd_core.config import HealthAddress
from ssmd_core.errors import BindError

__all__ = ["bind"]

_ANY = "0.0.0.0"  # noqa: S104  a probe comes from another host
_BACKLOG = 64


def bind(host: str, port: int) -> socket.socket:
    """Return a socket that listens on the address; IPv4 where a name has both families.

    It listens at once, because two sockets with SO_REUSEADDR can hold the same address
    as long as neither does.

    Raises:
        BindError: the name is unknown, or the port is taken or not allowed.
    """
    address = HealthAddress(host, port)
    failure: OSError | None = None
    for family, sockaddr in _resolve(address):
        sock = socket.socket(family, socket.SOCK_STREAM)
        try:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                # "::" serves IPv4 too where the system has it.
                with contextlib.suppress(OSError):
                    sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
            sock.bind(sockaddr)
            sock.listen(_BACKLOG)
        except OSError as error:
            sock.close()
            failure = failure or error
        else:
            sock.settimeout(0)
            return sock
    raise BindError(f"health address {address}: {_reason(failure)}") from failure


def _resolve(address: HealthAddress) -> list[tuple[socket.AddressFamily, Any]]:
    try:
        found = socket.getaddrinfo(
            address.host, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
    except (OSError, UnicodeError) as error:
        raise BindError(
            f"health address {address}: the host is not known here ({error}); "
            f"{_ANY} listens on every interface"
        ) from error
    families = [(family, sockaddr) for family, _, _, _, sockaddr in found]
    return sorted(families, key=lambda entry: entry[0] != socket.AF_INET)


def _reason(failure: OSError | None) -> str:
    match failure:
        case OSError(errno=errno.EADDRINUSE):
            return "the port is taken by another process; choose another with --health-addr"
        case OSError(errno=errno.EACCES):
            return "this user may not take the port; choose one from 1024 on"
        case OSError(errno=errno.EADDRNOTAVAIL):
            return f"no interface of this machine has that address; {_ANY} listens on every one"
        case OSError(errno=int(number)):
            return os.strerror(number)
        case _:
            return "the name resolves to no address"
