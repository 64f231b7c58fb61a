"""Decides how the loopback venue plays alone, for connectors in other processes.

``python -m ssmd_kalshi.play --listen 0.0.0.0:8900 --key-file key.pem``
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import anyio

from ssmd_kalshi.demo import open_venue
from ssmd_kalshi.venue_keys import KeyPair, known_key, new_key

__all__ = ["KEY_ID", "keep_key", "main"]

_LAST_PORT = 65_535
KEY_ID = "loopback"
"""The API key id that the venue lets in."""


def main(argv: Sequence[str] | None = None) -> int:
    """Play until SIGTERM or SIGINT; return the exit code, 2 for a port or a file in the way."""
    asked = _parser().parse_args(argv)
    host, port = asked.listen
    try:
        anyio.run(_play, keep_key(asked.key_file), host, port)
    except (OSError, ValueError) as error:
        sys.stderr.write(f"Error: the venue at {host}:{port} with {asked.key_file}: {error}\n")
        return 2
    return 0


def keep_key(path: Path) -> KeyPair:
    """Return the key in a file, made now when there is none, so that a restart keeps it.

    Raises:
        OSError: the file can be neither read nor made.
        ValueError: it holds no private key.
    """
    try:
        return known_key(KEY_ID, path.read_text("ascii"))
    except FileNotFoundError:
        key = replace(new_key(), key_id=KEY_ID)
    aside = path.with_name(f".{path.name}.new")
    aside.unlink(missing_ok=True)
    with open(os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:  # noqa: PTH123  private from its first byte
        file.write(key.pem)
    # Whole or not there: a connector that waits for it never reads half a key.
    aside.replace(path)
    return key


async def _play(key: KeyPair, host: str, port: int) -> None:
    # Installed first: a process with the number 1 would not hear a signal without it.
    with anyio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        async with open_venue(key, host=host, port=port) as venue:
            sys.stderr.write(f"A loopback venue plays kalshi at {venue.url}, key id {KEY_ID}.\n")
            async for _ in signals:
                break


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m ssmd_kalshi.play",
        description="Play an invented Kalshi session to whoever holds the key.",
    )
    parser.add_argument("--listen", type=_address, required=True, metavar="HOST:PORT")
    parser.add_argument(
        "--key-file",
        type=Path,
        required=True,
        metavar="FILE",
        help=f"private key of the API key {KEY_ID}; made when there is none",
    )
    return parser


def _address(text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    if not host or not port.isdecimal() or int(port) > _LAST_PORT:
        raise argparse.ArgumentTypeError(
            f"{text!r} is not HOST:PORT with a port of 0 to {_LAST_PORT}"
        )
    return host.strip("[]"), int(port)


if __name__ == "__main__":
    sys.exit(main())
