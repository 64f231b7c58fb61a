"""The few file operations that everything here is made of: modes, whole writes, durable names."""

from __future__ import annotations

import contextlib
import errno
import os
from pathlib import Path
from typing import NamedTuple

__all__ = [
    "FULL",
    "Identity",
    "describe",
    "identity_of",
    "make_directory",
    "open_file",
    "sync_directory",
    "write_all",
]

FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
"""Numbers of the errors of a disk without room for more."""
_FILE_MODE = 0o640
_DIRECTORY_MODE = 0o2750


class Identity(NamedTuple):
    """Which file a path or a descriptor means."""

    device: int
    inode: int


def identity_of(status: os.stat_result) -> Identity:
    """Return which file a ``stat`` speaks of."""
    return Identity(status.st_dev, status.st_ino)


def describe(error: OSError) -> str:
    """Return the errno's name and text, such as ``ENOSPC (No space left on device)``."""
    name = errno.errorcode.get(error.errno or 0, type(error).__name__)
    return f"{name} ({error.strerror})" if error.strerror else name


def make_directory(path: Path) -> None:
    """Make a directory and its parents 2750, so that files inherit the group; keep old ones."""
    try:
        _make_one(path)
    except FileNotFoundError:
        make_directory(path.parent)
        _make_one(path)


def _make_one(path: Path) -> None:
    try:
        path.mkdir(mode=_DIRECTORY_MODE & 0o777)
    except FileExistsError:
        return
    with contextlib.suppress(OSError):  # a mount without modes (CIFS, FUSE) still archives
        path.chmod(_DIRECTORY_MODE)


def open_file(path: Path, flags: int) -> tuple[int, bool]:
    """Open a file, made 0640 whatever the umask; say whether it is new."""
    try:
        fd = os.open(path, flags | os.O_CREAT | os.O_EXCL, _FILE_MODE)
    except FileExistsError:
        return os.open(path, flags), False
    with contextlib.suppress(OSError):  # as for directories
        os.fchmod(fd, _FILE_MODE)
    return fd, True


def write_all(fd: int, data: bytes) -> None:
    """Write all of ``data``. A full disk shows as a short count first, an error next."""
    written = os.write(fd, data)
    if written < len(data):
        view = memoryview(data)
        while written < len(data):
            written += os.write(fd, view[written:])


def sync_directory(path: Path) -> None:
    """Make the names in a directory durable."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
