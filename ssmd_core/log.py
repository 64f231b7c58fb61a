"""How the program says something: an event and its fields, by the standard library's loggers."""

from __future__ import annotations

import logging
from typing import Any

__all__ = ["FIELDS", "EventLog", "get_logger"]

FIELDS = "ssmd_fields"
"""The attribute of a log record that holds the fields of its event."""


class EventLog:
    """Say events. A field ``exc_info`` is what the standard library means by it."""

    __slots__ = ("_logger",)

    def __init__(self, logger: logging.Logger) -> None:
        self._logger = logger

    def debug(self, event: str, **fields: Any) -> None:
        """Say what only its authors want to know."""
        self._say(logging.DEBUG, event, fields)

    def info(self, event: str, **fields: Any) -> None:
        """Say what happened as it should."""
        self._say(logging.INFO, event, fields)

    def warning(self, event: str, **fields: Any) -> None:
        """Say what an operator should know of."""
        self._say(logging.WARNING, event, fields)

    def error(self, event: str, **fields: Any) -> None:
        """Say what failed."""
        self._say(logging.ERROR, event, fields)

    def exception(self, event: str, **fields: Any) -> None:
        """Say what failed, with the exception that is being handled."""
        self._say(logging.ERROR, event, {"exc_info": True, **fields})

    def _say(self, level: int, event: str, fields: dict[str, Any]) -> None:
        exc_info = fields.pop("exc_info", None)
        self._logger.log(level, event, exc_info=exc_info, extra={FIELDS: fields})


def get_logger(name: str) -> EventLog:
    """Return what speaks under the name of a logger."""
    return EventLog(logging.getLogger(name))
