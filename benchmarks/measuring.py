"""What is measured of one run, and how it is read off the file and the bus."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass, replace

from benchmarks import archive, bus
from benchmarks.bench import Bench, Subject
from benchmarks.load import LoadSpec
from benchmarks.roster import Contender, Keeps
from benchmarks.venue import SATURATING, Go, Pace, Sent

__all__ = ["QUIET_SECONDS", "Delay", "Outcome", "measure"]

QUIET_SECONDS = 3.0
"""What is not kept after so long without any progress counts as lost."""
_REST_SECONDS = 0.3
_REST_NS = 2_000_000


@dataclass(frozen=True, slots=True)
class Delay:
    """How long after its sending a frame was kept, in microseconds."""

    p50_us: float
    p99_us: float
    p999_us: float


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one run of one contender came to."""

    contender: str
    frames: int
    """How many it was sent."""
    rate: float
    """Kept a second, from the first that was sent: messages of a bus, else lines of a file."""
    cpu_us: float
    """CPU time for each frame it was sent."""
    cpu_share: float
    """CPU time over the span, 1.0 being a whole core."""
    peak_bytes: int
    lost: int
    """Sent and not kept, over all its sinks."""
    delay: Delay | None = None
    fault: str = ""
    """What is wrong with the run, so that its figures do not count."""


def measure(
    bench: Bench, contender: Contender, load: LoadSpec, pace: Pace = SATURATING, frames: int = 0
) -> Outcome:
    """Run a contender once against the first ``frames`` of a load (by default all of it)."""
    frames = frames or load.frames
    if Keeps.BUS in contender.keeps:
        bus.add_stream(bench.bus_url)
    try:
        with bench.running(contender, load) as subject:
            outcome = _run(bench, subject, Go(frames, pace))
            code = subject.exit_code if subject.exit_code is not None else subject.stop()
            if contender.is_ssmd and code:
                outcome = replace(outcome, fault=f"exit code {code}: {subject.output()[-300:]}")
            return outcome
    except OSError as error:
        # One that falls over must not take the others' figures along.
        return Outcome(contender.name, frames, 0.0, 0.0, 0.0, 0, frames, fault=str(error)[-300:])
    finally:
        if Keeps.BUS in contender.keeps:
            bus.remove_stream(bench.bus_url)


def _run(bench: Bench, subject: Subject, order: Go) -> Outcome:
    keeps = subject.contender.keeps
    if not subject.contender.is_fed:
        return _run_ceiling(bench, subject)
    bench.await_subscribed(subject)
    subject.await_ready()
    if order.pace.rate and keeps is Keeps.FILE:
        order = replace(order, watch=archive.find_file(subject.archive))
    before_ns = subject.cpu_ns
    sent = bench.send(order)
    match keeps:
        case Keeps.FILE:
            kept = _from_file(subject, sent)
        case Keeps.NOTHING:
            kept = _from_report(subject, sent)
        case _:
            kept = _from_bus(bench, subject, sent)
    return _outcome(subject, sent, kept, kept.cpu_ns - before_ns)


@dataclass(frozen=True, slots=True)
class _Kept:
    """What was found after a run."""

    count: int
    lost: int
    seconds: float
    cpu_ns: int
    """Of the subject since it started, read when it had kept everything."""
    peak_bytes: int
    delays_ns: list[int]


def _from_file(subject: Subject, sent: Sent) -> _Kept:
    lines, end_ns = archive.await_lines(subject.archive, sent.frames, QUIET_SECONDS)
    cpu_ns, peak_bytes = subject.cpu_ns, subject.peak_bytes
    delays: list[int] = []
    if sent.sent_ns and lines == sent.frames:
        ends = archive.line_ends(subject.archive)
        seen = archive.visible_ns(ends, sent.grown_bytes, sent.grown_ns)
        if len(seen) == lines:
            # With only some of them known, those missing would be the slowest.
            delays = [kept - start for start, kept in zip(sent.sent_ns, seen, strict=True)]
    seconds = (end_ns - sent.first_ns) / 1e9
    return _Kept(lines, sent.frames - lines, seconds, cpu_ns, peak_bytes, delays)


def _from_bus(bench: Bench, subject: Subject, sent: Sent) -> _Kept:
    expected = len(sent.published)
    bus.await_messages(bench.bus_url, expected, QUIET_SECONDS)
    cpu_ns, peak_bytes = subject.cpu_ns, subject.peak_bytes
    stored = bus.read_back(bench.bus_url)
    if len(stored.subjects) < expected:
        # The count held messages of the ledger too: the last records may be on the way.
        bus.await_messages(bench.bus_url, 2 * expected, QUIET_SECONDS)
        cpu_ns, stored = subject.cpu_ns, bus.read_back(bench.bus_url)
    count = len(stored.subjects)
    lost = expected - count
    if Keeps.FILE in subject.contender.keeps:
        lines, _ = archive.await_lines(subject.archive, sent.frames, QUIET_SECONDS)
        missing = sent.frames - lines
        # A frame too many in one sink must not hide one too few in the other.
        lost = min(lost, missing) if min(lost, missing) < 0 else lost + missing
    delays: list[int] = []
    if sent.sent_ns and count == expected:
        starts = [sent.sent_ns[place] for place in sent.published]
        delays = [kept - start for start, kept in zip(starts, stored.stored_ns, strict=True)]
    seconds = (stored.stored_ns[-1] - sent.first_ns) / 1e9 if count else 0.0
    return _Kept(count, lost, seconds, cpu_ns, peak_bytes, delays)


def _from_report(subject: Subject, sent: Sent) -> _Kept:
    """Let a contender that keeps nothing come to rest, and ask it what it got."""
    before_ns, cpu_ns = -1, subject.cpu_ns
    while cpu_ns - before_ns > _REST_NS:
        time.sleep(_REST_SECONDS)
        before_ns, cpu_ns = cpu_ns, subject.cpu_ns
    peak_bytes = subject.peak_bytes
    subject.stop()
    said = json.loads(subject.output().splitlines()[-1])
    seconds = (said["last_ns"] - sent.first_ns) / 1e9
    frames = int(said["frames"])
    return _Kept(frames, sent.frames - frames, seconds, cpu_ns, peak_bytes, [])


def _run_ceiling(bench: Bench, subject: Subject) -> Outcome:
    subject.await_output("ready")
    expected = int(subject.output().split()[-1])
    before_ns, first_ns = subject.cpu_ns, time.time_ns()
    subject.say("go")
    subject.await_output("done")
    cpu_ns, peak_bytes = subject.cpu_ns - before_ns, subject.peak_bytes
    stored = bus.read_back(bench.bus_url)
    seconds = (stored.stored_ns[-1] - first_ns) / 1e9
    lost = expected - len(stored.subjects)
    rate = len(stored.subjects) / seconds
    return Outcome(
        subject.contender.name,
        expected,
        rate,
        cpu_ns / expected / 1000,
        cpu_ns / seconds / 1e9,
        peak_bytes,
        lost,
    )


def _outcome(subject: Subject, sent: Sent, kept: _Kept, cpu_ns: int) -> Outcome:
    twice = f"{-kept.lost} kept more than once" if kept.lost < 0 else ""
    span = (sent.last_ns - sent.first_ns) / 1e9 if sent.sent_ns else kept.seconds
    return Outcome(
        subject.contender.name,
        sent.frames,
        kept.count / kept.seconds if kept.seconds else 0.0,
        cpu_ns / sent.frames / 1000,
        cpu_ns / span / 1e9 if span else 0.0,
        kept.peak_bytes,
        kept.lost,
        _delay(kept.delays_ns),
        twice,
    )


def _delay(delays_ns: list[int]) -> Delay | None:
    if not delays_ns:
        return None
    ranked = sorted(delays_ns)
    p50, p99, p999 = (ranked[int(len(ranked) * part)] / 1000 for part in (0.5, 0.99, 0.999))
    return Delay(p50, p99, p999)
