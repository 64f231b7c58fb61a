"""What a start loads before the venue is contacted, and that either event loop carries a run."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from rig.loops import LOOP_NAMES
from rig.programs import FEED, FILE_ENV, NATS_ENV, free_port
from ssmd_core.testing import LoopbackVenue, Recording

pytestmark = pytest.mark.anyio

NEVER = {
    "aiohttp",
    "botocore",
    "fsspec",
    "httpx",
    "nats",
    "prometheus_client",
    "pydantic_settings",
    "pygments",
    "rich",
    "s3fs",
    "starlette",
    "structlog",
    "urllib.request",
    "uvicorn",
    "zstandard",
}
"""What a start can do without."""
PRINT_AND_END = """
import json, os, sys
from ssmd_core.feed import link
async def dial(*_, **__):
    print(json.dumps(sorted(sys.modules)), flush=True)
    os._exit(0)
link.dial = dial
from ssmd_core.cli import entry
entry()
"""


def loaded_when_the_venue_is_dialled(program, env):
    run = program()
    run.write(FEED.format(endpoint="ws://127.0.0.1:9/"), env)
    done = subprocess.run(
        [sys.executable, "-c", PRINT_AND_END, *run.arguments, "--health-addr", "127.0.0.1:0"],
        env=run.environ,
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return set(json.loads(done.stdout))


def test_in_file_mode_nothing_is_loaded_that_a_start_can_do_without(program, archive):
    loaded = loaded_when_the_venue_is_dialled(program, FILE_ENV.format(path=archive.path))
    assert (NEVER | {"capnp", "ssmd_sink_nats"}) & loaded == set()


def test_in_nats_mode_nothing_is_loaded_that_a_start_can_do_without(program):
    env = NATS_ENV.partition("storage:")[0].format(url=f"nats://127.0.0.1:{free_port()}")
    loaded = loaded_when_the_venue_is_dialled(program, env)
    assert (NEVER | {"ssmd_sink_file"}) & loaded == set()


@pytest.mark.parametrize("loop", LOOP_NAMES)
async def test_on_either_event_loop_a_run_captures_and_stops_cleanly(
    program, archive, yaml, face, loop
):
    async with LoopbackVenue(Recording([]), face, silent=True) as venue:
        run = program(SSMD_EVENT_LOOP=loop)
        run.write(yaml.feed.format(endpoint=venue.url), yaml.file.format(path=archive.path))
        await run.start().ready()
        assert loaded_libraries(run.process.pid, "uvloop") == (loop == "uvloop")
        assert await run.stop() == 0, run.log()
        (client,) = venue.clients
        assert client.close_code == 1000
    assert archive.frames() == client.sent


def loaded_libraries(pid, name):
    """Say whether a process has mapped a library of this name."""
    return f"/{name}/" in Path(f"/proc/{pid}/maps").read_text()
