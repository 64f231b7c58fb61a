from __future__ import annotations

import array

import pytest

from benchmarks import archive
from benchmarks.measuring import Delay, Outcome
from benchmarks.tables import render
from benchmarks.targets import judge


def outcome(contender, rate=100.0, **more):
    figures = {"cpu_us": 10.0, "cpu_share": 0.5, "peak_bytes": 50 << 20, "lost": 0} | more
    return Outcome(contender, 1_000, rate, **figures)


def saturated(*outcomes):
    results = {}
    for one in outcomes:
        results.setdefault(("saturated", one.contender), []).append(one)
    return {"saturation": results}


def verdicts(found):
    rows = [row.strip("| ").split(" | ") for row in judge(found).splitlines()[2:]]
    return {row[0]: row[-1] for row in rows}


def row(text, name):
    (found,) = (line for line in text.splitlines() if line.startswith(f"| {name} |"))
    return found


def test_a_table_shows_the_median_and_the_range():
    found = saturated(*(outcome("naive file", rate) for rate in (90.0, 100.0, 300.0)))
    assert "100 (90–300)" in row(render("saturation", found["saturation"]), "naive file")  # noqa: RUF001  the range of a table


def test_a_table_shows_the_ratio_to_the_naive_one():
    found = saturated(outcome("naive file", 100.0), outcome("ssmd file", 450.0, cpu_us=2.0))
    assert "| 4.50 | 2.00 | 5.00 |" in row(render("saturation", found["saturation"]), "ssmd file")


def test_a_table_states_what_was_lost_over_all_rounds():
    found = saturated(outcome("naive NATS", lost=3), outcome("naive NATS", lost=4))
    assert "7 of 2,000" in row(render("saturation", found["saturation"]), "naive NATS")


def test_a_faulty_run_is_told_and_its_figures_do_not_count():
    found = saturated(outcome("ssmd file", 100.0), outcome("ssmd file", 900.0, fault="exit code 1"))
    shown = row(render("saturation", found["saturation"]), "ssmd file")
    assert "| 100 |" in shown
    assert "exit code 1" in shown


@pytest.mark.parametrize(("rate", "verdict"), [(350.0, "met"), (340.0, "**not met**")])
def test_a_target_is_judged_by_the_ratio_of_this_run(rate, verdict):
    found = saturated(outcome("naive file", 100.0), outcome("ssmd file, asyncio", rate))
    assert verdicts(found)["file, saturated, plain asyncio: × naive"] == verdict  # noqa: RUF001  as printed


def test_a_target_that_was_not_measured_is_not_met():
    assert set(verdicts({}).values()) == {"not measured"}


@pytest.mark.parametrize("more", [{"lost": 1}, {"fault": "exit code 1"}])
def test_one_lost_frame_or_one_bad_exit_misses_the_target(more):
    (verdict,) = (
        said
        for what, said in verdicts(saturated(outcome("ssmd NATS", **more))).items()
        if what.startswith("lost by ssmd")
    )
    assert verdict == "**not met**"


def test_delays_of_two_contenders_are_compared():
    paced = {
        ("5,000/s", "naive file"): [outcome("naive file", delay=Delay(50.0, 200.0, 300.0))],
        ("5,000/s", "ssmd file"): [outcome("ssmd file", delay=Delay(20.0, 40.0, 90.0))],
    }
    assert verdicts({"paced": paced})["file at 5,000/s: p99 × naive's p50"] == "met"  # noqa: RUF001  as printed


def test_a_line_is_visible_when_the_file_first_holds_it():
    grown_bytes, grown_ns = array.array("q", [10, 30]), array.array("q", [1_000, 2_000])
    assert archive.visible_ns([5, 10, 11, 30], grown_bytes, grown_ns) == [
        1_000,
        1_000,
        2_000,
        2_000,
    ]


@pytest.fixture
def written(tmp_path):
    """Write an archive: one reply, two frames, and a line that is not whole."""
    (tmp_path / "2026-11-22").mkdir()
    reply = b'{"ts":"x","feed":"kalshi","data":{"type":"subscribed"}}\n'
    frame = b'{"ts":"x","feed":"kalshi","data":{"type":"trade"}}\n'
    (tmp_path / "2026-11-22" / "kalshi.jsonl").write_bytes(reply + frame + frame + frame[:20])
    return tmp_path, len(reply), len(frame)


def test_only_whole_lines_of_data_are_counted(written):
    folder, _, _ = written
    assert archive.await_lines(folder, 3, quiet_seconds=0.3)[0] == 2


def test_the_ends_of_data_lines_are_where_the_file_was_long_enough(written):
    folder, reply, frame = written
    assert archive.line_ends(folder) == [reply + frame, reply + 2 * frame]
