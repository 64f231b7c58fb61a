"""Decides how a replay and a comparison are told."""

from __future__ import annotations

from collections.abc import Iterator

from ssmd_core.audit.findings import counted
from ssmd_core.clock import iso
from ssmd_core.metrics import Metrics
from ssmd_core.service.comparison import What
from ssmd_core.service.diff import Findings
from ssmd_core.service.redaction import redact_text
from ssmd_core.service.replay import Replayed

__all__ = ["compared", "replayed"]

_WIDTH = 16


def replayed(so_far: Replayed, metrics: Metrics) -> Iterator[str]:
    """Yield what became of a replay, one line a fact."""
    span = f", {iso(so_far.first_ts)} to {iso(so_far.last_ts)}" if so_far.last_ts else ""
    yield _line("frames", f"{so_far.frames:,}{span}")
    kinds = ", ".join(f"{count:,} {kind}" for kind, count in sorted(so_far.kinds.items()))
    yield _line("messages", f"{so_far.kinds.total():,}{f': {kinds}' if kinds else ''}")
    yield _line("already there", f"{so_far.held:,}")
    if so_far.unread:
        yield _line("unreadable", f"{so_far.unread:,} frames that the feed cannot read")
    if so_far.damaged_lines:
        yield _line("damaged", f"{so_far.damaged_lines:,} lines of the archive")
    for reason, count in sorted(metrics.unpublishable.items()):
        yield _line("not published", f"{count:,}: {reason}")
    if so_far.rejected:
        yield _line("refused", f"{so_far.rejected:,}, the first {so_far.rejection}")
    yield _line("unacknowledged", f"{so_far.unacknowledged:,}")
    if so_far.absent:
        yield _line("not stored", _why_not_stored(so_far.absent))
    elif so_far.doubted and so_far.absent is None:
        text = f"{counted(so_far.doubted, 'message')} taken for duplicates, and it was not looked "
        yield _line("in doubt", text + "whether the stream holds them: --diff tells")
    rate = so_far.kinds.total() / so_far.seconds if so_far.seconds else 0.0
    yield _line("time", f"{so_far.seconds:.1f} s, {rate:,.0f} messages/s")
    if so_far.fault:
        yield _line("given up", redact_text(so_far.fault))
    if so_far.stopped or so_far.fault:
        yield _line("stopped", _where_to_go_on(so_far))


def _why_not_stored(absent: int) -> str:
    return (
        f"{counted(absent, 'message')} taken for duplicates, and not in the stream: it remembers "
        "ids of what was deleted or purged; wait for its duplicate_window and run again"
    )


def _where_to_go_on(so_far: Replayed) -> str:
    if not so_far.last_ts:
        return "before anything was sent"
    return f"go on with --from {iso(so_far.last_ts)}; what is there is not stored twice"


def compared(findings: Findings, name: str) -> Iterator[str]:
    """Yield what a comparison found: where, a table by kind, the first differences."""
    if not findings.first_ts:
        head = f"the stream holds no record of {name} to compare with"
        yield f"{head}: {counted(findings.later, 'message')} archived" if findings.later else head
        return
    yield f"compared with {name}, {iso(findings.first_ts)} to {iso(findings.last_ts)}"
    yield ""
    words = [what.value for what in What]
    rows = [("kind", "archived", "stored", "same", *words)]
    for kind, counts in sorted(findings.comparison.counts.items()):
        columns = ("archived", "stored", "same", *words)
        rows.append((kind, *(f"{counts[column]:,}" for column in columns)))
    yield from _aligned(rows)
    yield ""
    for found in findings.comparison.shown:
        detail = f": {found.detail}" if found.detail else ""
        when = iso(found.ts) if found.ts else "no Ssmd-Ts"
        yield f"{found.what.value:<8} {when} {found.subject} {found.msg_id}{detail}"
    more = findings.comparison.differences - len(findings.comparison.shown)
    if more:
        yield f"and {more:,} more"
    if findings.earlier:
        text = counted(findings.earlier, "archived message")
        yield f"{text} earlier than the stream's first one, not compared"
    if findings.later:
        text = counted(findings.later, "archived message")
        yield f"{text} later than the stream's last one, not compared"
    yield counted(findings.comparison.differences, "difference")


def _line(name: str, value: str) -> str:
    return f"{name:<{_WIDTH}}{value}"


def _aligned(rows: list[tuple[str, ...]]) -> Iterator[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for head, *cells in rows:
        shown = (cell.rjust(width) for cell, width in zip(cells, widths[1:], strict=True))
        yield "  ".join([head.ljust(widths[0]), *shown])
