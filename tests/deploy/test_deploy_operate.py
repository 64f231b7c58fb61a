"""The operator's pages: their commands work, and what they quote is what the program says."""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import anyio
import pytest

from rig.programs import SSMD, Program
from rig.venues import all_received, live_recording, watched
from ssmd_core.config import ProcessSettings
from ssmd_core.testing import LoopbackVenue, until
from ssmd_kalshi import credentials

ROOT = Path(__file__).resolve().parents[2]
K8S = ROOT / "deploy/k8s"
OPERATE = (ROOT / "docs/operate.md").read_text("utf-8")
RUNBOOK = (ROOT / "docs/runbook.md").read_text("utf-8")
SOURCE = "\n".join(
    path.read_text("utf-8")
    for folder in (ROOT / "ssmd_core", *ROOT.glob("plugins/*/src"))
    for path in folder.rglob("*.py")
)
SHELL = re.compile(r"^```sh\n(.*?)^```", re.MULTILINE | re.DOTALL)
POD_BUS = "nats.nats.svc.cluster.local"


def commands(page):
    """Yield every command of a page's shell blocks, continued lines joined, comments left out."""
    for block in SHELL.findall(page):
        for line in block.replace("\\\n", " ").splitlines():
            if line.strip() and not line.startswith("#"):
                yield line.strip()


def section(page, title):
    """Return the text below a heading, up to the next one of its rank."""
    found = re.search(
        rf"^(#+) {re.escape(title)}\n(.*?)(?=^\1 |\Z)", page, re.MULTILINE | re.DOTALL
    )
    assert found, f"no section {title}"
    return found[2]


def first_cells(text):
    """Yield what stands as code in the first column of a section's tables."""
    for row in re.findall(r"^\| (`.*?) \|", text, re.MULTILINE):
        yield from re.findall(r"`((?:[^`])+)`", row)


# ── the pages ────────────────────────────────────────────────────────────────────


def test_the_page_keeps_the_order_of_the_guide():
    assert re.findall(r"^## (.+)$", OPERATE, re.MULTILINE) == [
        "Prerequisites",
        "Image",
        "Kubernetes resources",
        "Option 1: NATS",
        "Option 2: files",
        "Both",
        "Network policies",
        "Environment variables",
        "Verify",
        "Troubleshooting",
        "Coming from the reference system",
    ]


def test_the_variables_of_the_table_are_those_that_the_program_reads():
    table = section(OPERATE, "Environment variables")
    told = set(re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE))
    read = set(credentials._DEFAULTS.values())
    for field in ProcessSettings.model_fields.values():
        alias = field.validation_alias
        read |= {alias} if isinstance(alias, str) else set(alias.choices)
    assert told == read


def test_the_secret_has_the_keys_that_the_pods_ask_for():
    asked = set()
    for file in K8S.rglob("*.yaml"):
        asked |= {
            tuple(pair)
            for pair in re.findall(
                r"secretKeyRef:\s+name: (\S+)\s+key: (\S+)", file.read_text("utf-8")
            )
        }
    (create,) = {
        call for call in commands(section(OPERATE, "Secret")) if "create secret generic" in call
    }
    name = shlex.split(create)[4]
    keys = re.findall(r"--from-(?:literal|file)=([\w-]+)=", create)
    assert asked == {(name, key) for key in keys}


# ── the commands, in the place of a pod ──────────────────────────────────────────


class Pod:
    """A connector with the files and the variables of a workload, and commands beside it."""

    def __init__(self, folder, mode, environ, archive=None):
        folder.mkdir()
        environ = dict(environ)
        if archive is not None:
            environ["SSMD_STORAGE__PATH"] = str(archive)
        self.archive = archive
        self.program = Program(folder, environ)
        component = K8S / "components" / mode
        self.program.write(
            (component / "feeds/kalshi.yaml").read_text("utf-8"),
            (component / f"environments/prod-{mode}.yaml").read_text("utf-8"),
        )

    def translated(self, command):
        """Return a command of a page as it reads outside a pod."""
        port = self.program.environ.get("SSMD_TRANSPORT__URL", "").rpartition(":")[2]
        folder = self.program.folder
        for there, here in (
            (f"'{POD_BUS}', 4222", f"'127.0.0.1', {port}"),
            (f"{POD_BUS}:4222", f"127.0.0.1:{port}"),
            ("localhost:8080", self.program.address),
            ("/config/feeds/kalshi.yaml", str(folder / "feed.yaml")),
            ("/config/environments/prod-both.yaml", str(folder / "env.yaml")),
            ("/config/environments/prod-nats.yaml", str(folder / "env.yaml")),
            ("/data", str(self.archive)),
        ):
            command = command.replace(there, here)
        words = shlex.split(command)
        return [{"ssmd": SSMD[0], "python": sys.executable}.get(word, word) for word in words]

    async def run(self, command):
        """Return what a command of a page prints; it must succeed."""
        with anyio.fail_after(30):
            done = await anyio.run_process(
                self.translated(command), env=self.program.environ, check=False
            )
        assert done.returncode == 0, (command, done.stdout.decode(), done.stderr.decode())
        return done.stdout.decode()

    async def run_all(self, commands):
        """Return what each command prints, side by side."""
        printed = {}

        async def run(command):
            printed[command] = await self.run(command)

        async with anyio.create_task_group() as tasks:
            for command in commands:
                tasks.start_soon(run, command)
        return printed


def inside(workload):
    """Return the commands that the pages run inside pods of a workload."""
    every = {*commands(OPERATE), *commands(RUNBOOK)}
    pods = [re.search(rf"kubectl exec .*?{workload} --\s+(.*)", call) for call in every]
    return sorted({pod[1].strip() for pod in pods if pod})


@pytest.fixture
def environ(key, bus):
    return {**key.environ, "SSMD_TRANSPORT__URL": bus.url}


@pytest.fixture
def pod(tmp_path):
    made = []

    def make(*args, **kwargs):
        made.append(Pod(tmp_path / f"pod{len(made)}", *args, **kwargs))
        return made[-1]

    yield make
    for each in made:
        each.program.kill()


@pytest.mark.anyio
async def test_every_command_for_a_pod_with_an_archive_works_in_its_place(
    pod, environ, bus, face, tmp_path
):
    await bus.add_stream()
    async with LoopbackVenue(live_recording(300), face) as venue:
        both = pod(
            "both",
            {**environ, "SSMD_FEED__VERSIONS__0__ENDPOINT": venue.url},
            archive=tmp_path / "data",
        )
        run = both.program
        await run.start().ready()
        await run.received(300)
        venue.silence()
        await all_received(run, venue)
        await run.caught_up()
        printed = await both.run_all(inside(r"ssmd-connector-(?:both|file)"))
        for path in ("ready", "status", "metrics"):
            assert f"curl -s localhost:8080/{path}" in set(commands(OPERATE))
            assert await both.run(f"curl -s localhost:8080/{path}")
        assert await run.stop() == 0, run.log()
    assert "everything is explained" in printed["ssmd verify /data"]
    assert "covered" in printed["ssmd coverage /data"]
    (compared,) = (text for call, text in printed.items() if call.endswith("--diff"))
    assert compared
    listed = "".join(text for call, text in printed.items() if call.startswith("ls "))
    assert re.search(r"\d{4}-\d\d-\d\d", listed)
    tails = [text for call, text in printed.items() if "tail" in call]
    assert tails
    assert all('"event":"subscribed"' in text for text in tails)


@pytest.mark.anyio
async def test_every_command_for_a_pod_without_an_archive_works_in_its_place(
    pod, environ, bus, face
):
    await bus.add_stream()
    async with LoopbackVenue(live_recording(300), face) as venue:
        nats = pod("nats", {**environ, "SSMD_FEED__VERSIONS__0__ENDPOINT": venue.url})
        await nats.program.start().ready()
        calls = inside("deploy/ssmd-connector-nats")
        printed = " ".join((await nats.run_all(calls)).values())
        assert await nats.program.stop() == 0, nats.program.log()
    assert len(calls) == 2
    assert "credentials accepted" in printed
    assert "open" in printed.split()


def test_trades_of_two_archives_are_told_apart(tmp_path):
    frame = '{{"ts":"","feed":"kalshi","data":{{"type":"trade","msg":{{"trade_id":"{}"}}}}}}\n'
    (tmp_path / "theirs").mkdir()
    (tmp_path / "ours").mkdir()
    (tmp_path / "theirs/kalshi.jsonl").write_text(frame.format("a") + frame.format("b"))
    (tmp_path / "ours/kalshi.jsonl").write_text(frame.format("b"))
    (tmp_path / "ours/kalshi.rest.jsonl").write_text(frame.format("c"))
    (script,) = (block for block in SHELL.findall(OPERATE) if block.startswith("ids()"))
    done = subprocess.run(
        ["sh", "-ec", script],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
        env={"LC_ALL": "C", "PATH": os.environ["PATH"]},
    )
    assert done.stdout == '"trade_id":"a"\n"trade_id":"c"\n'


# ── the runbook's words ──────────────────────────────────────────────────────────

REASONS = list(first_cells(section(RUNBOOK, "Reasons of ready")))


def told(reason, patterns):
    """Return the patterns that a text fits, ``…`` standing for anything."""
    return {
        pattern
        for pattern in patterns
        if re.match(re.escape(pattern).replace("…", ".*?"), reason, re.DOTALL)
    }


@pytest.mark.parametrize("pattern", REASONS)
def test_a_reason_in_the_runbook_is_made_of_words_that_the_program_says(pattern):
    pieces = [piece.strip() for piece in re.split(r"[…:;,()]", pattern)]
    assert [piece for piece in pieces if piece and piece not in SOURCE] == []


def test_the_reasons_for_dropping_are_those_that_are_counted():
    counted = re.findall(r'dropped\.add\("(\w+)"', SOURCE)
    counted += re.findall(r'^_FORBIDDEN = "(\w+)"', SOURCE, re.MULTILINE)
    counted += re.findall(r'return \("(\w+)", (?:reason|"its)', SOURCE)
    assert set(counted) == set(first_cells(section(RUNBOOK, "SsmdDropping")))


PROVOKED = {
    "bus: nats://…",
    "bus: no stream at … takes …",
    "connection …: closed; unreachable: …",
    "connection …: closed; refused: HTTP …",
    "connection …: closed; cut: …",
    "connection …: waiting for the venue to confirm subscriptions",
    "archive: cannot append to …",
    "stopping",
}


@pytest.mark.anyio
async def test_every_reason_that_a_run_gives_in_trouble_stands_in_the_runbook(
    program, archive, yaml, face, bus
):
    bus.kill()
    async with LoopbackVenue(live_recording(300), face) as venue:
        run = program().on_faulty_ground(archive.path)
        run.write(
            yaml.feed.format(endpoint=venue.url),
            yaml.both.format(url=bus.url, path=archive.path),
        )
        venue.delay_replies(0.5)
        venue.go_down()
        run.start()
        async with watched(run) as reasons:

            async def seen(text):
                await until(lambda: any(text in reason for reason in reasons), 40)

            await seen("unreachable")
            await venue.come_back()  # at once: each failure makes the next pause longer
            await seen("nats://")
            bus.start()
            await seen("no stream at")
            await bus.add_stream()
            await run.ready(40)
            run.fault("write", "ENOSPC")
            await seen("archive: ")
            run.mend("write")
            await run.ready(40)
            venue.refuse(503)
            venue.cut()
            await seen("HTTP 503")
            venue.resume()
            await seen("waiting for the venue")
            await run.ready(40)
            run.fault("fdatasync", "HANG")  # so that the stop takes its time
            run.process.terminate()
            await seen("stopping")
            run.mend("fdatasync")
            await run.wait()
    unknown = [reason for reason in reasons if not told(reason, REASONS)]
    assert unknown == []
    assert {pattern for reason in reasons for pattern in told(reason, REASONS)} >= PROVOKED


# ── exit codes ───────────────────────────────────────────────────────────────────


def lines_of(code):
    text = section(RUNBOOK, f"Exit code {code}")
    return set(first_cells(text)) | set(re.findall(r"^`([^`]+)`", text, re.MULTILINE))


@pytest.mark.parametrize("code", range(4))
def test_a_last_line_in_the_runbook_is_made_of_words_that_the_program_says(code):
    lines = lines_of(code) - {"FILE:LINE: key: …"}
    assert lines
    for line in lines:
        pieces = [piece.strip() for piece in re.split(r"[…:;,]", line)]
        assert [piece for piece in pieces if piece and piece not in SOURCE] == []


def ended(run):
    """Return the patterns of the runbook that the last line of the log fits."""
    return told(run.last_words()["event"], lines_of(run.process.returncode))


@pytest.mark.anyio
async def test_a_clean_stop_ends_with_the_words_of_code_0(program, archive, yaml, face):
    async with LoopbackVenue(live_recording(300), face) as venue:
        run = program()
        run.write(yaml.feed.format(endpoint=venue.url), yaml.file.format(path=archive.path))
        await run.start().ready()
        assert await run.stop() == 0, run.log()
    assert ended(run) == {"stopped cleanly"}


@pytest.mark.anyio
async def test_a_loss_ends_with_the_words_of_code_1(program, yaml, face, bus):
    await bus.add_stream()
    async with LoopbackVenue(live_recording(2_000), face) as venue:
        run = program(SSMD_SHUTDOWN_SECONDS="2")
        run.write(yaml.feed.format(endpoint=venue.url), yaml.nats.format(url=bus.url))
        await run.start().ready()
        bus.kill()
        await run.says("bus: ")
        await run.counts("backlog_bytes", 1)
        assert await run.stop() == 1, run.log()
    assert ended(run) == {"stopped with data lost"}


@pytest.mark.anyio
async def test_a_missing_key_ends_with_the_words_of_code_2(program, archive, yaml):
    run = program(KALSHI_API_KEY="")
    run.write(yaml.feed.format(endpoint="ws://127.0.0.1:1"), yaml.file.format(path=archive.path))
    run.start()
    assert await run.wait() == 2
    assert ended(run) == {"… is not set: …"}


@pytest.mark.anyio
async def test_a_missing_stream_ends_with_the_words_of_code_2(program, yaml, face, bus):
    run = program()
    run.write(yaml.feed.format(endpoint="ws://127.0.0.1:1"), yaml.nats.format(url=bus.url))
    run.start()
    assert await run.wait() == 2
    assert ended(run) == {"no stream at … takes …"}
    assert "nats stream add PROD_KALSHI" in json.dumps(run.last_words())


@pytest.mark.anyio
async def test_a_refused_key_ends_with_the_words_of_code_3(program, archive, yaml, face):
    async with LoopbackVenue([], face) as venue:
        venue.refuse(401, '{"code":"authentication_error"}')
        run = program()
        run.write(yaml.feed.format(endpoint=venue.url), yaml.file.format(path=archive.path))
        run.start()
        assert await run.wait() == 3
    assert ended(run) == {"the venue refused the credentials: …"}


def test_the_tools_that_the_commands_need_are_at_hand_here():
    assert shutil.which("curl"), "the page's curl commands are run by these tests"
