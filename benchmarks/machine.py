"""What the machine says: which cores, whose CPU time and memory, which versions."""

from __future__ import annotations

import os
import platform
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from ssmd_core.testing import find_nats_server

__all__ = ["Cores", "busy_ns", "cpu_ns", "describe", "memory_bytes"]

_PACKAGES = ("websockets", "msgspec", "pycapnp", "nats-py", "uvloop", "cryptofeed")


class Cores:
    """One core for the subject, another one for all that loads it."""

    def __init__(self) -> None:
        usable = sorted(os.sched_getaffinity(0))
        self.load = usable[0]
        self.subject = usable[-1]

    @property
    def shared(self) -> bool:
        """Whether there is only one core, so that nothing here means much."""
        return self.load == self.subject

    @contextmanager
    def pinned(self, core: int) -> Iterator[None]:
        """Let what is started inside run on one core."""
        before = os.sched_getaffinity(0)
        os.sched_setaffinity(0, {core})
        try:
            yield
        finally:
            os.sched_setaffinity(0, before)


def busy_ns() -> int:
    """Return the CPU time that all programs together have taken since the machine started."""
    fields = Path("/proc/stat").read_text("ascii").partition("\n")[0].split()[1:9]
    user, nice, system, _idle, _iowait, irq, softirq, steal = map(int, fields)
    ticks = user + nice + system + irq + softirq + steal
    return ticks * 1_000_000_000 // os.sysconf("SC_CLK_TCK")


def cpu_ns(pid: int) -> int:
    """Return the CPU time of all threads of a process, dead ones included.

    Raises:
        OSError: it is over.
    """
    # The kernel's id for the clock of another process, see clock_getcpuclockid(3).
    return time.clock_gettime_ns((~pid << 3) | 2)


def memory_bytes(pid: int, field: str) -> int:
    """Return a line of a process's memory account: ``VmHWM`` for the peak, ``VmRSS`` for now."""
    for line in Path(f"/proc/{pid}/status").read_text("ascii").splitlines():
        if line.startswith(field):
            return int(line.split()[1]) * 1024
    raise ProcessLookupError(f"process {pid} has no memory any more: it is over")


def describe(cores: Cores) -> list[tuple[str, str]]:
    """Return what a reader must know of the machine, label and value."""
    model = "unknown"
    for line in Path("/proc/cpuinfo").read_text("utf-8").splitlines():
        if line.startswith("model name"):
            model = line.partition(":")[2].strip()
            break
    total_bytes = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    pinning = f"subject on {cores.subject}, venue and nats-server on {cores.load}"
    return [
        ("processor", f"{model}, {os.cpu_count()} cores ({pinning})"),
        ("memory", f"{total_bytes / 2**30:.0f} GiB"),
        ("kernel", f"{platform.system()} {platform.release()} {platform.machine()}"),
        ("Python", f"{platform.python_implementation()} {platform.python_version()}"),
        ("nats-server", _server_version()),
        *((name, found) for name in _PACKAGES if (found := _version(name))),
    ]


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return ""


def _server_version() -> str:
    command = [str(find_nats_server()), "--version"]
    said = subprocess.run(command, capture_output=True, text=True, check=True, timeout=10)
    return said.stdout.strip().rpartition(":")[2].strip()
