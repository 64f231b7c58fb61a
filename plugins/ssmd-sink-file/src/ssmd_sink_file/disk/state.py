"""Keeps small durable values beside the archive, such as the transport's cursor."""

from __future__ import annotations

import contextlib
import os
import re
import threading
from pathlib import Path

from ssmd_core.errors import StorageFailed
from ssmd_sink_file.disk.files import describe, open_file, sync_directory, write_all
from ssmd_sink_file.lines.layout import Layout

__all__ = ["State"]

_NAME = re.compile(r"[a-z0-9][a-z0-9_-]*")
_TAKEN = frozenset({"lock", "probe"})


class State:
    """Values by name, each a hidden file of the feed. Safe to call from threads."""

    def __init__(self, root: Path, layout: Layout) -> None:
        self._root = root
        self._layout = layout
        self._writing = threading.Lock()

    def load(self, name: str) -> bytes | None:
        """Return a value, None where none was saved.

        Raises:
            StorageFailed: it is there and cannot be read.
        """
        path = self._path(name)
        try:
            return path.read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise StorageFailed(f"cannot read {path}: {describe(error)}") from error

    def save(self, name: str, value: bytes) -> None:
        """Replace a value: after a crash it is the old one or the new one, whole.

        Raises:
            StorageFailed: the old one stands.
        """
        path = self._path(name)
        draft = path.with_name(f"{path.name}.tmp")
        with self._writing:
            try:
                _write_durably(draft, value)
                draft.rename(path)
                sync_directory(self._root)
            except OSError as error:
                with contextlib.suppress(OSError):
                    draft.unlink()
                raise StorageFailed(f"cannot save {path}: {describe(error)}") from error

    def _path(self, name: str) -> Path:
        if name in _TAKEN or not _NAME.fullmatch(name):
            raise ValueError(f"not a name for a value beside the archive: {name!r}")
        return self._root / self._layout.beside(name)


def _write_durably(path: Path, value: bytes) -> None:
    fd, _ = open_file(path, os.O_WRONLY | os.O_TRUNC)
    try:
        write_all(fd, value)
        os.fsync(fd)
    finally:
        os.close(fd)
