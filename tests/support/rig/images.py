"""An image built without a container engine, and programs in it as a hardened pod runs them."""

import contextlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Image", "build_image", "missing"]

_SUITE = "trixie"
_BASE = f"localhost/ssmd-test-base:{_SUITE}"
_UV = "localhost/ssmd-test-uv:here"
_CERTIFICATES = Path("/etc/ssl/certs/ca-certificates.crt")
_BUILD_SECONDS = 600

# Its own mounts and process numbers: the root is read-only, the program is number 1 and nobody.
_ENTER = """
set -e
root=$1; shift
mount --bind "$root" "$root"
mount -o remount,ro,bind "$root"
mount -t tmpfs -o mode=1777 tmpfs "$root/tmp"
mount -t proc proc "$root/proc"
mount --rbind /dev "$root/dev"
while [ "$1" != -- ]; do mount --bind "$1" "$root$2"; shift 2; done
shift
exec setpriv --no-new-privs chroot --userspec="$SSMD_TEST_USER" --groups= "$root" "$@"
"""


def missing() -> str | None:
    """Say what this machine lacks to build an image, if anything."""
    if not sys.platform.startswith("linux") or os.geteuid() != 0:
        return "an image is built as root on Linux"
    programs = ("buildah", "debootstrap", "uv", "unshare", "setpriv")
    absent = [name for name in programs if shutil.which(name) is None]
    return f"there is no {', '.join(absent)}" if absent else None


def run(*command: object, cwd: Path | None = None) -> str:
    """Run a command of the build and return what it printed."""
    done = subprocess.run(
        [str(word) for word in command],
        cwd=cwd,
        env={**os.environ, "BUILDAH_ISOLATION": "chroot"},
        capture_output=True,
        text=True,
        timeout=_BUILD_SECONDS,
        check=False,
    )
    assert done.returncode == 0, f"{command}: {done.stdout[-2000:]}{done.stderr[-2000:]}"
    return done.stdout.strip()


def build_image(name: str, containerfile: Path, context: Path, **arguments: str) -> "Image":
    """Build an image and lay it out as a folder."""
    told = [f"--build-arg={key}={value}" for key, value in arguments.items()]
    # Without these two a stage that only lends a file would leave its container behind.
    clean = ("--no-cache", "--force-rm")
    run("buildah", "bud", *clean, "--network=host", *told, "-t", name, "-f", containerfile, context)
    container = run("buildah", "from", "--pull-never", name)
    return Image(name, container, Path(run("buildah", "mount", container)))


def bases(folder: Path) -> dict[str, str]:
    """Return the base images, made from Debian's packages where they are not there yet."""
    if not _has(_BASE):
        root = folder / "base"
        run("debootstrap", "--variant=minbase", "--include=ca-certificates,python3", _SUITE, root)
        shutil.rmtree(root / "var/cache/apt/archives", ignore_errors=True)
        # Of this machine: packages may come to it through a proxy that signs for itself.
        shutil.copy(_CERTIFICATES, root / _CERTIFICATES.relative_to("/"))
        _commit(_BASE, root, "/")
        shutil.rmtree(root)
    if not _has(_UV):
        _commit(_UV, _uv_program(), "/uv")
    return {"PYTHON_IMAGE": _BASE, "UV_IMAGE": _UV}


def _has(name: str) -> bool:
    found = subprocess.run(["buildah", "images", "-q", name], capture_output=True, check=False)
    return found.returncode == 0


def _commit(name: str, source: Path, target: str) -> None:
    container = run("buildah", "from", "scratch")
    run("buildah", "add", "-q", container, source, target)
    run("buildah", "config", "--env", "PATH=/usr/local/bin:/usr/bin:/bin", container)
    run("buildah", "config", "--env", f"SSL_CERT_FILE={_CERTIFICATES}", container)
    run("buildah", "commit", "-q", container, name)
    run("buildah", "rm", container)


def _uv_program() -> Path:
    """Return the program itself: on PATH there may be a script that looks for it."""
    found = Path(
        run("uv", "run", "--no-project", "python", "-c", "import os; print(os.environ['UV'])")
    )
    assert found.read_bytes()[:4] == b"\x7fELF", found
    return found


@dataclass(frozen=True, slots=True)
class Image:
    """An image, laid out as the root of a file system."""

    name: str
    container: str
    root: Path

    @property
    def config(self) -> dict:
        return json.loads(run("buildah", "inspect", "--type=image", self.name))["OCIv1"]["config"]

    def remove(self) -> None:
        """Give the folder and the image up."""
        for command in (["rm", self.container], ["rmi", self.name]):
            with contextlib.suppress(AssertionError):
                run("buildah", *command)

    def start(
        self,
        *arguments: str,
        mounts: Mapping[Path, str] | None = None,
        environ: Mapping[str, str] | None = None,
        entry: Sequence[str] | None = None,
        **streams,
    ) -> subprocess.Popen:
        """Start a program as the image says: entry point, user, folder, variables."""
        config = self.config
        words = [*(config["Entrypoint"] if entry is None else entry), *arguments]
        variables = dict(each.split("=", 1) for each in config["Env"]) | dict(environ or {})
        outside = {"SSMD_TEST_USER": config["User"], "PATH": os.environ["PATH"]}
        bound = [str(word) for pair in (mounts or {}).items() for word in pair]
        inside = ["env", "-i", *(f"{key}={value}" for key, value in variables.items())]
        isolated = ["unshare", "--mount", "--pid", "--fork", "--kill-child"]
        script = [*isolated, "bash", "-c", _ENTER, "enter", str(self.root), *bound, "--"]
        return subprocess.Popen([*script, *inside, *words], env=outside, cwd="/", **streams)

    def run(self, *arguments: str, **how) -> subprocess.CompletedProcess:
        """Run a program to its end."""
        pipe = subprocess.PIPE
        with self.start(*arguments, stdout=pipe, stderr=pipe, text=True, **how) as process:
            out, errors = process.communicate(timeout=60)
        return subprocess.CompletedProcess(arguments, process.returncode, out, errors)
