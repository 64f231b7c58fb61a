"""`ssmd verify`: whether an archive holds what was received, less what is declared as lost."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence

import anyio
import typer

from ssmd_core.audit.comparison import BusTotals
from ssmd_core.audit.findings import Finding, Findings, counted
from ssmd_core.audit.parsers import Parsers
from ssmd_core.audit.report import Report, report_json
from ssmd_core.audit.totals import DayTotals
from ssmd_core.audit.verify import FeedAudit
from ssmd_core.cli.archives import choose_feeds, choose_scopes, read_up_to
from ssmd_core.cli.verify_bus import find_bus, name_extras, read_bus
from ssmd_core.clock import iso
from ssmd_core.plugins.index import PluginIndex
from ssmd_core.plugins.registry import Registry
from ssmd_core.service.archives import open_archive

__all__ = ["verify"]


def verify(
    place: str,
    environ: Mapping[str, str],
    *,
    bus: str | None = None,
    env: str | None = None,
    feed: str | None = None,
    date: str | None = None,
    as_json: bool = False,
) -> int:
    """Check an archive, print what was found, return 0, or 1 where something is unexplained.

    Raises:
        StartError: nothing to check at ``place``, an unknown feed or date, a bus that cannot
            be read (exit 2).
    """
    registry = Registry(PluginIndex.installed())
    found_bus = find_bus(bus, env, registry, environ)
    findings, days, compared = Findings(), list[DayTotals](), list[BusTotals]()
    with open_archive(place, registry, environ) as archive:
        feeds = choose_feeds(archive, feed)
        # First: what was not at work then has written all that it ever will.
        live = {name: archive.is_live(name) for name in feeds}
        upto = read_up_to(archive, feeds)
        parsers = Parsers(registry)
        for scope in choose_scopes(archive, feeds, date, upto):
            asked = found_bus if found_bus and found_bus.feed in {"", scope.feed} else None
            comparison = anyio.run(read_bus, asked, archive, scope, registry) if asked else None
            audit = FeedAudit(
                archive, scope, parsers, findings, comparison, is_live=live[scope.feed]
            )
            days += audit.run()
            if asked and comparison:
                if comparison.holdings.begun and comparison.has_extras:
                    anyio.run(name_extras, asked, comparison)
                totals = comparison.judge(audit.declared, findings, unread=audit.unread)
                compared += [] if totals is None else [totals]
        report = Report(place=archive.place, upto=upto, days=days, findings=findings, bus=compared)
    typer.echo(json.dumps(report_json(report)) if as_json else "\n".join(_told(report)))
    return int(findings.unexplained() > 0)


# ── for people ───────────────────────────────────────────────────────────────────

_COLUMNS = (
    *("day", "feed", "channel", "sessions", "frames", "covered"),
    *("gaps", "missing", "lost", "repaired", "unexplained"),
)
_TEXT_COLUMNS = 3


def _told(report: Report) -> Iterator[str]:
    rows = [_COLUMNS, *(row for day in report.days for row in _rows(day, report.findings))]
    yield from _aligned(rows)
    yield ""
    for totals in report.bus:
        yield _bus_line(totals)
    told = sorted(report.findings, key=lambda finding: finding.explained)
    for finding in told:
        yield _finding_line(finding)
    if report.findings.omitted:
        yield f"… and {report.findings.omitted:,} more of the same kinds"
    if report.bus or told:
        yield ""
    frames = sum(day.frames for day in report.days)
    what = f"{report.place}: {counted(frames, 'frame')}, {counted(len(report.days), 'day')}, up to "
    what += iso(report.upto)[:19] + "Z"
    unexplained = report.findings.unexplained()
    yield f"{what}: {f'{unexplained:,} unexplained' if unexplained else 'everything is explained'}"


def _rows(day: DayTotals, findings: Findings) -> Iterator[tuple[str, ...]]:
    channels = sorted(day.channels.items())
    yield (
        day.day,
        day.feed,
        "all",
        f"{day.sessions:,}",
        f"{day.frames:,}",
        "",
        f"{sum(channel.gaps for _, channel in channels):,}",
        f"{sum(channel.missing for _, channel in channels):,}",
        f"{day.dropped_frames:,}",
        f"{sum(channel.repaired for _, channel in channels):,}",
        f"{findings.unexplained(day.feed, day.day):,}",
    )
    for name, channel in channels:
        yield (
            "",
            "",
            name,
            "",
            "" if channel.frames is None else f"{channel.frames:,}",
            _duration(channel.covered_seconds),
            f"{channel.gaps:,}",
            f"{channel.missing:,}",
            "",
            f"{channel.repaired:,}",
            f"{findings.unexplained_of(day.feed, day.day, name):,}",
        )


def _duration(seconds: float | None) -> str:
    if seconds is None:
        return ""
    minutes, rest = divmod(int(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02}:{rest:02}"


def _bus_line(totals: BusTotals) -> str:
    counts = f"{totals.missing.count:,} missing, {totals.extra.count:,} extra, "
    counts += f"{totals.duplicates.count:,} twice, {totals.disordered.count:,} out of order"
    between = f"{iso(totals.after)[:19]}Z to {iso(totals.upto)[:19]}Z"
    head = f"bus     {totals.environment}.{totals.feed} from {between}"
    return f"{head}: {totals.expected:,} expected, {counts}"


def _finding_line(finding: Finding) -> str:
    head = "ok" if finding.explained else "FAULT"
    where = f" (connection {finding.conn})" if finding.conn else ""
    when = f" at {iso(finding.from_ts)[:23]}Z" if finding.from_ts else ""
    return f"{head:<8}{finding.day} {finding.feed}{where}{when}: {finding.text}"


def _aligned(rows: Sequence[tuple[str, ...]]) -> Iterator[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = [
            cell.ljust(width) if place < _TEXT_COLUMNS else cell.rjust(width)
            for place, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        yield "  ".join(cells).rstrip()
