"""The configuration in deploy/k8s, loaded and run by the program itself."""

import json
import shutil
import subprocess
from pathlib import Path

import anyio
import pytest

from rig.manifests import K8S, MODES, gather, lay_out, objects, only, workloads
from ssmd_core.testing import LoopbackVenue, Recording, until
from ssmd_kalshi.venue import market_names, session

pytestmark = pytest.mark.anyio


@pytest.fixture
def frames():
    stream = session(7, market_names(5))
    return [next(stream) for _ in range(200)]


def deployed(mode):
    manifests = gather(K8S / "overlays" / mode)
    (workload,) = workloads(manifests)
    return workload, manifests


def as_in_the_pod(program, workload, manifests, **environ):
    """Return a program with the arguments, files and variables of a pod."""
    run = program(**workload.variables, **environ)
    arguments = lay_out(workload, manifests, run.folder)
    run.write(*(Path(path).read_text("utf-8") for path in arguments[1::2]))
    return run


@pytest.mark.parametrize("mode", MODES)
async def test_the_mounted_configuration_passes_the_programs_own_check(mode, program):
    workload, manifests = deployed(mode)
    run = program(**workload.variables)
    done = await run.run("check", *lay_out(workload, manifests, run.folder))
    assert (done.returncode, done.stderr) == (0, "")
    assert "environment   prod\n" in done.stdout
    published = "nothing: the archive is the output" if mode == "file" else "ticker, trade"
    assert f"published     {published}\n" in done.stdout


async def test_every_mode_captures_the_same_feed_as_the_example_file():
    example = (K8S.parent / "feeds/kalshi.yaml").read_text("utf-8")
    for mode in MODES:
        data = only(deployed(mode)[1], "ConfigMap")["data"]
        assert objects(data["kalshi.yaml"]) == objects(example)


async def test_a_small_share_of_a_cpu_gets_larger_writes_to_the_bus():
    (environment,) = objects(only(deployed("both")[1], "ConfigMap")["data"]["prod-both.yaml"])
    assert environment["transport"]["linger_ms"] == 10


@pytest.mark.parametrize("mode", MODES)
async def test_every_probe_is_answered_by_a_pod_that_captures(mode, program, bus, face, frames):
    workload, manifests = deployed(mode)
    spec = only(gather(K8S / "components/stream-nack"), "Stream")["spec"]
    await bus.add_stream(spec["name"], spec["subjects"])
    async with LoopbackVenue(Recording(frames), face) as venue:
        overrides = {"SSMD_FEED__VERSIONS": versions(manifests, venue.url)}
        if mode != "file":
            overrides["SSMD_TRANSPORT__URL"] = bus.url
        run = as_in_the_pod(program, workload, manifests, **overrides)
        if mode != "nats":
            run.environ["SSMD_STORAGE__PATH"] = str(run.folder / "data")
        await run.start().ready()
        container = workload.container
        for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
            assert container[probe]["httpGet"]["port"] == "health"
            answer = await run.get(container[probe]["httpGet"]["path"])
            assert answer.status_code == 200
        assert container["readinessProbe"]["httpGet"]["path"] == "/ready"
        await venue.finished(30)
        await run.received(venue.clients[0].sent_count, 20)
        assert await run.stop() == 0
    kept = (run.folder / "data").exists()
    assert kept is (mode != "nats")
    assert bool(await bus.count()) is (mode != "file")


def versions(manifests, url):
    """Return the versions of the mounted feed file, with another endpoint."""
    (feed,) = objects(only(manifests, "ConfigMap")["data"]["kalshi.yaml"])
    return json.dumps([{**version, "endpoint": url} for version in feed["versions"]])


async def test_liveness_does_not_ask_whether_the_venue_or_the_bus_is_there(program):
    workload, manifests = deployed("nats")
    dead = "127.0.0.1:1"
    run = as_in_the_pod(
        program,
        workload,
        manifests,
        SSMD_FEED__VERSIONS=versions(manifests, f"ws://{dead}/trade-api/ws/v2"),
        SSMD_TRANSPORT__URL=f"nats://{dead}",
    ).start()
    await until(run.reasons, 20)
    paths = {
        name: workload.container[name]["httpGet"]["path"]
        for name in ("startupProbe", "livenessProbe", "readinessProbe")
    }
    found = {name: (await run.get(path)).status_code for name, path in paths.items()}
    assert found == {"startupProbe": 200, "livenessProbe": 200, "readinessProbe": 503}


@pytest.mark.skipif(shutil.which("nats") is None, reason="no `nats` program on this machine")
async def test_the_job_makes_the_stream_once_and_then_leaves_it(bus, tmp_path):
    job = only(gather(K8S / "components/stream-job"), "Job")["spec"]["template"]["spec"]
    (container,) = job["containers"]
    command = [*container["command"], *container["args"]]
    environ = {
        "NATS_URL": bus.url,
        "HOME": str(tmp_path),
        "PATH": str(Path(shutil.which("nats")).parent),
    }
    made = []
    for _ in range(2):
        with anyio.fail_after(30):
            done = await anyio.run_process(
                command, env=environ, check=False, stdin=subprocess.DEVNULL
            )
        assert done.returncode == 0, done.stdout + done.stderr
        async with bus.client() as client:
            made.append((await client.jetstream().stream_info("PROD_KALSHI")).config)
    assert made[0] == made[1]
    assert made[0].subjects == ["prod.kalshi.>"]
    assert (made[0].retention, made[0].storage, made[0].discard) == ("limits", "file", "old")
    assert (made[0].max_age, made[0].num_replicas) == (3600, 1)
