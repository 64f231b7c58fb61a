"""Decides how coverage looks in a terminal: a bar over the day, and a table of its holes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from ssmd_core.audit.channel_day import ChannelDay, Hole, Repair
from ssmd_core.audit.events import DAY_NS, day_start
from ssmd_core.audit.intervals import Interval, intersect, total_ns
from ssmd_core.clock import iso

__all__ = ["CELLS", "CoveredDay", "bar", "hole_rows", "picture"]

CELLS = 48
"""Of a bar: half an hour each."""
_MOST_HOLES = 40
_NARROWEST = 100
_COVERED, _REPAIRED, _HOLE, _OUTSIDE = "█", "▓", "░", "·"
_STYLES = {_COVERED: "green", _REPAIRED: "yellow", _HOLE: "bold red", _OUTSIDE: "dim"}
_REPAIRS = {Repair.WHOLE: "yes", Repair.PART: "in part", Repair.NONE: "no"}


@dataclass(frozen=True, slots=True, kw_only=True)
class CoveredDay:
    """One feed on one day."""

    day: str
    feed: str
    channels: Sequence[ChannelDay]
    repairs: Mapping[str, bool | None]
    """Channel → whether what it missed can be brought back; None: nobody knows."""


def picture(place: str, days: Sequence[CoveredDay]) -> None:
    """Print each day."""
    console = Console(highlight=False, soft_wrap=True)
    console.width = max(console.width, _NARROWEST)
    console.print(Text(place, style="bold"))
    for day in days:
        console.print(_drawn(day))
    legend = Text()
    words = ("covered", "repaired", "hole", "not asked for")
    for mark, word in zip(_STYLES, words, strict=True):
        legend.append(f"{mark} ", style=_STYLES[mark]).append(f"{word}  ")
    console.print(Group("", legend))


def bar(channel: ChannelDay, day: str) -> str:
    """Return one mark for each half hour of a day: the worst that happened in it shows."""
    return "".join(_mark(channel, cell) for cell in _cells(day))


def hole_rows(channel: ChannelDay, can_repair: bool | None) -> Iterator[tuple[str, ...]]:  # noqa: FBT001  of three values
    """Yield from, to, seconds, why, and whether it was repaired, of the longest holes in order."""
    longest = sorted(channel.holes, key=_length, reverse=True)[:_MOST_HOLES]
    for hole in sorted(longest, key=lambda hole: hole.interval):
        repaired = _REPAIRS[hole.repair]
        if can_repair is False and hole.repair is Repair.NONE:
            repaired = "cannot be"
        yield (
            iso(hole.interval.from_ts)[11:23],
            iso(hole.interval.to_ts)[11:23],
            f"{_length(hole) / 1e9:,.3f}",
            hole.why,
            repaired,
        )


def _length(hole: Hole) -> int:
    return hole.interval.length_ns


def _cells(day: str) -> Iterator[Interval]:
    start, width = day_start(day), DAY_NS // CELLS
    for cell in range(CELLS):
        yield Interval(start + cell * width, start + (cell + 1) * width)


def _mark(channel: ChannelDay, cell: Interval) -> str:
    wanted = intersect([channel.span], [cell])
    if not wanted:
        return _OUTSIDE
    holes = [hole for hole in channel.holes if intersect([hole.interval], [cell])]
    if any(hole.repair is not Repair.WHOLE for hole in holes):
        return _HOLE
    return _REPAIRED if holes else _COVERED


def _drawn(day: CoveredDay) -> RenderableType:
    bars = Table(box=None, header_style="dim", padding=(0, 1))
    for name in ("channel", "00    03    06    09    12    15    18    21", ""):
        bars.add_column(name, no_wrap=True)
    for name in ("covered s", "missing s"):
        bars.add_column(name, justify="right")
    parts: list[RenderableType] = ["", Text(f"{day.feed}  {day.day}", style="bold"), bars]
    for channel in day.channels:
        bars.add_row(*_bar_row(channel, day))
        holes = _holes(channel, day.repairs[channel.key.channel])
        if holes is not None:
            parts += ["", holes]
    return Group(*parts)


def _bar_row(channel: ChannelDay, day: CoveredDay) -> Iterator[Text]:
    drawn = Text()
    for mark in bar(channel, day.day):
        drawn.append(mark, style=_STYLES[mark])
    total, covered = channel.span.length_ns, total_ns(channel.covered)
    missing = total - covered - total_ns(channel.repaired)
    yield Text(_name(channel))
    yield drawn
    yield Text(f"{100 * covered / total:.3f} %")
    yield Text(f"{covered / 1e9:,.0f}")
    yield Text(f"{missing / 1e9:,.3f}")


def _name(channel: ChannelDay) -> str:
    return (
        f"{channel.key.channel} ({channel.key.conn})" if channel.key.conn else channel.key.channel
    )


def _holes(channel: ChannelDay, can_repair: bool | None) -> RenderableType | None:  # noqa: FBT001  of three values
    if not channel.holes:
        return None
    table = Table(box=None, header_style="dim", padding=(0, 1))
    for name in ("from", "to"):
        table.add_column(name, no_wrap=True)
    table.add_column("seconds", justify="right")
    table.add_column("why")
    table.add_column("repaired")
    for row in hole_rows(channel, can_repair):
        table.add_row(*map(Text, row))
    head = f"holes of {_name(channel)}"
    if can_repair is False:
        # Whether the latest message or a snapshot makes up for it, the ledger does not show.
        head += ": nothing can be fetched afterwards, what was said meanwhile is gone"
    left = len(channel.holes) - _MOST_HOLES
    return Group(Text(head), table, *([Text(f"… and {left:,} shorter ones")] if left > 0 else []))
