"""Brings the files of a part to the store, each once; decides what one that is there means."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from ssmd_sink_file.disk.files import describe
from ssmd_sink_file.disk.memory import memory_file
from ssmd_sink_file.frames.compress import pack
from ssmd_sink_file.objects.parts import Part, PartFile
from ssmd_sink_file.objects.spool import Spool
from ssmd_sink_file.objects.store import Put, Store, StoreFailed

__all__ = ["Uploaded", "Uploader"]


class Uploaded(NamedTuple):
    """How the upload of a part ended; nothing of it is left to do."""

    conflicts: tuple[PartFile, ...] = ()
    """Files in whose place the store holds another object."""
    unreadable: tuple[str, ...] = ()
    """Files that are gone or cannot be read, one sentence each."""
    lost: tuple[PartFile, ...] = ()
    """Those that are gone, and not in the store either."""


class Uploader:
    """Works in a thread. Only reads the spool, so it may be left alone at any moment."""

    def __init__(self, spool: Spool, feed: str, store: Store) -> None:
        self._spool = spool
        self._feed = feed
        self._store = store

    def upload(self, part: Part) -> Uploaded:
        """Put every file of a part where it belongs.

        Raises:
            StoreFailed: not all of it is there; to be done again from the beginning.
        """
        conflicts: list[PartFile] = []
        unreadable: list[str] = []
        lost: list[PartFile] = []
        for file in part.files:
            name = file.name.object_name(self._feed)
            path = self._spool.path(file.plain or file.name)
            try:
                put = self._put(file, path, name)
            except OSError as error:
                is_gone = isinstance(error, FileNotFoundError)
                if is_gone and self._has(name):
                    continue
                unreadable.append(
                    f"cannot upload {path}: {describe(error)}, {file.digest.lines} lines"
                )
                lost += [file] if is_gone else []
                continue
            if put is Put.DIFFERENT:
                conflicts.append(file)
        return Uploaded(tuple(conflicts), tuple(unreadable), tuple(lost))

    def _put(self, file: PartFile, path: Path, name: str) -> Put:
        try:
            if file.plain is None:
                return self._store.put(path, name)
            # One part at a time, and no larger than its object.
            with memory_file() as (out, packed):
                pack(path, out, file.name.compression)
                return self._store.put(packed, name)
        except StoreFailed as error:
            raise self._failed(name, error) from error

    def _has(self, name: str) -> bool:
        try:
            return self._store.has(name)
        except StoreFailed as error:
            raise self._failed(name, error) from error

    def _failed(self, name: str, error: StoreFailed) -> StoreFailed:
        return type(error)(f"cannot upload to {self._store.url}/{name}: {error}")
