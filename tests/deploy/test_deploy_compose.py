"""deploy/compose.yaml: its form, and what it runs, run here as plain processes on loopback."""

import contextlib
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import anyio
import httpx
import pytest
from ruamel.yaml import YAML

from rig.programs import SSMD, free_port
from ssmd_core.testing import find_nats_server, until

ROOT = Path(__file__).resolve().parents[2]
DEPLOY = ROOT / "deploy"
PATH = DEPLOY / "compose.yaml"
VARIABLE = re.compile(r"\$\{(\w+):-([^}]*)\}")
OURS = ("venue", "nats-connector", "file-connector")


def tree():
    return YAML(typ="safe", pure=True).load(PATH.read_text("utf-8"))


def interpolated(value):
    """Return the tree as compose reads it where no variable is set."""
    match value:
        case str():
            return VARIABLE.sub(lambda found: found[2], value)
        case list():
            return [interpolated(each) for each in value]
        case dict():
            return {key: interpolated(each) for key, each in value.items()}
    return value


@pytest.fixture(scope="module")
def services():
    return interpolated(tree())["services"]


# ── its form ─────────────────────────────────────────────────────────────────────


def test_it_is_what_the_schema_of_compose_asks_for():
    checker = Path(sys.executable).with_name("check-jsonschema")
    if not checker.exists():
        pytest.skip("check-jsonschema is not installed")
    done = subprocess.run(
        [checker, "--builtin-schema", "vendor.compose-spec", PATH],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_variable_has_a_default_so_that_no_account_is_needed():
    text = "\n".join(line.partition("#")[0] for line in PATH.read_text("utf-8").splitlines())
    assert len(re.findall(r"\$\{", text)) == len(VARIABLE.findall(text)) > 0


@pytest.mark.parametrize("name", OURS)
def test_our_containers_can_change_nothing_but_their_volumes(services, name):
    service = services[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["tmpfs"] == ["/tmp"]


@pytest.mark.parametrize("name", OURS)
def test_a_container_is_given_longer_to_stop_than_a_connector_drains(services, name):
    assert services[name]["stop_grace_period"] == "30s"


def test_every_port_is_open_to_this_machine_only(services):
    ports = [port for service in services.values() for port in service.get("ports", ())]
    assert ports
    assert [port for port in ports if not port.startswith("127.0.0.1:")] == []


def test_every_volume_is_declared_and_every_file_is_there(services):
    sources = {
        volume.split(":")[0]
        for service in services.values()
        for volume in service.get("volumes", ())
    }
    files = {source for source in sources if source.startswith(".")}
    assert sources - files == set(tree()["volumes"])
    assert [source for source in files if not (DEPLOY / source).is_dir()] == []


def test_every_command_of_its_first_lines_names_a_service_that_is_there(services):
    told = re.findall(r"^#   docker compose (.+)$", PATH.read_text("utf-8"), re.MULTILINE)
    calls = [shlex.split(line, comments=True) for line in told]
    assert calls
    assert all(call[:2] == ["-f", "deploy/compose.yaml"] for call in calls)
    assert [call[3] for call in calls if call[2] == "exec" and call[3] not in services] == []


# ── what it runs ─────────────────────────────────────────────────────────────────


class Stand:
    """The services as processes: hosts are ports of loopback, volumes are folders."""

    def __init__(self, services, folder):
        self.services = services
        self.folder = folder
        self.ports = {"nats": free_port(), "venue": free_port(), "monitor": free_port()}
        self.health = {name: free_port() for name in services}
        self.processes = {}

    def text(self, name, value):
        """Return a word of a service with the hosts and folders that it has here."""
        for volume in self.services[name].get("volumes", ()):
            source, inside = volume.split(":")[:2]
            outside = DEPLOY / source if source.startswith(".") else self.folder / source
            outside.mkdir(exist_ok=True)
            value = re.sub(rf"^{inside}(?=/|$)", str(outside), value)
        for there, here in (
            (r"(?:0\.0\.0\.0|venue):8900", f"127.0.0.1:{self.ports['venue']}"),
            (r"'127\.0\.0\.1', 8900", f"'127.0.0.1', {self.ports['venue']}"),
            (r"nats:4222", f"127.0.0.1:{self.ports['nats']}"),
            (r"127\.0\.0\.1:8080", f"127.0.0.1:{self.health[name]}"),
            (r"^8222$", str(self.ports["monitor"])),
        ):
            value = re.sub(there, here, value)
        return value

    def words(self, name, words):
        return [self.text(name, word) for word in words]

    def start(self, name):
        service = self.services[name]
        entry = SSMD
        if name == "nats":
            entry = [str(find_nats_server()), "--addr", "127.0.0.1"]
            entry += ["--port", str(self.ports["nats"])]
        elif "entrypoint" in service:
            python, *more = service["entrypoint"]
            assert python == "python"
            entry = [sys.executable, *more]
        environ = {
            key: self.text(name, value) for key, value in service.get("environment", {}).items()
        }
        with self.log(name).open("wb") as log:
            self.processes[name] = subprocess.Popen(
                [*entry, *self.words(name, service["command"])],
                cwd=self.folder,
                env={
                    "PATH": os.environ["PATH"],
                    "SSMD_HEALTH_ADDR": f"127.0.0.1:{self.health[name]}",
                    **environ,
                },
                stdout=log,
                stderr=log,
            )

    def log(self, name):
        return self.folder / f"{name}.log"

    async def healthy(self, name):
        """Ask as the health check of the service does, until it says yes."""
        kind, program, *rest = self.words(name, self.services[name]["healthcheck"]["test"])
        assert kind == "CMD"
        if program != "python":  # a program of another image
            return await self.accepts(self.ports[name])
        command = [sys.executable, *rest]

        async def is_healthy():
            assert self.processes[name].poll() is None, self.log(name).read_text()
            return (await anyio.run_process(command, check=False)).returncode == 0

        return await until(is_healthy, 30)

    async def accepts(self, port):
        async def is_open():
            with contextlib.suppress(OSError):
                await (await anyio.connect_tcp("127.0.0.1", port)).aclose()
                return True
            return False

        await until(is_open, 20)

    async def captured(self, name, count):
        """Return once a connector took so many frames off its socket."""
        url = f"http://127.0.0.1:{self.health[name]}/metrics"

        async def has_enough():
            async with httpx.AsyncClient(timeout=5) as client:
                text = (await client.get(url)).text
            counts = re.findall(r"^ssmd_connector_messages_total\S* (\S+)$", text, re.MULTILINE)
            return sum(map(float, counts)) >= count

        await until(has_enough, 30)

    async def stop(self, name):
        self.processes[name].terminate()
        await until(lambda: self.processes[name].poll() is not None, 30)
        return self.processes[name].returncode

    def kill(self):
        for process in self.processes.values():
            if process.poll() is None:
                process.kill()
            process.wait()

    def run(self, *arguments):
        return subprocess.run(
            [*SSMD, *arguments], capture_output=True, text=True, timeout=60, check=False
        )


class Outcome(NamedTuple):
    stand: Stand
    codes: dict[str, int]
    verified: subprocess.CompletedProcess


@pytest.fixture(scope="module")
def outcome(services, tmp_path_factory):
    """Start everything in order, let it run until both modes took data, and stop it."""
    stand = Stand(services, tmp_path_factory.mktemp("compose"))
    try:
        yield anyio.run(play, stand)
    finally:
        stand.kill()


async def play(stand):
    started = []
    while waiting := [name for name in stand.services if name not in started]:
        for name in waiting:
            if set(stand.services[name].get("depends_on", ())) <= set(started):
                stand.start(name)
                await stand.healthy(name)
                started.append(name)
    await stand.captured("nats-connector", 50)
    await stand.captured("file-connector", 50)
    codes = {name: await stand.stop(name) for name in reversed(started)}
    return Outcome(stand, codes, stand.run("verify", str(stand.folder / "archive")))


def test_one_command_brings_up_every_service_in_order_and_healthy(outcome):
    assert set(outcome.codes) == set(outcome.stand.services)


def test_every_connector_stops_with_nothing_lost(outcome):
    assert outcome.codes["nats-connector"] == 0, outcome.stand.log("nats-connector").read_text()
    assert outcome.codes["file-connector"] == 0, outcome.stand.log("file-connector").read_text()
    assert outcome.codes["venue"] == 0, outcome.stand.log("venue").read_text()


def test_what_was_captured_holds_what_was_received(outcome):
    assert outcome.verified.returncode == 0, outcome.verified.stdout + outcome.verified.stderr
    (archive,) = (outcome.stand.folder / "archive").glob("*/kalshi.jsonl")
    assert len(archive.read_text("utf-8").splitlines()) >= 50


def test_nothing_but_the_volumes_was_written(outcome):
    logs = {outcome.stand.log(name).name for name in outcome.stand.services}
    written = {path.name for path in outcome.stand.folder.iterdir()} - logs
    assert written == {"archive", "bus", "venue"}
