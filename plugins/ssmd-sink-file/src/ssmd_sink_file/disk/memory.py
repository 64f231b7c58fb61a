"""Files that lie in memory: for what is uploaded from a file, and the disk has no room for."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

__all__ = ["HAS_MEMORY_FILES", "memory_file"]

HAS_MEMORY_FILES = sys.platform == "linux"


@contextmanager
def memory_file() -> Iterator[tuple[BinaryIO, Path]]:
    """Yield a file to write to, and a path from which this process reads it meanwhile.

    Raises:
        OSError: there is none on this system.
    """
    if sys.platform != "linux":
        raise OSError("this system has no files in memory")
    fd = os.memfd_create("ssmd-part")
    with os.fdopen(fd, "wb", buffering=0) as file:
        yield file, Path(f"/proc/self/fd/{fd}")
