"""Decides which installed feed reads the frames of an archive, if any."""

from __future__ import annotations

from typing import NamedTuple

from ssmd_core.errors import SsmdError
from ssmd_core.feed import Feed, WebSocketFeed
from ssmd_core.plugins.registry import Registry

__all__ = ["Parser", "Parsers"]


class Parser(NamedTuple):
    """A feed that parses, or why there is none."""

    feed: WebSocketFeed | Feed | None
    why_not: str = ""


class Parsers:
    """Offline feeds by the ``plugin`` of a session, else by the feed's name; each made once."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._made: dict[str, Parser] = {}

    def parser(self, feed: str, plugin: str = "") -> Parser:
        """Return what reads the frames of a feed.

        Args:
            feed: its name.
            plugin: ``distribution:type``, as ``session_opened`` tells it; empty: not told.
        """
        spec = plugin or feed
        if spec not in self._made:
            self._made[spec] = self._make(spec)
        return self._made[spec]

    def _make(self, spec: str) -> Parser:
        try:
            record = self._registry.feed(spec)
        except SsmdError as error:
            return Parser(None, str(error))
        if record.offline is None:
            return Parser(None, f"the feed `{spec}` does not read frames offline")
        try:
            return Parser(record.offline())
        except Exception as error:  # noqa: BLE001  a stranger's code; the archive can be judged without
            return Parser(None, f"the feed `{spec}` cannot be made: {error!r}")
