"""`ssmd coverage`: is a quiet market quiet, or did we miss it? From the ledger alone.

With ``--json`` one object. Within a ``version`` keys are only added. Times are text as in
the archive; days are ``YYYY-MM-DD``, UTC.

```text
version  1
place    path or URL of the archive, without credentials
upto     what is newer was not looked at
days     [{day, feed, channels: [{conn, channel, from, to, covered_seconds,
           repaired_seconds, missing_seconds, repair, covered: [[from, to]],
           holes: [{from, to, seconds, why, repaired}]}]}]
```

``from`` and ``to`` of a channel are when it was wanted that day. ``repair`` is "possible",
"impossible" (nobody repeats what was said), or null where no installed plugin tells.
``repaired`` of a hole is "whole", "part" or "none"; ``missing_seconds`` is what is neither
covered nor repaired.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from datetime import date as calendar
from datetime import timedelta
from typing import Any

import typer

from ssmd_core.audit.channel_day import ChannelDay
from ssmd_core.audit.coverage import Coverage
from ssmd_core.audit.findings import Findings
from ssmd_core.audit.ledger import LedgerReader
from ssmd_core.audit.parsers import Parsers
from ssmd_core.audit.repairs import can_be_repaired
from ssmd_core.audit.scope import Scope
from ssmd_core.cli.archives import choose_feeds, choose_scopes, read_up_to
from ssmd_core.cli.coverage_view import CoveredDay, picture
from ssmd_core.clock import iso
from ssmd_core.plugins.index import PluginIndex
from ssmd_core.plugins.registry import Registry
from ssmd_core.service.archives import open_archive
from ssmd_core.sink.archive import Archive

__all__ = ["coverage"]

VERSION = 1


def coverage(
    place: str,
    environ: Mapping[str, str],
    *,
    feed: str | None = None,
    date: str | None = None,
    as_json: bool = False,
) -> int:
    """Print when each channel was covered; return 0.

    Raises:
        StartError: nothing at ``place``, an unknown feed or date (exit 2).
    """
    registry = Registry(PluginIndex.installed())
    parsers = Parsers(registry)
    with open_archive(place, registry, environ) as archive:
        feeds = choose_feeds(archive, feed)
        upto = read_up_to(archive, feeds)
        days = [
            day
            for scope in choose_scopes(archive, feeds, date, upto)
            for day in _days(archive, scope, parsers)
        ]
        shown = archive.place
    if as_json:
        told = {"version": VERSION, "place": shown, "upto": iso(upto), "days": [*map(_day, days)]}
        typer.echo(json.dumps(told))
    else:
        picture(shown, days)
    return 0


def _days(archive: Archive, scope: Scope, parsers: Parsers) -> Iterator[CoveredDay]:
    """Follow the ledger of one feed; yield each day once the day after it is read."""
    ledger, fold, findings = LedgerReader(archive, scope.feed, scope.upto), Coverage(), Findings()
    days = [day for day in (scope.before, *scope.days, scope.after) if day is not None]
    plugin = ""
    for place, day in enumerate(days):
        for event in ledger.read(day, findings):
            fold.take(event)
            plugin = event.text("plugin") or plugin
        if place and days[place - 1] in scope.days:
            yield from _covered(fold, scope, (days[place - 1], day), parsers, plugin)
    if days[-1] in scope.days:
        yield from _covered(fold, scope, (days[-1], None), parsers, plugin)


def _covered(
    fold: Coverage, scope: Scope, days: tuple[str, str | None], parsers: Parsers, plugin: str
) -> Iterator[CoveredDay]:
    """Yield a day, and those up to the next of which the archive has nothing."""
    first, following = days
    for day in _until(first, following if scope.before is scope.after is None else None):
        channels = fold.day(day, scope.upto)
        repairs = {
            name: can_be_repaired(parsers.parser(scope.feed, plugin).feed, name)
            for name in {each.key.channel for each in channels}
        }
        yield CoveredDay(day=day, feed=scope.feed, channels=channels, repairs=repairs)


def _until(first: str, following: str | None) -> Iterator[str]:
    day = calendar.fromisoformat(first)
    yield first
    while following is not None and (day := day + timedelta(days=1)).isoformat() < following:
        yield day.isoformat()


def _day(day: CoveredDay) -> dict[str, Any]:
    return {
        "day": day.day,
        "feed": day.feed,
        "channels": [_channel(each, day.repairs[each.key.channel]) for each in day.channels],
    }


def _channel(channel: ChannelDay, can_repair: bool | None) -> dict[str, Any]:  # noqa: FBT001  of three values
    total, covered = channel.span.length_ns / 1e9, channel.covered_seconds
    words = {True: "possible", False: "impossible", None: None}
    return {
        "conn": channel.key.conn,
        "channel": channel.key.channel,
        "from": iso(channel.span.from_ts),
        "to": iso(channel.span.to_ts),
        "covered_seconds": round(covered, 3),
        "repaired_seconds": round(channel.repaired_seconds, 3),
        "missing_seconds": round(total - covered - channel.repaired_seconds, 3),
        "repair": words[can_repair],
        "covered": [[iso(each.from_ts), iso(each.to_ts)] for each in channel.covered],
        "holes": [
            {
                "from": iso(hole.interval.from_ts),
                "to": iso(hole.interval.to_ts),
                "seconds": round(hole.interval.length_ns / 1e9, 9),
                "why": hole.why,
                "repaired": hole.repair.value,
            }
            for hole in channel.holes
        ],
    }
