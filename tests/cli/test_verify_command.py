"""What operators see of `ssmd verify` and `ssmd coverage`: exit codes, tables, JSON, messages."""

import json
import subprocess
import sys

import pytest

from ssmd_core.clock import NS, iso

START = 1_767_592_800 * NS
"""2026-01-05T06:00:00Z."""
DAY = "2026-01-05"


def frame(second, body, feed="acme"):
    return f'{{"ts":"{iso(START + round(second * NS))}","feed":"{feed}","data":{body}}}\n'


def line(second, event, **fields):
    ts = iso(START + round(second * NS))
    return json.dumps({"ts": ts, "session": "s1", "conn": 0, "event": event, **fields}) + "\n"


@pytest.fixture
def archive(world):
    """An archive of one session with three frames, of a feed that does not read offline."""
    folder = world.folder / "data" / DAY
    folder.mkdir(parents=True)
    (folder / "acme.jsonl").write_text("".join(frame(second, "{}") for second in (1, 2, 3)))
    (folder / "acme.coverage.jsonl").write_text(
        line(0, "session_opened", environment="prod")
        + line(0.5, "subscribed", channel="trades", sid=1)
        + line(3600, "session_closed", cause="stopped", frames=3)
    )
    return folder


def test_an_archive_in_order_exits_0_and_says_so(world, archive):
    code, out, _ = world.call("verify", "data")
    assert code == 0
    header, day, channel, *_ = (row.split() for row in out.splitlines())
    assert header[:5] == ["day", "feed", "channel", "sessions", "frames"]
    assert day == [DAY, "acme", "all", "1", "3", "0", "0", "0", "0", "0"]
    assert channel == ["trades", "0:59:59", "0", "0", "0", "0"]
    assert "3 frames, 1 day, up to" in out
    assert "everything is explained" in out


def test_that_sequences_were_not_checked_is_told_and_no_fault(world, archive):
    code, out, _ = world.call("verify", "data")
    assert code == 0
    assert "sequences are not checked" in out
    assert "does not read frames offline" in out


def test_an_archive_that_lost_a_line_exits_1_and_names_it(world, archive):
    path = archive / "acme.jsonl"
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:-1]))
    code, out, _ = world.call("verify", "data")
    assert code == 1
    assert "FAULT   2026-01-05 acme" in out
    assert "received 3 frames, 2 in the archive: 1 missing, and not declared" in out
    assert out.splitlines()[-1].endswith("1 unexplained")


def test_the_json_is_one_object_with_its_version(world, archive):
    code, out, _ = world.call("verify", "data", "--json")
    report = json.loads(out)
    assert code == 0
    assert list(report) == [
        *("version", "place", "upto", "ok", "unexplained"),
        *("days", "findings", "omitted", "bus"),
    ]
    assert (report["version"], report["ok"], report["unexplained"]) == (1, True, 0)
    (day,) = report["days"]
    assert (day["day"], day["feed"], day["sessions"], day["frames"]) == (DAY, "acme", 1, 3)
    assert day["events"] == {"session_closed": 1, "session_opened": 1, "subscribed": 1}
    (channel,) = day["channels"]
    assert channel == {
        "channel": "trades",
        "frames": None,
        "covered_seconds": 3599.5,
        "gaps": 0,
        "missing": 0,
        "repaired": 0,
        "repaired_records": 0,
        "unrepaired": 0,
        "unexplained": 0,
    }
    (finding,) = report["findings"]
    assert (finding["kind"], finding["explained"]) == ("sequence_unchecked", True)


def test_a_url_of_a_directory_is_an_archive_too(world, archive):
    code, out, _ = world.call("verify", archive.parent.as_uri(), "--json")
    assert (code, json.loads(out)["ok"]) == (0, True)


def test_a_feed_and_a_date_narrow_it(world, archive):
    (archive / "other.jsonl").write_text(frame(1, "{}", feed="other"))
    assert world.call("verify", "data").code == 1
    assert world.call("verify", "data", "--feed", "acme", "--date", DAY).code == 0


def test_an_archive_whose_clock_is_ahead_of_ours_is_read_to_its_end(world, archive):
    ahead = archive.parent / "2199-01-01"
    ahead.mkdir()
    for path in archive.iterdir():
        (ahead / path.name).write_text(path.read_text().replace(DAY, "2199-01-01"))
    _, out, _ = world.call("verify", "data", "--json", "--date", "2199-01-01")
    assert json.loads(out)["days"][0]["frames"] == 3


@pytest.mark.parametrize("command", ["verify", "coverage"])
@pytest.mark.parametrize(
    ("arguments", "messages"),
    [
        (["nowhere"], ["no archive at nowhere"]),
        (["ftp://host/x"], ["storage type `ftp`", "installed:", "local"]),
        (["data", "--feed", "acne"], ["no feed `acne`; it has acme"]),
        (["data", "--date", "2026-01-04"], ["nothing of 2026-01-04; it has 2026-01-05"]),
        (["data", "--date", "yesterday"], ["`yesterday` is no date", "2026-11-22"]),
    ],
)
def test_nothing_to_read_exits_2_and_says_what_there_is(
    world, archive, command, arguments, messages
):
    code, out, err = world.call(command, *arguments)
    assert (code, out) == (2, "")
    for message in messages:
        assert message in err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--bus", "bus:4222"], "--bus is no URL; write it as nats://HOST:4222"),
        (["--bus", "kafka://bus"], "transport type `kafka`"),
        (["--bus", "nats://"], "--bus: url"),
        (["--env", "nowhere.yaml"], "nowhere.yaml"),
        (["--env", "env.yaml"], "transport `memory` cannot be read: nothing to compare"),
        (["--bus", "nats://127.0.0.1:1"], "127.0.0.1:1"),
    ],
)
def test_a_bus_that_cannot_be_read_exits_2_and_says_why(world, archive, arguments, message):
    code, out, err = world.call("verify", "data", *arguments)
    assert (code, out) == (2, "")
    assert message in err


def test_a_password_in_the_url_of_a_bus_is_not_printed(world, archive):
    code, _, err = world.call("verify", "data", "--bus", "nats://me:hunter2@127.0.0.1:1")
    assert code == 2
    assert "hunter2" not in err


def test_coverage_draws_the_day(world, archive):
    code, out, _ = world.call("coverage", "data")
    assert code == 0
    assert f"acme  {DAY}" in out
    (row,) = [row for row in out.splitlines() if row.strip().startswith("trades")]
    assert row.count("█") == 2
    assert row.count("·") == 46
    assert "100.000 %" in row


def test_coverage_lists_the_holes_with_reason_and_length(world, archive):
    ledger = archive / "acme.coverage.jsonl"
    at = [iso(START + second * NS) for second in (60, 90)]
    rows = ledger.read_text().splitlines(keepends=True)
    gap = line(100, "gap", channel="trades", first=4, last=6, from_ts=at[0], to_ts=at[1])
    ledger.write_text("".join([*rows[:2], gap, rows[2]]))
    _, out, _ = world.call("coverage", "data")
    (row,) = [row.split() for row in out.splitlines() if "gap 4..6" in row]
    assert row == ["06:01:00.000", "06:01:30.000", "30.000", "gap", "4..6", "no"]
    assert "░" in out


def test_coverage_as_json_has_a_version_and_exact_times(world, archive):
    code, out, _ = world.call("coverage", "data", "--json")
    report = json.loads(out)
    assert (code, report["version"]) == (0, 1)
    (day,) = report["days"]
    (channel,) = day["channels"]
    assert (channel["conn"], channel["channel"], channel["repair"]) == (0, "trades", None)
    assert (channel["covered_seconds"], channel["missing_seconds"]) == (3599.5, 0)
    assert channel["covered"] == [[iso(START + NS // 2), iso(START + 3600 * NS)]]
    assert channel["holes"] == []


def test_coverage_shows_days_of_which_there_is_nothing(world, archive):
    later = archive.parent / "2026-01-07"
    later.mkdir()
    begin = 2 * 86_400
    (later / "acme.coverage.jsonl").write_text(
        line(begin, "session_opened")
        + line(begin + 1, "subscribed", channel="trades", sid=1)
        + line(begin + 9, "session_closed", cause="stopped", frames=0)
    )
    _, out, _ = world.call("coverage", "data", "--json")
    days = {day["day"]: day["channels"][0] for day in json.loads(out)["days"]}
    assert list(days) == [DAY, "2026-01-06", "2026-01-07"]
    assert days["2026-01-06"]["missing_seconds"] == 86_400
    assert days["2026-01-06"]["holes"][0]["why"] == "stopped"


@pytest.mark.parametrize("command", ["verify", "coverage"])
def test_the_help_of_a_command_imports_nothing_heavy(command):
    script = (
        "import sys\n"
        "from ssmd_core.cli import main\n"
        f"main(['{command}', '--help'])\n"
        "print([name for name in sys.modules if name.startswith(('ssmd_core.audit', 'capnp'))])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.splitlines()[-1] == "[]"
    assert "PATH" in done.stdout
