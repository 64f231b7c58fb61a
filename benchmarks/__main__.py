"""`python -m benchmarks`: ssmd beside what else there is, in one run, with the loss stated."""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

from benchmarks.bench import Bench
from benchmarks.machine import Cores, busy_ns, describe
from benchmarks.peers import make_environment
from benchmarks.plan import FULL, QUICK, Plan
from benchmarks.sections import SECTIONS, Results
from benchmarks.tables import render, table
from benchmarks.targets import judge

_BEGIN, _END = "<!-- measured: begin -->", "<!-- measured: end -->"
_TITLES = {
    "saturation": "Saturation",
    "paced": "At real rates",
    "tickers": "As markets grow",
    "sizes": "As frames grow",
    "memory": "Memory over time",
    "startup": "Start-up",
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print the tables as they come, and keep them where that is asked for."""
    asked = _read(arguments)
    # Whoever ends us ends the server and the contenders too.
    signal.signal(signal.SIGTERM, lambda number, _frame: sys.exit(128 + number))
    plan, cores = _plan(asked), Cores()
    machine = _machine(cores)
    print(machine, flush=True)
    os.sched_setaffinity(0, {cores.load})
    found: dict[str, Results] = {}
    texts: list[str] = []
    with tempfile.TemporaryDirectory(prefix="ssmd-bench-") as folder:
        peers = None if asked.no_peers else make_environment(Path(folder) / "peers")
        with Bench(Path(folder), cores, peers) as bench:
            for section in asked.only:
                texts.append(_measure(section, bench, plan, found))
                print(f"\n{texts[-1]}", flush=True)
                # What was measured is kept, also when a later section fails.
                verdicts = f"### Targets\n\n{judge(found)}"
                _keep(asked, found, "\n\n".join((machine, verdicts, *texts)))
    print(f"\n{verdicts}")
    return 0


def _measure(section: str, bench: Bench, plan: Plan, found: dict[str, Results]) -> str:
    began_ns, foreign_ns = time.monotonic_ns(), busy_ns() - bench.cpu_ns
    found[section] = SECTIONS[section](bench, plan)
    foreign_ns = busy_ns() - bench.cpu_ns - foreign_ns
    return _section(section, found[section], time.monotonic_ns() - began_ns, foreign_ns)


def _keep(asked: argparse.Namespace, found: dict[str, Results], text: str) -> None:
    if asked.json is not None:
        asked.json.write_text(json.dumps(_plain(found), indent=1), "utf-8")
    if asked.write is not None:
        _replace_region(asked.write, text)


def _section(name: str, results: Results, took_ns: int, foreign_ns: int) -> str:
    share = max(0.0, foreign_ns / took_ns / (os.cpu_count() or 1))
    note = f"Took {took_ns / 1e9:.0f} s; other programs had {share:.0%} of the machine meanwhile."
    return f"### {_TITLES[name]}\n\n{render(name, results)}\n\n{note}"


def _read(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument(
        "--only",
        type=_sections,
        default=list(SECTIONS),
        help=f"sections, separated by commas: {', '.join(SECTIONS)}",
    )
    parser.add_argument("--rounds", type=int, help="how often each is measured")
    parser.add_argument("--quick", action="store_true", help="a few thousand frames each")
    parser.add_argument("--no-peers", action="store_true", help="do not fetch cryptofeed")
    parser.add_argument("--minutes", type=float, help="how long memory is watched")
    parser.add_argument("--json", type=Path, help="write every single result to this file")
    parser.add_argument("--write", type=Path, help="put the tables into this page, between marks")
    return parser.parse_args(arguments)


def _sections(text: str) -> list[str]:
    names = [name.strip() for name in text.split(",")]
    if unknown := sorted(set(names) - set(SECTIONS)):
        raise argparse.ArgumentTypeError(f"{unknown[0]}: there are {', '.join(SECTIONS)}")
    return names


def _plan(asked: argparse.Namespace) -> Plan:
    plan = QUICK if asked.quick else FULL
    if asked.rounds:
        plan = replace(plan, rounds=asked.rounds, paced_rounds=asked.rounds)
    if asked.minutes:
        plan = replace(plan, memory_seconds=asked.minutes * 60)
    return plan


def _machine(cores: Cores) -> str:
    rows = describe(cores)
    rows.append(("measured", time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime())))
    if cores.shared:
        rows.append(("warning", "one core only: everybody shares it, and the figures mean little"))
    return "### Machine\n\n" + table(("", ""), rows)


def _plain(found: dict[str, Results]) -> dict[str, object]:
    return {
        section: [
            {"case": case, "contender": contender, "rounds": [asdict(one) for one in entries]}
            for (case, contender), entries in results.items()
        ]
        for section, results in found.items()
    }


def _replace_region(page: Path, text: str) -> None:
    before, begin, rest = page.read_text("utf-8").partition(_BEGIN)
    _, end, after = rest.partition(_END)
    if not (begin and end):
        sys.exit(f"{page}: the marks {_BEGIN} and {_END} are missing; nothing was written")
    page.write_text(f"{before}{begin}\n{text}\n{end}{after}", "utf-8")


if __name__ == "__main__":
    sys.exit(main())
