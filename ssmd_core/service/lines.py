"""Decides what a log record looks like: one JSON object, or one line for people."""

from __future__ import annotations

import logging
import traceback
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

import msgspec

from ssmd_core.log import FIELDS
from ssmd_core.service.redaction import redact

__all__ = ["Lines", "as_json", "as_text"]

_OWN = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName", FIELDS}
"""What every record has; the rest is what its author added."""
_HEAD = ("timestamp", "level", "event")
_TAIL = ("logger", "error", "traceback")
_EVENT_WIDTH = 30
_LEVEL_WIDTH = 8
_COLOURS = {"error": 31, "critical": 31, "warning": 33, "info": 32}


class Lines(logging.Formatter):
    """A record as a line, secrets masked, written by ``render``."""

    def __init__(self, render: Callable[[Mapping[str, Any]], str]) -> None:
        super().__init__()
        self._render = render

    def format(self, record: logging.LogRecord) -> str:
        """Return the line, without its end."""
        shown: Mapping[str, Any] = redact(_told(record))
        return self._render(shown)


def as_json(event: Mapping[str, Any]) -> str:
    """Return one JSON object."""
    return msgspec.json.encode(event).decode()


def as_text(event: Mapping[str, Any], *, colours: bool = False) -> str:
    """Return a line for people; an exception follows on lines of its own."""
    level = str(event["level"])
    label = f"{level:<{_LEVEL_WIDTH}}"
    if colours:
        label = f"\x1b[{_COLOURS.get(level, 36)}m{label}\x1b[0m"
    fields = [f"{k}={_shown(v)}" for k, v in event.items() if k not in {*_HEAD, *_TAIL}]
    head = f"{event['timestamp']} [{label}] {event['event']:<{_EVENT_WIDTH}} [{event['logger']}]"
    return "\n".join(filter(None, (" ".join([head, *fields]), event.get("traceback"))))


def _told(record: logging.LogRecord) -> dict[str, Any]:
    fields = getattr(record, FIELDS, None)
    if fields is None:
        fields = {name: value for name, value in vars(record).items() if name not in _OWN}
    written = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="microseconds")
    event = {
        "timestamp": written.replace("+00:00", "Z"),
        "level": record.levelname.lower(),
        "event": record.getMessage(),
        # Whose line it is stands before what it says.
        **{name: value for name, value in fields.items() if name == "feed"},
        **{name: value for name, value in fields.items() if name not in _HEAD},
        "logger": record.name,
    }
    if record.stack_info:
        event["stack"] = record.stack_info
    error = record.exc_info[1] if record.exc_info else None
    if error is not None:
        event.setdefault("error", traceback.format_exception_only(error)[-1].strip())
        event["traceback"] = "".join(traceback.format_exception(error)).rstrip()
    return event


def _shown(value: Any) -> str:
    # A venue chooses some of it: no end of line and no escape reaches a terminal.
    plain = isinstance(value, str) and value.isprintable() and not set(value) & set(" =\"'")
    return value if plain and value else repr(value)
