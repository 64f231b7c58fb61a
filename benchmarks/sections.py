"""What is measured, section by section. Contenders take turns, so that a slow minute hits all."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from benchmarks import archive, bus
from benchmarks.bench import Bench
from benchmarks.load import LoadSpec
from benchmarks.measuring import QUIET_SECONDS, Outcome, measure
from benchmarks.plan import Plan
from benchmarks.roster import (
    BARE_FILE,
    BARE_NATS,
    CRYPTOFEED,
    NAIVE_FILE,
    NAIVE_NATS,
    SATURATED,
    SSMD_BOTH,
    SSMD_FILE,
    SSMD_FILE_PACED,
    SSMD_NATS,
    SSMD_NATS_PACED,
    SSMD_SMALL,
    Contender,
)
from benchmarks.venue import Go, Pace

__all__ = ["SECTIONS", "Entry", "Results", "Sample", "Start"]

_PAIRS = (NAIVE_FILE, SSMD_FILE, NAIVE_NATS, SSMD_NATS)
_BESIDE = {
    "1,000/s": (SSMD_SMALL,),
    "5,000/s": (BARE_FILE, BARE_NATS, SSMD_FILE_PACED, SSMD_NATS_PACED),
}
"""Who takes part at one rate only."""


@dataclass(frozen=True, slots=True)
class Sample:
    """The memory of a contender so long after the first frame."""

    seconds: float
    resident_bytes: int
    peak_bytes: int


@dataclass(frozen=True, slots=True)
class Start:
    """How long a start took, from the moment the process was made."""

    subscribed_ms: float
    archived_ms: float


Entry = Outcome | Sample | Start
Results = dict[tuple[str, str], list[Entry]]
"""By case and contender: one entry a round."""


def saturation(bench: Bench, plan: Plan) -> Results:
    """Send as fast as each contender takes it."""
    results: Results = {}
    present = [one for one in SATURATED if one.name != CRYPTOFEED.name or bench.peers]
    for contender in present * plan.rounds:
        few = replace(contender, frames=int(contender.frames * plan.share))
        _note(results, "saturated", measure(bench, few, LoadSpec(few.frames)))
    return results


def paced(bench: Bench, plan: Plan) -> Results:
    """Send at a rate: evenly in each round, and once in bursts."""
    results: Results = {}
    paces = [(f"{rate:,}/s", Pace(rate)) for rate in plan.rates]
    burst = (f"{plan.burst_rate:,}/s in bursts", Pace(plan.burst_rate, bursts=True))
    most = LoadSpec(int(max(plan.rates) * plan.paced_seconds))
    for case, pace in [*paces * plan.paced_rounds, burst]:
        assert pace.rate is not None
        frames = int(pace.rate * plan.paced_seconds)
        for contender in (*_PAIRS, *_BESIDE.get(case, ())):
            _note(results, case, measure(bench, contender, most, pace, frames))
    return results


def tickers(bench: Bench, plan: Plan) -> Results:
    """Spread the same number of frames over more and more markets."""
    results: Results = {}
    for count in plan.tickers * plan.paced_rounds:
        load = LoadSpec(plan.growth_frames, tickers=count)
        for contender in (SSMD_FILE, SSMD_NATS):
            _note(results, f"{count:,} tickers", measure(bench, contender, load))
    return results


def sizes(bench: Bench, plan: Plan) -> Results:
    """Send frames that are larger and larger."""
    results: Results = {}
    for size in plan.frame_sizes:
        load = LoadSpec(min(plan.growth_frames, plan.size_bytes // size), frame_bytes=size)
        for contender in (NAIVE_FILE, SSMD_FILE, SSMD_NATS):
            _note(results, f"{size:,} B", measure(bench, contender, load))
    return results


def memory(bench: Bench, plan: Plan) -> Results:
    """Watch the memory of ssmd with both sinks at a steady rate, and count what it kept."""
    samples: list[Entry] = []
    frames = int(plan.memory_rate * plan.memory_seconds)
    bus.add_stream(bench.bus_url)
    try:
        with bench.running(SSMD_BOTH, LoadSpec(frames)) as subject:
            bench.await_subscribed(subject)
            subject.await_ready()
            began = time.monotonic()

            def look() -> None:
                seconds = time.monotonic() - began
                samples.append(Sample(seconds, subject.resident_bytes, subject.peak_bytes))

            sent = bench.send(Go(frames, Pace(plan.memory_rate)), look)
            lines, _ = archive.await_lines(subject.archive, frames, QUIET_SECONDS)
            stored = bus.await_messages(bench.bus_url, len(sent.published), QUIET_SECONDS)
            subject.stop()
    finally:
        bus.remove_stream(bench.bus_url)
    lost = frames - lines + max(0, len(sent.published) - stored)
    case = f"{plan.memory_rate:,}/s for {plan.memory_seconds:g} s, {lost} lost"
    return {(case, SSMD_BOTH.name): samples}


def startup(bench: Bench, plan: Plan) -> Results:
    """Time a start: until subscribed, and until the first frame stands in the archive."""
    results: Results = {}
    for contender in (NAIVE_FILE, SSMD_FILE, SSMD_BOTH) * plan.starts:
        results.setdefault(("start", contender.name), []).append(_start(bench, contender))
    return results


def _start(bench: Bench, contender: Contender) -> Start:
    bus.add_stream(bench.bus_url)
    try:
        with bench.running(contender, LoadSpec(1)) as subject:
            subscribed_ns = bench.await_subscribed(subject)
            bench.send(Go(1))
            _, grown_ns = archive.await_lines(subject.archive, 1, QUIET_SECONDS)
            subject.stop()
    finally:
        bus.remove_stream(bench.bus_url)
    return Start((subscribed_ns - subject.spawned_ns) / 1e6, (grown_ns - subject.spawned_ns) / 1e6)


def _note(results: Results, case: str, outcome: Outcome) -> None:
    results.setdefault((case, outcome.contender), []).append(outcome)


SECTIONS: Mapping[str, Callable[[Bench, Plan], Results]] = {
    "saturation": saturation,
    "paced": paced,
    "tickers": tickers,
    "sizes": sizes,
    "memory": memory,
    "startup": startup,
}
