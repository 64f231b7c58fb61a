"""Decides whether a directory can be written to, and how much room its volume has."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from ssmd_core.errors import StorageUnusable
from ssmd_sink_file.disk.files import FULL, describe, make_directory, open_file

__all__ = ["free_bytes", "prepare"]


def prepare(
    root: Path, probe: Path, warn: Callable[[str], None], *, key: str = "storage.path"
) -> None:
    """Make the root of the archive and write a byte into it. A full disk is no fault.

    ``key`` is the setting that says where it is, for the message.

    Raises:
        StorageUnusable: it cannot be made or written to.
    """
    try:
        make_directory(root)
        fd, _ = open_file(probe, os.O_WRONLY)
        try:
            os.write(fd, b"\n")
        finally:
            os.close(fd)
            probe.unlink()
    except OSError as error:
        if error.errno in FULL:
            warn(f"no space in {root}: capture waits for it, {describe(error)}")
            return
        msg = (
            f"cannot write to the archive {root}: {describe(error)}; make it a directory that "
            f"uid {os.geteuid()} may write to, or give another `{key}`"
        )
        raise StorageUnusable(msg) from error


def free_bytes(path: Path) -> int | None:
    """Return how many bytes the volume has left for us, None where it does not say."""
    try:
        status = os.statvfs(path)
    except OSError:
        return None
    return status.f_bavail * status.f_frsize
