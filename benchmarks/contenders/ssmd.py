"""How ssmd is run: the command of its users, with the two files of the deployment guide."""

from __future__ import annotations

import sys
from pathlib import Path

from ssmd_kalshi.venue import new_key

__all__ = ["command", "environ", "write_files"]

_FEED = """\
name: kalshi
feed_type: websocket
versions:
  - version: "1.0"
    endpoint: {url}
    protocol:
      transport: websocket
      message: json
"""
_ENV = """\
name: prod
feed: kalshi
schema: "trade:v1"
transport:
{transport}
storage:
  storage_type: local
{storage}"""


def write_files(folder: Path, url: str, archive: Path | None, bus: str | None, more: str) -> None:
    """Write the feed and the environment file of a run into ``folder``."""
    transport = "  transport_type: memory"
    if bus is not None:
        transport = f"  transport_type: nats\n  url: {bus}{more}"
    storage = "" if archive is None else f"  path: {archive}\n"
    (folder / "feed.yaml").write_text(_FEED.format(url=url), "utf-8")
    text = _ENV.format(transport=transport, storage=storage)
    (folder / "env.yaml").write_text(text, "utf-8")


def command(health_port: int) -> list[str]:
    """Return the command line, to be run in the folder of the two files."""
    health = f"127.0.0.1:{health_port}"
    program = str(Path(sys.executable).with_name("ssmd"))
    return [program, "--feed", "feed.yaml", "--env", "env.yaml", "--health-addr", health]


def environ() -> dict[str, str]:
    """Return the credentials of a key that nobody else has."""
    return new_key().environ
