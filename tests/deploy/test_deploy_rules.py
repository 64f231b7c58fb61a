"""Prometheus rules against what a real connector exposes, and against what rings when."""

import json
import re
import shutil
import subprocess
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import NamedTuple

import anyio
import pytest
from prometheus_client.parser import text_string_to_metric_families
from ruamel.yaml import YAML

from rig.programs import Bus, Files, Program
from rig.venues import live_recording
from ssmd_core.testing import LoopbackVenue, until
from ssmd_kalshi.venue import KalshiFace, new_key

ROOT = Path(__file__).resolve().parents[2]
MONITORING = ROOT / "deploy/monitoring"
RUNBOOK = ROOT / "docs/runbook.md"
RULES = YAML(typ="safe").load((MONITORING / "rules.yaml").read_text("utf-8"))
ALERTS = {rule["alert"]: rule for group in RULES["groups"] for rule in group["rules"]}
CASES = YAML(typ="safe").load((MONITORING / "rules.test.yaml").read_text("utf-8"))["tests"]

ADDED_BY_PROMETHEUS = {"up", "instance", "job"}
NAME = re.compile(r"\b(?:ssmd|process|python)_\w+|\bup\b")
LABELS = re.compile(r'(?:without|by|on) \(([^)]*)\)|(\w+)="')
TARGET = 'instance="pod:8080",job="ssmd"'

needs_promtool = pytest.mark.skipif(
    shutil.which("promtool") is None, reason="no promtool: Debian's package prometheus has it"
)


class Recorded(NamedTuple):
    """Two looks at ``/metrics``, a moment apart."""

    first: dict
    second: dict
    kinds: dict


def read(text):
    """Return the value of every series, and the kind of every name."""
    values, kinds = {}, {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            values[sample.name, tuple(sorted(sample.labels.items()))] = sample.value
            kinds[sample.name] = family.type
    return values, kinds


async def look(run):
    first, _ = read((await run.get("/metrics")).text)
    before = sum(v for (name, _), v in first.items() if name.endswith("archive_sync_seconds_count"))
    await run.counts("archive_sync_seconds_count", before + 3)
    second, kinds = read((await run.get("/metrics")).text)
    return Recorded(first, second, kinds)


@asynccontextmanager
async def running(folder, env, rate=300):
    """Yield a connector, ready, and the venue that it captures."""
    key = new_key()
    folder.mkdir()
    async with LoopbackVenue(live_recording(rate), KalshiFace.for_key(key)) as venue:
        run = Program(folder, dict(key.environ)).on_faulty_ground(folder / "data")
        run.write(Files.feed.format(endpoint=venue.url), env)
        try:
            await run.start().ready()
            await run.received(200)
            yield run, venue
        finally:
            run.kill()


async def record(folder):
    """Return by name what a connector exposes when all is well, and in each of four troubles."""
    seen = {}
    with Bus(folder / "nats") as bus:
        await bus.add_stream()
        both = Files.both.format(url=bus.url, path=folder / "run/data")
        async with running(folder / "run", both) as (run, venue):
            seen["all is well"] = await look(run)
            bus.kill()
            await run.says("bus: ")
            seen["the bus is away"] = await look(run)
            bus.start()
            await run.caught_up()
            run.fault("write", "ENOSPC")
            await run.says("archive: ")
            await until(partial(_is_one, run, "archive_sync_seconds_count"))
            first, kinds = read((await run.get("/metrics")).text)
            seen["the disk is full"] = Recorded(first, first, kinds)
            run.mend("write")
            await run.caught_up()
            venue.skip(2, b'"type":"trade"')
            venue.garble()
            await run.counts("gaps_total", 1)
            await run.counts("parse_errors_total", 1)
            venue.refuse(401, '{"code":"authentication_error"}')
            venue.cut()
            await run.says("HTTP 401")
            first, kinds = read((await run.get("/metrics")).text)
            seen["the key was revoked"] = Recorded(first, first, kinds)
    objects = Files.file.format(path="memory://archive") + f"  spool: {folder / 'spool'}\n"
    async with running(folder / "objects", objects) as (run, _):
        await run.counts("upload_backlog_bytes", 0)
        seen["an archive in object storage"] = await look(run)
    return seen


async def _is_one(run, name):
    return await run.metric(name) >= 1


@pytest.fixture(scope="module")
def recorded(tmp_path_factory):
    return anyio.run(record, tmp_path_factory.mktemp("recorded"))


@pytest.fixture(scope="module")
def exposed(recorded):
    """Every series that any of the runs exposed."""
    return {series for each in recorded.values() for series in each.second}


# ── the rules themselves ─────────────────────────────────────────────────────────


def test_every_name_in_an_expression_is_one_that_a_real_run_exposes(exposed):
    known = {name for name, _ in exposed} | ADDED_BY_PROMETHEUS
    named = {name for rule in ALERTS.values() for name in NAME.findall(rule["expr"])}
    assert len(named) > 20
    assert named - known == set()


def test_every_label_in_an_expression_is_one_that_a_real_run_exposes(exposed):
    known = {label for _, labels in exposed for label, _ in labels} | ADDED_BY_PROMETHEUS
    named = {
        label.strip()
        for rule in ALERTS.values()
        for several, one in LABELS.findall(rule["expr"])
        for label in (one or several).split(",")
    }
    assert {"component", "state", "reason"} <= named
    assert named - known == set()


def test_every_value_that_an_expression_asks_for_is_one_that_a_real_run_exposes(exposed):
    known = {pair for _, labels in exposed for pair in labels}
    asked = {
        pair for rule in ALERTS.values() for pair in re.findall(r'(\w+)="([^"]*)"', rule["expr"])
    }
    assert asked
    assert asked - known == set()


@pytest.mark.parametrize("alert", ALERTS)
def test_an_alert_says_how_bad_it_is_what_it_is_and_where_to_read_on(alert):
    rule = ALERTS[alert]
    assert re.fullmatch(r"Ssmd[A-Z]\w+", alert)
    assert re.fullmatch(r"\d+[mh]", rule["for"])
    assert rule["labels"].keys() == {"severity"}
    assert rule["labels"]["severity"] in {"critical", "warning"}
    notes = rule["annotations"]
    assert notes.keys() == {"summary", "description", "runbook_url"}
    assert len(notes["summary"]) <= 120
    assert notes["description"].endswith(".")


@pytest.mark.parametrize("alert", ALERTS)
def test_the_page_that_an_alert_names_has_a_section_on_it(alert):
    page, _, anchor = ALERTS[alert]["annotations"]["runbook_url"].partition("#")
    assert page.endswith("/" + RUNBOOK.relative_to(ROOT).as_posix())
    headings = re.findall(r"^#+ (\w+)$", RUNBOOK.read_text("utf-8"), re.MULTILINE)
    assert anchor in {heading.lower() for heading in headings}


def test_the_runbook_tells_of_no_alert_that_there_is_not():
    told = re.findall(r"^#+ (Ssmd\w+)$", RUNBOOK.read_text("utf-8"), re.MULTILINE)
    assert told == list(ALERTS)


def test_the_table_of_metrics_is_what_real_runs_expose(recorded):
    page = (ROOT / "docs/operate.md").read_text("utf-8")
    table = page[page.index("### Metrics\n") : page.index("### Alerts\n")]
    told = set()
    for row in re.findall(r"^\| (`.*?) \|", table, re.MULTILINE):
        told |= set(re.findall(r"`(\w+)`", row))
    shown = {name for each in recorded.values() for name in each.kinds}
    ours = {name.removeprefix("ssmd_connector_") for name in shown if name.startswith("ssmd_")}
    assert {re.sub(r"_(bucket|count|sum)$", "", name) for name in ours} == told


@pytest.mark.parametrize("page", ["operate", "runbook"])
def test_a_metric_that_a_page_names_is_one_that_a_real_run_exposes(page, recorded):
    shown = {re.sub(r"_(bucket|sum)$", "", n) for each in recorded.values() for n in each.kinds}
    text = (ROOT / f"docs/{page}.md").read_text("utf-8")
    named = set(re.findall(r"`((?:ssmd|process)_\w*[a-z])`", text))
    assert named
    assert named - shown == set()


def test_no_alert_stands_twice():
    assert len(ALERTS) == sum(len(group["rules"]) for group in RULES["groups"])


def test_the_resource_of_the_operator_is_the_same_file_a_step_deeper():
    page = (ROOT / "docs/operate.md").read_text("utf-8")
    (command,) = re.findall(r"^\{ cat <<'END'\n.*?\n\} \| ", page, re.MULTILINE | re.DOTALL)
    made = subprocess.run(
        ["sh", "-c", command.removesuffix(" | ")], cwd=ROOT, capture_output=True, check=True
    )
    resource = YAML(typ="safe").load(made.stdout.decode())
    assert resource["kind"] == "PrometheusRule"
    assert list(resource["spec"]) == ["groups"]
    names = [rule["alert"] for group in resource["spec"]["groups"] for rule in group["rules"]]
    assert names == list(ALERTS)
    assert "OWNER" not in made.stdout.decode()


# ── when they fire ───────────────────────────────────────────────────────────────


def series_of(case):
    for entry in case["input_series"]:
        name, _, labels = entry["series"].rstrip("}").partition("{")
        yield name, dict(re.findall(r'(\w+)="([^"]*)"', labels))


@pytest.mark.parametrize("case", CASES, ids=[case["name"] for case in CASES])
def test_a_case_is_made_of_series_that_a_real_run_exposes(case, exposed):
    chosen_by_events = {"reason", "channel", "message_type"}
    known = {(name, frozenset(label for label, _ in labels)) for name, labels in exposed}
    every_label = {label for _, labels in known for label in labels}
    for name, labels in series_of(case):
        own = frozenset(labels) - ADDED_BY_PROMETHEUS
        if name in ADDED_BY_PROMETHEUS:
            assert not own
        elif own & chosen_by_events and (name, own) not in known:
            # Nothing of the kind happened to a run: its name and its label are known apart.
            assert (name, own - chosen_by_events) in known
            assert own <= every_label
        else:
            assert (name, own) in known


def test_every_alert_fires_in_a_case():
    shown = {
        alert
        for case in CASES
        for check in case.get("promql_expr_test", ())
        for sample in check.get("exp_samples", ())
        for alert in re.findall(r'alertname="(\w+)"', sample["labels"])
    }
    assert shown == set(ALERTS)


def promtool(*arguments):
    done = subprocess.run(
        ["promtool", *arguments], cwd=MONITORING, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


@needs_promtool
def test_promtool_finds_the_rules_sound():
    promtool("check", "rules", "--lint-fatal", "rules.yaml")


@needs_promtool
def test_every_case_goes_as_it_says():
    promtool("test", "rules", "rules.test.yaml")


QUIET, AFTER = 15, 40
"""Minutes as in the healthy recording, and minutes as in the other."""


def course(well, trouble):
    """Yield each series and its values: so many minutes of the one recording, then the other.

    What a recording's two looks differ by is taken for what a counter grows by in a minute.
    """
    for series in sorted({*well.second, *trouble.second}):
        name, labels = series
        shown = ",".join([*(f'{key}="{value}"' for key, value in labels), TARGET])
        grows = trouble.kinds.get(name) in {"counter", "histogram"}
        values = f"{well.second[series]}x{QUIET}" if series in well.second else f"_x{QUIET + 1}"
        if series in trouble.second:
            begin = trouble.second[series]
            step = begin - trouble.first.get(series, begin) if grows else 0
            values += f" {begin}+{max(0, step)}x{AFTER}"
        yield {"series": f"{name}{{{shown}}}", "values": values}


def fires(tmp_path, well, trouble, expected):
    """Check which alerts fire, by minutes since the trouble began."""
    firing = 'count by (alertname) (ALERTS{alertstate="firing"})'
    checks = [
        {
            "expr": firing,
            "eval_time": f"{QUIET + 1 + minutes}m",
            "exp_samples": [
                {"labels": f'{{alertname="{alert}"}}', "value": 1} for alert in sorted(alerts)
            ],
        }
        for minutes, alerts in expected.items()
    ]
    case = {
        "interval": "1m",
        "input_series": list(course(well, trouble)),
        "promql_expr_test": checks,
    }
    file = tmp_path / "recorded.test.yaml"
    rules = str(MONITORING / "rules.yaml")
    file.write_text(
        json.dumps({"rule_files": [rules], "evaluation_interval": "1m", "tests": [case]})
    )
    promtool("test", "rules", str(file))


EXPECTED = {
    "all is well": set(),
    "an archive in object storage": set(),
    "the bus is away": {"SsmdBusFailing"},
    "the disk is full": {"SsmdArchiveFailing"},
    "the key was revoked": {"SsmdVenueFailing", "SsmdCredentialsRefused"},
}


@needs_promtool
@pytest.mark.parametrize("trouble", EXPECTED)
def test_what_a_real_run_exposes_in_a_trouble_rings_for_it_and_for_nothing_else(
    trouble, recorded, tmp_path
):
    well = recorded["all is well"] if EXPECTED[trouble] else recorded[trouble]
    alerts = EXPECTED[trouble]
    lasting = (alerts - {"SsmdCredentialsRefused"}) | ({"SsmdNotReady"} if alerts else set())
    fires(tmp_path, well, recorded[trouble], {4: alerts, 14: lasting})
