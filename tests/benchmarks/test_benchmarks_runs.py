from __future__ import annotations

import os

import pytest

from benchmarks.bench import Bench
from benchmarks.load import LoadSpec
from benchmarks.machine import Cores, cpu_ns
from benchmarks.measuring import measure
from benchmarks.roster import NAIVE_FILE, SSMD_NATS, Contender, Keeps
from benchmarks.venue import Pace


@pytest.fixture(scope="module")
def bench(tmp_path_factory):
    with Bench(tmp_path_factory.mktemp("runs"), Cores()) as bench:
        yield bench


def test_a_contender_that_falls_over_loses_all_and_the_next_one_runs(bench):
    broken = Contender("broken", Keeps.FILE, 100, "benchmarks.contenders.nobody")
    outcome = measure(bench, broken, LoadSpec(100))
    assert outcome.lost == 100
    assert "nobody" in outcome.fault
    assert measure(bench, NAIVE_FILE, LoadSpec(100)).lost == 0


@pytest.mark.parametrize("contender", [NAIVE_FILE, SSMD_NATS], ids=lambda one: one.name)
def test_a_paced_run_times_every_frame_it_kept(bench, contender):
    outcome = measure(bench, contender, LoadSpec(300), Pace(1_000))
    assert (outcome.lost, outcome.fault) == (0, "")
    assert 0 < outcome.delay.p50_us <= outcome.delay.p99_us <= outcome.delay.p999_us


def test_the_cpu_time_of_a_process_is_the_kernels():
    spent = sum(os.times()[:2])
    assert cpu_ns(os.getpid()) / 1e9 == pytest.approx(spent, abs=0.5)
