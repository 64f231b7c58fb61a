"""Decides what people mean by a time, and which receipt times lie between two of them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from ssmd_core.clock import NS, day_of
from ssmd_core.errors import UsageError

__all__ = ["EVER", "Interval", "read_interval"]

_FORM = re.compile(
    r"(?P<day>\d{4}-\d\d-\d\d)"
    r"(?:[T ](?P<time>\d\d:\d\d(?::\d\d)?)(?:\.(?P<fraction>\d{1,9}))?"
    r"(?P<zone>Z|[+-]\d\d:\d\d)?)?"
)
_LAST = 1 << 63
_FORMS = "write a date as 2026-11-22, or a time as 2026-11-22T06:00:47.5Z"


@dataclass(frozen=True, slots=True)
class Interval:
    """Receipt times ``from_ts <= ts < to_ts``."""

    from_ts: int = 0
    to_ts: int = _LAST

    @property
    def is_open(self) -> bool:
        """Whether it has no end."""
        return self.to_ts == _LAST

    def __contains__(self, ts: int) -> bool:
        return self.from_ts <= ts < self.to_ts

    def meets(self, day: str) -> bool:
        """Say whether anything of a UTC day (``YYYY-MM-DD``) lies in it."""
        return day >= day_of(self.from_ts) and (self.is_open or day <= day_of(self.to_ts - 1))


EVER = Interval()


def read_interval(from_text: str | None, to_text: str | None) -> Interval:
    """Return the interval between two times in ISO form, UTC where they name no zone.

    A date is its whole day: as the beginning it is included, and so it is as the end. A
    time as the end is the first that is left out.

    Raises:
        UsageError: a text is no time, or nothing lies between them.
    """
    from_ts = EVER.from_ts if from_text is None else _read("--from", from_text)[0]
    to_ts = EVER.to_ts if to_text is None else _read("--to", to_text)[1]
    if from_ts >= to_ts:
        raise UsageError(f"nothing lies between --from {from_text} and --to {to_text}")
    return Interval(from_ts, to_ts)


def _read(option: str, text: str) -> tuple[int, int]:
    """Return the first nanosecond of a time, and the one from which on it is over."""
    match = _FORM.fullmatch(text.strip())
    if match is None:
        raise UsageError(f"{option} `{text}` is no time; {_FORMS}")
    try:
        moment = datetime.fromisoformat(f"{match['day']}T{match['time'] or '00:00'}")
        zone = datetime.fromisoformat(f"2000-01-01T00:00{match['zone'] or 'Z'}").tzinfo
        seconds = (moment.replace(tzinfo=zone) - datetime.fromtimestamp(0, UTC)) // _SECOND
    except (ValueError, OverflowError) as error:
        raise UsageError(f"{option} `{text}` is no time: {error}; {_FORMS}") from error
    ts = seconds * NS + int((match["fraction"] or "").ljust(9, "0"))
    if not 0 <= ts < _LAST:
        raise UsageError(f"{option} `{text}` is before 1970 or after 2262")
    return ts, ts if match["time"] else ts + 86_400 * NS


_SECOND = timedelta(seconds=1)
