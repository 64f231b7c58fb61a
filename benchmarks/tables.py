"""How results read: one Markdown table a section, medians first, the range of the rounds behind."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Sequence

from benchmarks.measuring import Outcome
from benchmarks.roster import BARE_FILE, NAIVE_FILE, NAIVE_NATS, SSMD_FILE, SSMD_FILE_PLAIN
from benchmarks.sections import Results, Sample, Start

__all__ = ["median", "outcomes", "render", "table"]

_MIB = 2**20
_OF_FILES = {NAIVE_FILE.name, BARE_FILE.name, SSMD_FILE.name, SSMD_FILE_PLAIN.name, "cryptofeed"}


def render(section: str, results: Results) -> str:
    """Return the Markdown of a section's results."""
    match section:
        case "memory":
            return _memory(results)
        case "startup":
            return _startup(results)
        case "saturation":
            return _saturation(results)
        case "paced":
            return _paced(results)
        case _:
            return _growth(results)


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a Markdown table."""
    lines = ["| " + " | ".join(cells) + " |" for cells in (head, *rows)]
    lines.insert(1, "|" + "---|" * len(head))
    return "\n".join(lines)


def outcomes(results: Results, case: str, contender: str) -> list[Outcome]:
    """Return the valid runs of a contender in a case."""
    found = results.get((case, contender), [])
    return [one for one in found if isinstance(one, Outcome) and not one.fault]


def median(found: Sequence[Outcome], read: Callable[[Outcome], float | None]) -> float | None:
    """Return the median of a figure over the rounds that have it."""
    values = [value for one in found if (value := read(one)) is not None]
    return statistics.median(values) if values else None


def _spread(found: Sequence[Outcome], read: Callable[[Outcome], float | None], form: str) -> str:
    values = [value for one in found if (value := read(one)) is not None]
    if not values:
        return "–"
    middle = format(statistics.median(values), form)
    if len(values) == 1:
        return middle
    return f"{middle} ({format(min(values), form)}–{format(max(values), form)})"


def _saturation(results: Results) -> str:
    rows = []
    for case, contender in results:
        found = outcomes(results, case, contender)
        naive = NAIVE_FILE if contender in _OF_FILES else NAIVE_NATS
        base = outcomes(results, case, naive.name)
        rows.append(
            [
                contender,
                _spread(found, lambda one: one.rate, ",.0f"),
                _ratio(found, base, lambda one: one.rate),
                _spread(found, lambda one: one.cpu_us, ".2f"),
                _ratio(base, found, lambda one: one.cpu_us),
                _spread(found, lambda one: one.cpu_share * 100, ".0f"),
                _spread(found, lambda one: one.peak_bytes / _MIB, ".0f"),
                _lost(results, case, contender),
            ]
        )
    head = ("contender", "kept a second", "× naive", "CPU µs a frame", "× cheaper than naive")
    return table((*head, "core %", "peak MiB", "lost"), rows)


def _paced(results: Results) -> str:
    rows = []
    for case, contender in results:
        found = outcomes(results, case, contender)
        rows.append(
            [
                case,
                contender,
                _spread(found, lambda one: one.cpu_share * 100, ".1f"),
                _spread(found, lambda one: one.delay.p50_us if one.delay else None, ",.0f"),
                _spread(found, lambda one: one.delay.p99_us if one.delay else None, ",.0f"),
                _spread(found, lambda one: one.delay.p999_us if one.delay else None, ",.0f"),
                _spread(found, lambda one: one.peak_bytes / _MIB, ".0f"),
                _lost(results, case, contender),
            ]
        )
    head = ("load", "contender", "core %", "p50 µs", "p99 µs", "p99.9 µs", "peak MiB", "lost")
    return table(head, rows)


def _growth(results: Results) -> str:
    rows = []
    first: dict[str, float] = {}
    for case, contender in results:
        found = outcomes(results, case, contender)
        cost = median(found, lambda one: one.cpu_us)
        grown = cost / first.setdefault(contender, cost) if cost else None
        rows.append(
            [
                case,
                contender,
                _spread(found, lambda one: one.rate, ",.0f"),
                _spread(found, lambda one: one.cpu_us, ".2f"),
                "–" if grown is None else f"{grown:.2f}",
                _spread(found, lambda one: one.peak_bytes / _MIB, ".0f"),
                _lost(results, case, contender),
            ]
        )
    head = ("load", "contender", "kept a second", "CPU µs a frame", "× the first", "peak MiB")
    return table((*head, "lost"), rows)


def _ratio(
    found: Sequence[Outcome], base: Sequence[Outcome], read: Callable[[Outcome], float]
) -> str:
    over, under = median(found, read), median(base, read)
    return f"{over / under:.2f}" if over and under else "–"


def _lost(results: Results, case: str, contender: str) -> str:
    runs = [one for one in results[case, contender] if isinstance(one, Outcome)]
    sent, lost = sum(one.frames for one in runs), sum(one.lost for one in runs)
    faults = "; ".join(one.fault for one in runs if one.fault).replace("\n", " ")
    return f"{lost} of {sent:,}" + (f" ({faults})" if faults else "")


def _memory(results: Results) -> str:
    rows = []
    for (case, contender), found in results.items():
        samples = [one for one in found if isinstance(one, Sample)]
        if not samples:
            continue
        places = [round(part * (len(samples) - 1) / 5) for part in range(6)]
        shown = [f"{samples[n].resident_bytes / _MIB:.1f}" for n in dict.fromkeys(places)]
        rows.append([contender, case, " → ".join(shown), f"{samples[-1].peak_bytes / _MIB:.1f}"])
    return table(("contender", "load", "resident MiB, evenly over the run", "peak MiB"), rows)


def _startup(results: Results) -> str:
    rows = []
    for (_, contender), found in results.items():
        starts = [one for one in found if isinstance(one, Start)]
        rows.append(
            [
                contender,
                _times([one.subscribed_ms for one in starts]),
                _times([one.archived_ms for one in starts]),
            ]
        )
    return table(("contender", "until subscribed, ms", "until the first frame is kept, ms"), rows)


def _times(values: Sequence[float]) -> str:
    return f"{statistics.median(values):.0f} ({min(values):.0f}–{max(values):.0f})"
