"""How log lines look, which are written, and what never stands in them.

Everybody's lines, ours, a plugin's and a library's, go by the standard library's loggers
to standard error.
"""

from __future__ import annotations

import json
import logging
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial

from ssmd_core.errors import UsageError
from ssmd_core.service.lines import Lines, as_json, as_text
from ssmd_core.service.stderr import LineWriter

__all__ = ["TRACE", "Levels", "configure", "parse_levels"]

TRACE = 5
_STDERR = 2
_LEVELS = {
    "off": logging.CRITICAL + 10,
    "error": logging.ERROR,
    "warn": logging.WARNING,
    "warning": logging.WARNING,
    "info": logging.INFO,
    "debug": logging.DEBUG,
    "trace": TRACE,
}
_QUIET = ("asyncio", "fsspec", "botocore", "nats", "s3fs", "urllib3", "uvicorn", "websockets")
"""They say at ``info`` what concerns nobody but their authors."""


@dataclass(frozen=True, slots=True)
class Levels:
    """What is logged: from which level on, and for which loggers otherwise."""

    default: int
    targets: Mapping[str, int]
    unknown: tuple[str, ...] = ()
    """Parts of the text that make no sense."""


def parse_levels(text: str) -> Levels:
    """Read ``level``, ``target=level`` or a list of both with commas, as RUST_LOG has it.

    Targets are module names with dots or ``::``. ``ssmd`` and ``ssmd_connector``, the
    reference program, stand for the whole program and win over a bare level. Without
    either the level is ``info``.
    """
    own, bare = None, logging.INFO
    targets, unknown = {}, []
    for part in filter(None, (part.strip() for part in text.split(","))):
        target, separator, word = part.rpartition("=")
        level = _LEVELS.get(word.strip().lower())
        if level is None:
            unknown.append(part)
        elif not separator:
            bare = level
        elif re.fullmatch(r"ssmd(_connector\w*)?(::.*)?", target.strip()):
            own = level
        else:
            targets[target.strip().replace("::", ".")] = level
    return Levels(bare if own is None else own, targets, tuple(unknown))


def configure(level: str = "info", fmt: str | None = None) -> None:
    """Send every log line to standard error.

    Args:
        level: ``error``, ``warn``, ``info``, ``debug``, ``trace``, ``off``, or a list of
            ``target=level``. What makes no sense in it is a warning.
        fmt: ``console`` for people, ``json`` for one object a line; by default the first
            on a terminal, else the second.

    Raises:
        UsageError: ``fmt`` is neither.
    """
    if fmt not in {"console", "json", None}:
        raise UsageError(f"log format {fmt!r}: it is console or json")
    console = fmt == "console" if fmt else os.isatty(_STDERR)
    levels = parse_levels(level)
    handler = _Stderr(LineWriter(_STDERR), levels)
    handler.setFormatter(_formatter(console=console))
    _install(handler)
    logging.captureWarnings(capture=True)
    for part in levels.unknown:
        logging.getLogger(__name__).warning(
            "log level not understood", extra={"part": part, "allowed": list(_LEVELS)}
        )


class _Stderr(logging.Handler):
    """The one handler: what it cannot write it counts, and says so when it can again."""

    def __init__(self, writer: LineWriter, levels: Levels) -> None:
        super().__init__()
        self._writer = writer
        self.levels = levels

    def emit(self, record: logging.LogRecord) -> None:
        """Write one line. Raises nothing."""
        try:
            line = self.format(record)
        except Exception as error:  # noqa: BLE001  a broken argument never stops a capture
            why = f"{type(error).__name__} while formatting"
            line = json.dumps({"level": "error", "event": "log line lost", "error": why})
        if self._writer.write(line.encode("utf-8", "backslashreplace") + b"\n"):
            lost = self._writer.take_lost()
            if lost:
                self.emit(_lost(lost))


def _lost(lines: int) -> logging.LogRecord:
    fields = {"name": __name__, "levelno": logging.WARNING, "levelname": "WARNING"}
    return logging.makeLogRecord(
        {**fields, "msg": "log lines lost, as standard error did not take them", "lines": lines}
    )


def _install(handler: _Stderr) -> None:
    root = logging.getLogger()
    for old in [held for held in root.handlers if isinstance(held, _Stderr)]:
        root.removeHandler(old)
        for target in old.levels.targets:
            logging.getLogger(target).setLevel(logging.NOTSET)
    root.addHandler(handler)
    levels = handler.levels
    logging.addLevelName(TRACE, "TRACE")
    root.setLevel(levels.default)
    for name in _QUIET:
        logging.getLogger(name).setLevel(max(levels.default, logging.WARNING))
    for target, level in levels.targets.items():
        logging.getLogger(target).setLevel(level)


def _formatter(*, console: bool) -> logging.Formatter:
    if not console:
        return Lines(as_json)
    colours = os.isatty(_STDERR) and not os.environ.get("NO_COLOR")
    return Lines(partial(as_text, colours=colours))
