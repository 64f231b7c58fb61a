"""Brings the files of a part to the store, each once; decides what one that is there means."""

from __future__ import annotations

from typing import NamedTuple

from ssmd_sink_file.files import describe
from ssmd_sink_file.parts import Part, PartFile
from ssmd_sink_file.spool import Spool
from ssmd_sink_file.store import Put, Store, StoreFailed

__all__ = ["Uploaded", "Uploader"]


class Uploaded(NamedTuple):
    """How the upload of a part ended; nothing of it is left to do."""

    conflicts: tuple[PartFile, ...] = ()
    """Files in whose place the store holds another object."""
    unreadable: tuple[str, ...] = ()
    """Files that are gone or cannot be read, one sentence each."""


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
        for file in part.files:
            path, name = self._spool.path(file.name), file.name.object_name(self._feed)
            try:
                put = self._store.put(path, name)
            except OSError as error:
                unreadable.append(f"cannot upload {path}: {describe(error)}")
                continue
            except StoreFailed as error:
                raise StoreFailed(f"cannot upload to {self._store.url}/{name}: {error}") from error
            if put is Put.DIFFERENT:
                conflicts.append(file)
        return Uploaded(tuple(conflicts), tuple(unreadable))
