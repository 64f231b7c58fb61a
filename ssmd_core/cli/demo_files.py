"""Decides which files a demo leaves behind: two that configure it, and what it captured."""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from ssmd_core.errors import UsageError
from ssmd_core.plugins import Demo

__all__ = ["ENVIRONMENT", "CapturedFile", "DemoFiles", "feed_file", "survey", "write_files"]

ENVIRONMENT = "demo"
_SHOWN_CHARACTERS = 160
_MARK = "# Written by `ssmd demo`, and written anew by the next one."
_FEED_NOTE = "# A feed file: which venue, where, and what to capture. The endpoint was a loopback."
_ENV_NOTE = "# An environment file: where what is captured goes."


@dataclass(frozen=True, slots=True)
class DemoFiles:
    """The files of a demo, all below one directory."""

    root: Path

    @property
    def feed(self) -> Path:
        """The feed file."""
        return self.root / "feed.yaml"

    @property
    def env(self) -> Path:
        """The environment file."""
        return self.root / "env.yaml"

    @property
    def archive(self) -> Path:
        """Root of the archive."""
        return self.root / "data"


@dataclass(frozen=True, slots=True)
class CapturedFile:
    """One file of the archive."""

    path: Path
    size_bytes: int
    lines: int
    first_line: str
    """Cut at 160 characters."""


def feed_file(name: str, demo: Demo) -> dict[str, Any]:
    """Return the feed file of a demo."""
    sockets = demo.endpoint.startswith("ws")
    return {
        "name": name,
        "feed_type": "websocket" if sockets else "rest",
        "versions": [
            {
                "version": "1.0",
                "endpoint": demo.endpoint,
                "protocol": {"transport": "websocket" if sockets else "https", "message": "json"},
            }
        ],
        "settings": dict(demo.settings),
    }


def env_file(name: str, archive: Path, bus_url: str | None) -> dict[str, Any]:
    """Return the environment file of a demo: an archive, and a bus where there is one."""
    transport: dict[str, Any] = {"transport_type": "memory"}
    if bus_url is not None:
        transport = {"transport_type": "nats", "url": bus_url, "create_stream": True}
    return {
        "name": ENVIRONMENT,
        "feed": name,
        "schema": "trade:v1",
        "transport": transport,
        "storage": {"storage_type": "local", "path": str(archive)},
    }


def write_files(root: Path, name: str, demo: Demo, bus_url: str | None) -> DemoFiles:
    """Write both files into ``root`` and return where they are.

    Raises:
        UsageError: the directory cannot be written to, or holds files of somebody else.
    """
    files = DemoFiles(root.resolve())
    contents = {
        files.feed: _yaml(_FEED_NOTE, feed_file(name, demo)),
        files.env: _yaml(_ENV_NOTE, env_file(name, files.archive, bus_url)),
    }
    try:
        root.mkdir(parents=True, exist_ok=True)
        for path in contents:
            if path.exists() and not path.read_text(encoding="utf-8").startswith(_MARK):
                raise UsageError(
                    f"{path} is not of a demo and stays as it is: choose another --path"
                )
        for path, text in contents.items():
            path.write_text(text, encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{root}: the demo cannot write there ({error}): try --path") from error
    return files


def survey(archive: Path, name: str) -> list[CapturedFile]:
    """Return the files of a feed below ``archive``, the newest day last."""
    return [_described(path) for path in sorted(archive.glob(f"*/{name}.*")) if path.is_file()]


def _described(path: Path) -> CapturedFile:
    lines, first = 0, b""
    with path.open("rb") as file:
        for line in file:
            first = first or line
            lines += 1
    text = first.decode(errors="replace").rstrip("\n")
    shown = text if len(text) <= _SHOWN_CHARACTERS else f"{text[: _SHOWN_CHARACTERS - 1]}…"
    return CapturedFile(path, path.stat().st_size, lines, shown)


def _yaml(note: str, content: Mapping[str, Any]) -> str:
    yaml = YAML()
    yaml.default_flow_style = False
    yaml.indent(mapping=2, sequence=4, offset=2)
    out = io.StringIO()
    yaml.dump(dict(content), out)
    return f"{_MARK}\n{note}\n{out.getvalue()}"
