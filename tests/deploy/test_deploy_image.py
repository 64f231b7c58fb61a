"""The image: what goes into it, as written, and as it runs where it can be built (``-m image``)."""

import fnmatch
import os
import re
import shutil
import signal
import subprocess
import sys
import tomllib
from pathlib import Path

import anyio
import httpx
import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from rig.images import bases, build_image, missing
from rig.programs import FEED, FILE_ENV, free_port
from ssmd_core.testing import until
from ssmd_kalshi.demo import open_venue

ROOT = Path(__file__).resolve().parents[2]
DOCKERFILE = ROOT / "deploy/Dockerfile"
ACME = ROOT / "tests/third_party/ssmd-acme"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
DISTRIBUTIONS = [
    tomllib.loads(path.read_text("utf-8"))["project"]
    for path in [ROOT / "pyproject.toml", *sorted(ROOT.glob("plugins/*/pyproject.toml"))]
]
LOCKS = ("requirements.txt", "requirements-build.txt")
EXTRAS = {"fast", "s3"}
UID = 10001
MEMORY_BYTES = 128 * 1024 * 1024


def instructions():
    """Return the instructions of the last stage, what is a matter of layout put aside."""
    text = re.sub(r"^#.*\n", "", DOCKERFILE.read_text("utf-8"), flags=re.MULTILINE)
    lines = re.sub(r"\\\n", " ", text).splitlines()
    starts = [number for number, line in enumerate(lines) if line.startswith("FROM ")]
    return [re.sub(r"\s+", " ", line) for line in lines[starts[-1] :] if line]


def pins(name):
    """Return (name, version, hashes) of each line of a lock."""
    text = (ROOT / "deploy" / name).read_text("utf-8").replace("\\\n", " ")
    for line in text.splitlines():
        package, _, rest = line.partition("==")
        version = re.match(r"\S+", rest)[0]
        yield canonicalize_name(package), version, re.findall(r"--hash=sha256:[0-9a-f]{64}", rest)


# ── as written ───────────────────────────────────────────────────────────────────


def test_hadolint_finds_nothing():
    hadolint = shutil.which("hadolint", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    if hadolint is None:
        pytest.skip("hadolint is not installed")
    done = subprocess.run(
        [hadolint, DOCKERFILE], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_base_is_an_argument_so_that_a_mirror_can_stand_in_its_place():
    text = DOCKERFILE.read_text("utf-8")
    named = re.findall(r"^FROM (\S+)", text, re.MULTILINE)
    arguments = re.findall(r"^ARG (\w+_IMAGE)=\S+:\S+$", text, re.MULTILINE)
    assert {f"${{{name}}}" for name in arguments} == set(named)


def test_it_runs_as_a_numeric_user_and_hears_signals_itself():
    last = instructions()
    assert f"USER {UID}:{UID}" in last
    assert last[-1] == 'ENTRYPOINT ["ssmd"]'
    assert "EXPOSE 8080" in last


def test_the_last_stage_runs_nothing_and_takes_only_what_was_built():
    last = instructions()
    assert [line for line in last if line.startswith(("RUN ", "ADD "))] == []
    assert [line for line in last if line.startswith("COPY ") and "--from=build" not in line] == []


def test_its_version_is_that_of_the_program():
    assert f"ARG VERSION={PROJECT['project']['version']}" in instructions()


def test_what_it_copies_is_let_into_the_build_and_secrets_are_not():
    lines = (ROOT / ".dockerignore").read_text("utf-8").splitlines()
    let_in = [line[1:] for line in lines if line.startswith("!")]
    copied = re.findall(r"^COPY (?!--from)(.+) \S+$", DOCKERFILE.read_text("utf-8"), re.MULTILINE)
    sources = {source for line in copied for source in line.split()}
    assert "*" in lines
    assert sources == set(let_in)
    assert [source for source in sources if not (ROOT / source).exists()] == []
    assert [
        name for name in (".env", "key.pem", ".git", "data") if fnmatch.filter(let_in, name)
    ] == []


@pytest.mark.parametrize("lock", LOCKS)
def test_every_package_is_held_to_its_hashes(lock):
    found = list(pins(lock))
    assert found
    assert [name for name, _, hashes in found if not hashes] == []


@pytest.mark.parametrize("lock", LOCKS)
def test_a_lock_names_no_address(lock):
    assert "://" not in (ROOT / "deploy" / lock).read_text("utf-8")


@pytest.mark.parametrize("lock", LOCKS)
def test_a_lock_has_the_versions_that_are_tested(lock):
    settings = PROJECT["tool"]["uv"]
    told = [*settings["constraint-dependencies"], *settings["build-constraint-dependencies"]]
    tested = dict(line.split("==") for line in told)
    differing = [
        f"{name}: {version} in deploy/{lock}, {tested[name]} in pyproject.toml: run deploy/lock"
        for name, version, _ in pins(lock)
        if tested.get(name, version) != version
    ]
    assert differing == []


def test_everything_installed_is_pinned_where_the_tests_are():
    # pip itself is used by nothing of ours.
    tested = {line.split("==")[0] for line in PROJECT["tool"]["uv"]["constraint-dependencies"]}
    assert {name for name, _, _ in pins("requirements.txt")} - tested == {"pip"}


def test_the_lock_holds_what_every_distribution_and_the_extras_ask_for():
    locked = {name: version for name, version, _ in pins("requirements.txt")}
    ours = {project["name"] for project in DISTRIBUTIONS}
    wanted = [
        Requirement(line)
        for project in DISTRIBUTIONS
        for line in [
            *project["dependencies"],
            *(
                line
                for extra, lines in project.get("optional-dependencies", {}).items()
                for line in lines
                if extra in EXTRAS
            ),
        ]
    ]
    lacking = [
        str(each)
        for each in wanted
        if each.name not in ours
        and not each.specifier.contains(locked.get(canonicalize_name(each.name), "0"))
    ]
    assert lacking == []


# ── as it runs ───────────────────────────────────────────────────────────────────


def built(test):
    reason = missing()
    marked = pytest.mark.timeout(900)(pytest.mark.image(test))
    return pytest.mark.skipif(reason is not None, reason=str(reason))(marked)


@pytest.fixture(scope="module")
def image(tmp_path_factory):
    given = bases(tmp_path_factory.mktemp("bases"))
    image = build_image("localhost/ssmd-test:built", DOCKERFILE, ROOT, **given)
    yield image
    image.remove()


@pytest.fixture
def data(tmp_path):
    """A volume as a cluster gives it to the user of the image."""
    folder = tmp_path / "data"
    folder.mkdir()
    os.chown(folder, UID, UID)
    return folder


def child_of(process):
    """Return the process id of the program itself, outside."""
    (child,) = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    return int(child)


def peak_bytes(pid):
    (line,) = re.findall(
        r"^VmHWM:\s+(\d+) kB$", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE
    )
    return int(line) * 1024


@built
def test_the_image_says_how_it_is_run(image):
    config = image.config
    assert config["Entrypoint"] == ["ssmd"]
    assert config["User"] == f"{UID}:{UID}"
    assert "8080/tcp" in config["ExposedPorts"]
    assert config["Labels"]["org.opencontainers.image.title"] == "ssmd-connector"


@built
def test_every_plugin_of_ours_is_in_and_sound(image):
    done = image.run("plugins", "--check", "--json")
    assert done.returncode == 0, done.stdout + done.stderr
    assert all(f'"{name}"' in done.stdout for name in ("kalshi", "nats", "local", "s3"))


@built
def test_object_storage_and_the_fast_loop_are_in(image):
    done = image.run("-c", "import s3fs, uvloop", entry=["python"])
    assert done.returncode == 0, done.stderr


@built
def test_nothing_that_builds_is_left(image):
    tools = ("uv", "gcc", "cc", "make", "git", "hatchling")
    assert [name for name in tools if any(image.root.glob(f"*/bin/{name}"))] == []
    assert [name for name in tools if any(image.root.glob(f"usr/*/bin/{name}"))] == []
    assert not (image.root / "source").exists()
    assert not any(image.root.glob("app/lib/*/site-packages/hatchling"))


@built
def test_a_program_finds_a_root_that_nobody_can_write_to(image):
    done = image.run("-c", "grep ' / ro,' /proc/self/mountinfo; id -u; id -G", entry=["sh"])
    mount, *ids = done.stdout.splitlines()
    assert "/" in mount, done.stderr
    assert ids == [str(UID), str(UID)]


@built
def test_every_module_is_compiled(image):
    (packages,) = image.root.glob("app/lib/python*/site-packages")
    sources = [
        path for name in ("ssmd_core", "pydantic") for path in (packages / name).rglob("*.py")
    ]
    assert sources
    assert [
        path
        for path in sources
        if not any((path.parent / "__pycache__").glob(f"{path.stem}.*.pyc"))
    ] == []


@built
def test_the_user_can_write_to_the_volume_and_nowhere_else(image, data):
    script = "touch /data/x; cd /tmp && touch y; touch /app/x || touch /etc/x || touch /x || ls"
    done = image.run("-c", script, entry=["sh"], mounts={data: "/data"})
    assert done.stdout.split() == ["y"], done.stderr
    assert [path.name for path in data.iterdir()] == ["x"]


@built
@pytest.mark.anyio
async def test_it_captures_on_a_read_only_root_within_its_memory_and_stops_in_order(
    image, data, tmp_path, key
):
    config, port, log = tmp_path / "config", free_port(), tmp_path / "log"
    config.mkdir()
    url = f"http://127.0.0.1:{port}"
    async with open_venue(key) as venue:
        (config / "feed.yaml").write_text(FEED.format(endpoint=venue.url))
        (config / "env.yaml").write_text(FILE_ENV.format(path="./data"))
        with log.open("wb") as out:
            process = image.start(
                *("--feed", "/mnt/feed.yaml", "--env", "/mnt/env.yaml"),
                mounts={config: "/mnt", data: "/data"},
                environ={**key.environ, "SSMD_HEALTH_ADDR": f"127.0.0.1:{port}"},
                stdout=out,
                stderr=out,
            )
        try:
            async with httpx.AsyncClient(timeout=5) as client:

                async def captures():
                    assert process.poll() is None, log.read_text()
                    try:
                        return (await client.get(f"{url}/ready")).status_code == 200
                    except httpx.TransportError:
                        return False

                await until(captures, 30)
            venue.flood(5_000)
            await until(lambda: venue.played > 6_000, 30)
            program = child_of(process)
            assert peak_bytes(program) < MEMORY_BYTES
            os.kill(program, signal.SIGTERM)  # the first process of its namespace
            await until(lambda: process.poll() is not None, 30)
        finally:
            process.kill()
            process.wait()
    assert process.returncode == 0, log.read_text()
    verified = await anyio.to_thread.run_sync(
        lambda: image.run("verify", "/data", mounts={data: "/data"})
    )
    assert verified.returncode == 0, verified.stdout + verified.stderr


@built
def test_a_plugin_is_added_as_the_first_lines_of_the_dockerfile_say(image, tmp_path):
    (comment,) = re.findall(
        r"^#   FROM .*\n((?:#   .+\n)+)", DOCKERFILE.read_text("utf-8"), re.MULTILINE
    )
    told = comment.replace("#   ", "")
    assert "ssmd-feed-x" in told
    # A wheel in place of the index: the package is nobody's.
    subprocess.run(["uv", "build", "-q", "--wheel", ACME, "-o", tmp_path], check=True, timeout=120)
    (wheel,) = tmp_path.glob("*.whl")
    lines = [f"FROM {image.name}", f"COPY {wheel.name} /{wheel.name}"]
    lines += [told.replace("ssmd-feed-x", f"--no-index /{wheel.name}")]
    (tmp_path / "Containerfile").write_text("\n".join(lines))
    derived = build_image("localhost/ssmd-test:derived", tmp_path / "Containerfile", tmp_path)
    try:
        done = derived.run("plugins", "--check")
        assert derived.config["User"] == f"{UID}:{UID}"
    finally:
        derived.remove()
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"^feed +acme +ssmd-acme", done.stdout, re.MULTILINE)
