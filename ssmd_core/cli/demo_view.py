"""Decides how a demo looks: a live picture on a terminal, lines elsewhere, a summary at the end."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path

from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from ssmd_core.cli.demo_files import CapturedFile
from ssmd_core.cli.demo_watch import BusMessage, Glimpse
from ssmd_core.metrics import Metrics
from ssmd_core.records import SCALE, Side, Trade

__all__ = ["line", "picture", "size", "summary"]

_KIB = 1024
_MOST_TYPES = 6
_SUBJECT_CELLS = 40


def size(count: int) -> str:
    """Return bytes as people read them."""
    value, unit = float(count), "B"
    for bigger in ("kB", "MB", "GB"):
        if value < _KIB:
            break
        value, unit = value / _KIB, bigger
    return f"{count} B" if unit == "B" else f"{value:.1f} {unit}"


def line(glimpse: Glimpse) -> str:
    """Return the capture on one line, for where there is no terminal."""
    parts = [
        f"{glimpse.elapsed_seconds:5.1f} s",
        f"{glimpse.frames:,} frames",
        f"{glimpse.rate:,.0f}/s",
        _by_type(glimpse.messages),
        f"age {glimpse.age_ms:.1f} ms",
        f"archive {size(glimpse.archived_bytes)}",
    ]
    if glimpse.nats:
        parts.append(f"bus {glimpse.published:,} acknowledged")
    parts.append("ready" if glimpse.ready else f"not ready: {'; '.join(glimpse.reasons)}")
    return "  ".join(part for part in parts if part)


def picture(glimpse: Glimpse) -> RenderableType:
    """Return the capture as a panel."""
    numbers = Table.grid(padding=(0, 2))
    numbers.add_column(style="dim")
    numbers.add_column()
    numbers.add_row("frames", f"{glimpse.frames:,}  ({glimpse.rate:,.0f}/s)")
    numbers.add_row("types", _by_type(glimpse.messages))
    numbers.add_row("message age", f"{glimpse.age_ms:.1f} ms")
    numbers.add_row(
        "archive", f"{glimpse.archived:,} lines, {size(glimpse.archived_bytes)}  {glimpse.file}"
    )
    if glimpse.nats:
        numbers.add_row(
            "bus", f"{glimpse.published:,} acknowledged, {glimpse.unacked:,} on their way"
        )
    state = Text("ready", style="green")
    if not glimpse.ready:
        state = Text("; ".join(glimpse.reasons) or "starting", style="yellow")
    numbers.add_row("state", state)
    parts: list[RenderableType] = [numbers, "", _trades(glimpse.trades)]
    if glimpse.nats:
        parts += ["", _messages(glimpse.bus)]
    title = f"ssmd demo: {glimpse.feed}, {glimpse.elapsed_seconds:.0f} s"
    return Panel(Group(*parts), title=title, subtitle="Ctrl-C ends it")


def summary(
    glimpse: Glimpse, metrics: Metrics, files: Sequence[CapturedFile], root: Path
) -> list[str]:
    """Return what was captured and where it lies, line by line."""
    trades, tickers = (metrics.messages.get(kind, 0) for kind in ("trade", "ticker"))
    lost = sum(metrics.dropped.values())
    captured = f"Captured {glimpse.frames:,} frames of {glimpse.feed} in "
    captured += f"{glimpse.elapsed_seconds:.1f} s: {_by_type(glimpse.messages)}."
    counts = f"trades {trades:,}   tickers {tickers:,}   gaps {sum(metrics.gaps.values())}   "
    counts += f"lost {lost:,}   not readable {metrics.parse_errors:,}"
    out = ["", captured, counts]
    if glimpse.nats:
        out.append(
            f"{metrics.published:,} messages acknowledged by JetStream; read back off the bus: "
            f"{glimpse.bus_count:,} decoded, {glimpse.bus_status:,} of status"
        )
        out += [f"  {_written(message)}" for message in glimpse.bus[-2:]]
    out += ["", f"Files in {root}:"]
    for file in files:
        shown = file.path.relative_to(root)
        out.append(f"  {shown}   {size(file.size_bytes)}, {file.lines:,} lines")
        if file.first_line:
            out.append(f"    {file.first_line}")
    out += [
        "  feed.yaml, env.yaml   what was run, but for the credentials",
        "",
        f"Is it all there?  ssmd verify {shlex.quote(str(root / 'data'))}",
        f"Which when?       ssmd coverage {shlex.quote(str(root / 'data'))}",
        "Next: the README shows a real capture; the two YAML files above are where to start.",
    ]
    return out


def _by_type(messages: Mapping[str, int]) -> str:
    most = sorted(messages.items(), key=lambda item: -item[1])[:_MOST_TYPES]
    return ", ".join(f"{label} {count:,}" for label, count in most)


def _trades(trades: Sequence[Trade]) -> Table:
    table = Table("last trades", "side", "price", "size", box=None, header_style="dim")
    for trade in reversed(trades):
        colour = "green" if trade.side is Side.BUY else "red"
        table.add_row(
            Text(trade.ticker),
            Text(trade.side.value, style=colour),
            f"{trade.price_e9 / SCALE:.4f}",
            f"{trade.size_e9 / SCALE:,.2f}",
        )
    return table


def _messages(messages: Sequence[BusMessage]) -> Table:
    table = Table(box=None, header_style="dim")
    table.add_column("off the bus", no_wrap=True, min_width=_SUBJECT_CELLS)
    table.add_column("", no_wrap=True, overflow="ellipsis")
    for message in reversed(messages):
        table.add_row(Text(message.subject), Text(_fields(message)))
    return table


def _written(message: BusMessage) -> str:
    return f"{message.subject}  timestamp={message.fields.get('timestamp')} {_fields(message)}"


def _fields(message: BusMessage) -> str:
    shown = {k: v for k, v in message.fields.items() if k not in {"ticker", "timestamp"}}
    return " ".join(f"{name}={value}" for name, value in shown.items())
