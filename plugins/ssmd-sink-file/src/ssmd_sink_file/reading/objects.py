"""Decides what of a folder of objects is an archive, and reads it in ranges."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, BinaryIO
from urllib.parse import parse_qs

from pydantic import ValidationError

from ssmd_core.errors import StorageFailed
from ssmd_core.records import Batch
from ssmd_core.sink.archive import ArchiveFile, Content, Damaged
from ssmd_sink_file.objects.config import ObjectConfig
from ssmd_sink_file.objects.store import Store, StoreFailed
from ssmd_sink_file.reading.archived import ArchivedFiles, RawBytes
from ssmd_sink_file.reading.snapshot import is_day

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

__all__ = ["ObjectArchive", "open_objects"]

_RANGE_BYTES = 4 * 1024 * 1024
_LISTERS = 8
_VALUE_BYTES = 1024 * 1024
_ENDPOINTS = ("FSSPEC_S3_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL")
_DAY, _FEED, _REST = "date=", "feed=", "rest"
_FEED_NAME = re.compile(r"[a-z0-9][a-z0-9_-]*")
_NAME = re.compile(r"\d{19}-\d{19}((?:\.rest|\.coverage)?)\.jsonl(?:\.zst|\.gz)?")
_CONTENTS = {"": Content.LIVE, ".rest": Content.REST, ".coverage": Content.LEDGER}


def open_objects(url: str, environ: Mapping[str, str]) -> ObjectArchive:
    """Open the archive below a URL, or one of its days alone (``…/date=2026-11-22``).

    Args:
        url: may end in ``?endpoint_url=…``.
        environ: the process environment.

    Raises:
        StorageFailed: there is none, or the store does not answer.
        StorageUnusable: the library of the store is not installed.
    """
    base, _, query = url.partition("?")
    base = base.rstrip("/")
    above, _, last = base.rpartition("/")
    day = last.removeprefix(_DAY) if last.startswith(_DAY) and is_day(last[len(_DAY) :]) else None
    try:
        store = _Reads(_config(base if day is None else above, query, environ))
        archive = ObjectArchive(store, day)
        if archive.feeds():
            return archive
        what = "nothing of the kind is there"
    except ValidationError as error:
        what = error.errors()[0]["msg"].removeprefix("Value error, ")
    msg = (
        f"no archive at {_shown(base)}: {what}; expected folders such as "
        "date=2026-11-22/feed=kalshi/ below it"
    )
    raise StorageFailed(msg)


def _config(url: str, query: str, environ: Mapping[str, str]) -> ObjectConfig:
    asked = parse_qs(query).get("endpoint_url", [None])[0]
    if asked is None and url.lower().startswith(("s3:", "s3a:")):
        asked = next((environ[name] for name in _ENDPOINTS if environ.get(name)), None)
    return ObjectConfig(path=url, endpoint_url=asked)


def _shown(url: str) -> str:
    scheme, _, rest = url.partition("://")
    bucket, slash, path = rest.partition("/")
    return f"{scheme}://{bucket.rpartition('@')[2]}{slash}{path}"


def _without_ledger(files: Sequence[ArchiveFile]) -> Iterator[tuple[str, str]]:
    """Yield the files of live frames beside which no ledger lies, and what it should be called.

    A day without any ledger was not written by us. That of fetched frames may be called as the
    live ones that they came with.
    """
    names = {file.name for file in files if file.content is Content.LEDGER}
    for file in files if names else ():
        if file.content is Content.LIVE:
            folder, slash, name = file.name.rpartition("/")
            ledger = f"{folder}{slash}{name.partition('.')[0]}.coverage.jsonl"
            if ledger not in names:
                yield file.name, ledger


def _file_name(name: str) -> str:
    return name.rpartition("/")[2]


class _Reads(Store):
    """A store that objects are read from."""

    def size(self, name: str) -> int:
        """Return the size of an object. Raises FileNotFoundError and StoreFailed."""
        return int(self._call("info", self._path(name))["size"])

    def read(self, name: str, start: int, end: int) -> bytes:
        """Return a range of an object. Raises FileNotFoundError and StoreFailed."""
        data: bytes = self._call("cat_file", self._path(name), start=start, end=end)
        return data


class _ObjectBytes(RawBytes):
    """An object, read in the ranges that are asked for."""

    def __init__(self, store: _Reads, name: str) -> None:
        self._store = store
        self._name = name
        self._size = store.size(name)
        self._position = 0

    def readinto(self, buffer: WriteableBuffer, /) -> int:
        """Read on."""
        view = memoryview(buffer).cast("B")
        end = min(self._position + len(view), self._size)
        if end <= self._position:
            return 0
        data = self._store.read(self._name, self._position, end)
        view[: len(data)] = data
        self._position += len(data)
        return len(data)

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        """Go elsewhere, from the beginning or from here."""
        self._position = offset if whence == io.SEEK_SET else self._position + offset
        return self._position


class ObjectArchive(ArchivedFiles):
    """Closed parts in an object store. What waits in a connector's spool is not among them."""

    def __init__(self, store: _Reads, day: str | None = None) -> None:
        """``day`` is the only one to be shown; None: all of them."""
        self._store = store
        self._only_day = day
        self._bare: dict[str, str] = {}
        """Files of live frames, and the names that their ledgers should have."""

    @property
    def place(self) -> str:
        """URL of the root, or of the only day."""
        return self._store.url + (f"/{_DAY}{self._only_day}" if self._only_day else "")

    def feeds(self) -> Sequence[str]:
        """Return the feeds that have files here, in alphabetical order."""
        return sorted({feed for feeds in self._feeds_by_day().values() for feed in feeds})

    def days(self, feed: str) -> Sequence[str]:
        """Return the days (``YYYY-MM-DD``, UTC) of a feed, oldest first."""
        return sorted(day for day, feeds in self._feeds_by_day().items() if feed in feeds)

    def files(self, feed: str, day: str) -> Sequence[ArchiveFile]:
        """Return the files of a day: of each content, in order of what stands in them."""
        folder = f"{_DAY}{day}/{_FEED}{feed}"
        with self._telling(folder):
            names = [f"{folder}/{name}" for name in self._names(folder)]
            if f"{folder}/{_REST}" in names:
                names += [f"{folder}/{_REST}/{name}" for name in self._names(f"{folder}/{_REST}")]
            # Names begin with the first receipt time, all digits of it.
            names.sort(key=_file_name)
            found = [(name, _NAME.fullmatch(_file_name(name))) for name in names]
            files = [
                ArchiveFile(name=name, feed=feed, day=day, content=_CONTENTS[match[1]])
                for name, match in found
                if match is not None
            ]
        self._bare.update(_without_ledger(files))
        return files

    def frames(self, file: ArchiveFile) -> Iterator[Batch | Damaged]:
        """Yield the frames of a LIVE or REST file, and first that its ledger is missing."""
        ledger = self._bare.get(file.name)
        if ledger is not None:
            yield Damaged(ledger, 1, 1, "the ledger of the part is missing; each has one")
        yield from super().frames(file)

    def torn_bytes(self, feed: str, day: str) -> int:  # noqa: ARG002  the contract's
        """Return 0: only whole lines are uploaded."""
        return 0

    def load(self, feed: str, name: str) -> bytes | None:
        """Return a value kept beside the archive, such as ``connector``, if there is one."""
        hidden = f".{feed}.{name}"
        with self._telling(hidden):
            try:
                return self._store.read(hidden, 0, min(self._store.size(hidden), _VALUE_BYTES))
            except FileNotFoundError:
                return None

    def _open(self, file: ArchiveFile, *, whole: bool = False) -> BinaryIO:  # noqa: ARG002  as is
        return io.BufferedReader(_ObjectBytes(self._store, file.name), _RANGE_BYTES)

    def _explain(self, error: Exception) -> str | None:
        match error:
            case FileNotFoundError():
                return "it is not there any more"
            case StoreFailed():
                return str(error)
        return None

    def _feeds_by_day(self) -> dict[str, list[str]]:
        with self._telling("the names"):
            days = list(self._days())
            with ThreadPoolExecutor(_LISTERS) as listers:
                return dict(zip(days, listers.map(self._feeds_of, days), strict=True))

    def _days(self) -> Iterator[str]:
        if self._only_day is not None:
            return iter([self._only_day])
        names = (name.removeprefix(_DAY) for name in self._store.folders() if name.startswith(_DAY))
        return filter(is_day, names)

    def _feeds_of(self, day: str) -> list[str]:
        names = self._names(f"{_DAY}{day}")
        feeds = [name.removeprefix(_FEED) for name in names if name.startswith(_FEED)]
        return [feed for feed in feeds if _FEED_NAME.fullmatch(feed)]

    def _names(self, folder: str) -> list[str]:
        try:
            return self._store.names(folder)
        except FileNotFoundError:
            return []
