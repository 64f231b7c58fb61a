"""Which targets a run meets: ratios of medians, each with the figure that decides."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

from benchmarks.measuring import Outcome
from benchmarks.roster import (
    BARE_FILE,
    BARE_NATS,
    CEILING,
    NAIVE_FILE,
    NAIVE_NATS,
    SSMD_BOTH,
    SSMD_FILE,
    SSMD_FILE_PACED,
    SSMD_FILE_PLAIN,
    SSMD_NATS,
    SSMD_NATS_PACED,
    SSMD_SMALL,
    Contender,
)
from benchmarks.sections import Results, Start
from benchmarks.tables import median, outcomes, table

__all__ = ["judge"]

_MIB = 2**20
_Read = Callable[[Outcome], float | None]


class _Target(NamedTuple):
    """A figure and its bound; None where the run did not measure it."""

    what: str
    bound: str
    figure: float | None
    met: bool
    form: str = ".2f"
    floor: float | None = None
    """What the bare loop reaches, where it is in the same race."""


def judge(found: Mapping[str, Results]) -> str:
    """Return the table of targets: met, not met, or not measured in this run."""
    rows = []
    for target in _targets(found):
        if target.figure is None:
            rows.append([target.what, target.bound, "–", "not measured", ""])
            continue
        verdict = "met" if target.met else "**not met**"
        floor = "" if target.floor is None else format(target.floor, target.form)
        measured = format(target.figure, target.form)
        rows.append([target.what, target.bound, measured, verdict, floor])
    return table(("", "target", "measured", "", "bare loop"), rows)


def _targets(found: Mapping[str, Results]) -> Iterator[_Target]:
    yield from _saturated(found.get("saturation", {}))
    yield from _at_rates(found.get("paced", {}))
    yield from _growth(found.get("tickers", {}))
    yield from _starts(found.get("startup", {}))
    yield _lost(found)


def _saturated(results: Results) -> Iterator[_Target]:
    def rate(over: Contender, under: Contender) -> float | None:
        return _ratio(results, "saturated", over, under, lambda one: one.rate)

    best = [rate(one, NAIVE_FILE) for one in (SSMD_FILE, SSMD_FILE_PLAIN)]
    fastest = max((one for one in best if one is not None), default=None)
    yield _least("file, saturated, plain asyncio: × naive", 3.5, rate(SSMD_FILE_PLAIN, NAIVE_FILE))
    bare = rate(BARE_FILE, NAIVE_FILE)
    yield _least("file, saturated, fastest: × naive", 9.0, fastest)._replace(floor=bare)
    yield _least("NATS, saturated: × naive", 3.5, rate(SSMD_NATS, NAIVE_NATS))
    yield _least("NATS, saturated: × server ceiling", 0.8, rate(SSMD_NATS, CEILING))
    yield _least("both sinks, saturated: × NATS alone", 0.9, rate(SSMD_BOTH, SSMD_NATS))


def _at_rates(results: Results) -> Iterator[_Target]:
    case, slow = "5,000/s", "1,000/s"

    def cpu(over: Contender, under: Contender) -> float | None:
        return _ratio(results, case, over, under, lambda one: one.cpu_us)

    file, bus = cpu(SSMD_FILE, NAIVE_FILE), cpu(SSMD_NATS, NAIVE_NATS)
    bare_file, bare_bus = cpu(BARE_FILE, NAIVE_FILE), cpu(BARE_NATS, NAIVE_NATS)
    yield _most("file, CPU at 5,000/s: × naive", 0.35, file)._replace(floor=bare_file)
    yield _most("NATS, CPU at 5,000/s: × naive", 0.4, bus)._replace(floor=bare_bus)
    every = "CPU at 5,000/s, read every ms: × naive"
    yield _most(f"file, {every}", 0.35, cpu(SSMD_FILE_PACED, NAIVE_FILE))
    yield _most(f"NATS, {every}", 0.4, cpu(SSMD_NATS_PACED, NAIVE_NATS))

    def tail(over: Contender) -> float | None:
        ours = median(outcomes(results, case, over.name), _p99)
        theirs = median(outcomes(results, case, NAIVE_FILE.name), _p50)
        return ours / theirs if ours and theirs else None

    p99 = _most("file at 5,000/s: p99 × naive's p50", 1.0, tail(SSMD_FILE))
    yield p99._replace(floor=tail(BARE_FILE))
    ack = _ratio(results, case, SSMD_NATS, NAIVE_NATS, _p50)
    p50 = _most("NATS at 5,000/s: p50 × naive's p50", 0.6, ack)
    yield p50._replace(floor=_ratio(results, case, BARE_NATS, NAIVE_NATS, _p50))
    small = outcomes(results, slow, SSMD_SMALL.name)
    share = median(small, lambda one: one.cpu_share * 1000)
    yield _most("both sinks at 1,000/s, small container: CPU, m", 100, share, ".0f")
    peak = median(small, lambda one: one.peak_bytes / _MIB)
    yield _most("both sinks at 1,000/s, small container: peak MiB", 80, peak, ".0f")


def _growth(results: Results) -> Iterator[_Target]:
    for contender in (SSMD_FILE, SSMD_NATS):
        few = median(outcomes(results, "100 tickers", contender.name), _cpu)
        many = median(outcomes(results, "100,000 tickers", contender.name), _cpu)
        cost = many / few if few and many else None
        yield _most(f"{contender.name}: CPU of 100,000 × of 100 tickers", 1.3, cost)


def _starts(results: Results) -> Iterator[_Target]:
    found = results.get(("start", SSMD_BOTH.name), [])
    times = sorted(one.subscribed_ms for one in found if isinstance(one, Start))
    middle = times[len(times) // 2] if times else None
    yield _most("start with both sinks until subscribed, ms", 500, middle, ".0f")


def _lost(found: Mapping[str, Results]) -> _Target:
    runs = [
        one
        for results in found.values()
        for (_, contender), entries in results.items()
        if contender.startswith("ssmd")
        for one in entries
        if isinstance(one, Outcome)
    ]
    lost = sum(one.lost for one in runs) if runs else None
    return _most(
        "lost by ssmd, or runs that did not end with 0", 0, _with_faults(lost, runs), ".0f"
    )


def _with_faults(lost: int | None, runs: list[Outcome]) -> float | None:
    return None if lost is None else lost + sum(1 for one in runs if one.fault)


def _ratio(
    results: Results, case: str, over: Contender, under: Contender, read: _Read
) -> float | None:
    above = median(outcomes(results, case, over.name), read)
    below = median(outcomes(results, case, under.name), read)
    return above / below if above and below else None


def _least(what: str, bound: float, figure: float | None, form: str = ".2f") -> _Target:
    return _Target(what, f"≥ {bound:g}", figure, figure is not None and figure >= bound, form)


def _most(what: str, bound: float, figure: float | None, form: str = ".2f") -> _Target:
    return _Target(what, f"≤ {bound:g}", figure, figure is not None and figure <= bound, form)


def _cpu(one: Outcome) -> float:
    return one.cpu_us


def _p50(one: Outcome) -> float | None:
    return one.delay.p50_us if one.delay else None


def _p99(one: Outcome) -> float | None:
    return one.delay.p99_us if one.delay else None
