"""Decides how the outcome of the conservation check is written as JSON.

One object. Within a ``version`` keys are only added, and none changes its meaning. Times
are text as in the archive, or null; days are ``YYYY-MM-DD``, UTC.

```text
version      1
place        path or URL of the archive, without credentials
upto         what is newer was not looked at
ok           nothing is unexplained; the exit code is 0 then, else 1
unexplained  how many findings are unexplained
days         [{day, feed, sessions, frames, fetched, ledger_lines, unexplained,
               dropped: {frames, messages, ledger_lines}, torn_bytes, failing_seconds,
               events: {event: how many lines},
               channels: [{channel, frames, covered_seconds, gaps, missing, repaired,
                           repaired_records, unrepaired, unexplained}]}]
findings     [{kind, explained, day, feed, conn, channel, session, from, to, text}]
             the first 50 of a kind and day
omitted      how many findings are counted above and not listed
bus          [{feed, environment, after, upto, stored, expected, older, missing, extra,
               duplicates, disordered, examples: {missing: [{id, subject, ts}], …}}]
             empty where no bus was asked for, or it holds nothing live of the feed
```

``frames`` of a channel is null where no installed plugin reads them. ``sessions`` are those
that ran at any time of the day; ``frames`` are lines of the archive, ``fetched`` the bodies
of its REST file. ``covered_seconds`` is that of the connection that was covered least.
``kind`` is one of the values of ``ssmd_core.audit.findings.Kind``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ssmd_core.audit.comparison import BusTotals
from ssmd_core.audit.findings import Finding, Findings
from ssmd_core.audit.holdings import Tally
from ssmd_core.audit.totals import DayTotals
from ssmd_core.clock import iso

__all__ = ["Report", "report_json"]

VERSION = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What was found in an archive."""

    place: str
    upto: int
    days: Sequence[DayTotals]
    findings: Findings
    bus: Sequence[BusTotals]


def report_json(report: Report) -> dict[str, Any]:
    """Return the outcome made of plain JSON values."""
    unexplained = report.findings.unexplained()
    return {
        "version": VERSION,
        "place": report.place,
        "upto": iso(report.upto),
        "ok": not unexplained,
        "unexplained": unexplained,
        "days": [_day(day, report.findings) for day in report.days],
        "findings": [_finding(each) for each in report.findings],
        "omitted": report.findings.omitted,
        "bus": [_bus(each) for each in report.bus],
    }


def _day(day: DayTotals, findings: Findings) -> dict[str, Any]:
    return {
        "day": day.day,
        "feed": day.feed,
        "sessions": day.sessions,
        "frames": day.frames,
        "fetched": day.fetched,
        "ledger_lines": day.ledger_lines,
        "unexplained": findings.unexplained(day.feed, day.day),
        "dropped": {
            "frames": day.dropped_frames,
            "messages": day.dropped_messages,
            "ledger_lines": day.dropped_lines,
        },
        "torn_bytes": day.torn_bytes,
        "failing_seconds": round(day.failing_seconds, 3),
        "events": dict(sorted(day.events.items())),
        "channels": [
            {
                "channel": name,
                "frames": channel.frames,
                "covered_seconds": _seconds(channel.covered_seconds),
                "gaps": channel.gaps,
                "missing": channel.missing,
                "repaired": channel.repaired,
                "repaired_records": channel.repaired_records,
                "unrepaired": channel.unrepaired,
                "unexplained": findings.unexplained_of(day.feed, day.day, name),
            }
            for name, channel in sorted(day.channels.items())
        ],
    }


def _finding(finding: Finding) -> dict[str, Any]:
    return {
        "kind": finding.kind.value,
        "explained": finding.explained,
        "day": finding.day,
        "feed": finding.feed,
        "conn": finding.conn,
        "channel": finding.channel,
        "session": finding.session,
        "from": _time(finding.from_ts),
        "to": _time(finding.to_ts),
        "text": finding.text,
    }


def _bus(totals: BusTotals) -> dict[str, Any]:
    tallies = {
        "missing": totals.missing,
        "extra": totals.extra,
        "duplicates": totals.duplicates,
        "disordered": totals.disordered,
    }
    return {
        "feed": totals.feed,
        "environment": totals.environment,
        "after": _time(totals.after),
        "upto": _time(totals.upto),
        "stored": totals.stored,
        "expected": totals.expected,
        "older": totals.older,
        **{name: tally.count for name, tally in tallies.items()},
        "examples": {name: _examples(tally) for name, tally in tallies.items()},
    }


def _examples(tally: Tally) -> list[dict[str, Any]]:
    return [
        {"id": each.msg_id, "subject": each.subject, "ts": _time(each.ts)}
        for each in tally.examples
    ]


def _time(ts: int | None) -> str | None:
    return iso(ts) if ts else None


def _seconds(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 3)
