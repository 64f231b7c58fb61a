"""The only module that talks to a store: puts objects once, compares, lists; errors end here."""

from __future__ import annotations

import asyncio
import base64
import enum
import errno
import hashlib
import importlib.util
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ssmd_core.errors import StorageUnusable
from ssmd_sink_file.objects.config import ObjectConfig

__all__ = ["Put", "Store", "StoreFailed", "StoreRefused", "require"]

_LIBRARIES = {"s3": "s3fs", "gs": "gcsfs", "abfs": "adlfs"}
_CONNECT_SECONDS = 3
_READ_SECONDS = 30
_CALL_SECONDS = 60.0
_SLOWEST_BYTES_A_SECOND = 32 * 1024
"""A store that takes or gives less is taken for stuck."""
_BLOCK_BYTES = 4 * 1024 * 1024
_DRAFT = ".tmp"
_REFUSALS = frozenset({401, 403})
_NO_CREDENTIALS = re.compile(r"\w*Credentials?\w*Error|ClientAuthenticationError|ProfileNotFound")
_MD5 = re.compile(r"[0-9a-f]{32}")


class StoreFailed(Exception):
    """The store did not do what it was asked; it may be asked again. Says why, without secrets."""


class StoreRefused(StoreFailed):
    """There is no such bucket, or we may not use it: asking again will not help."""


class Put(enum.Enum):
    """How a put ended."""

    STORED = "stored"
    SAME = "same"
    """The same object was there already."""
    DIFFERENT = "different"
    """Another object is there under this name; it was left alone."""


def require(protocol: str) -> None:
    """See that the library of a protocol is installed.

    Raises:
        StorageUnusable: it is not; names what to install.
    """
    library = _LIBRARIES.get(protocol)
    if library is not None:
        if importlib.util.find_spec(library) is None:
            raise StorageUnusable(
                f"{protocol}:// needs {library}: pip install 'ssmd-sink-file[{protocol}]'"
            )
        return
    from fsspec import get_filesystem_class  # noqa: PLC0415  heavy, and rarely needed

    try:
        get_filesystem_class(protocol)
    except (ImportError, ValueError) as error:
        raise StorageUnusable(f"{protocol}:// cannot be used: {error}") from error


class Store:
    """The objects below one place. Every call blocks, within a deadline where the store allows.

    Names are relative to the place. Calls may come from any thread.
    """

    def __init__(self, config: ObjectConfig) -> None:
        """Connect nothing yet.

        Raises:
            StorageUnusable: the store's library is missing or takes no such settings.
        """
        place = config.place
        require(place.protocol)
        if place.protocol == "gs":
            # Without it the first call probes the bucket over gRPC, for a minute where that is
            # filtered. Read when gcsfs is imported.
            os.environ.setdefault("GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT", "false")
        from fsspec.core import url_to_fs  # noqa: PLC0415  heavy: only where a store is used

        try:
            self._fs, root = url_to_fs(place.url, skip_instance_cache=True, **_options(config))
        except Exception as error:
            raise StorageUnusable(f"cannot use {place.url}: {_told(error)}") from error
        self._root = str(root).rstrip("/")
        self._protocol = place.protocol
        self._exclusive = place.protocol in _LIBRARIES
        if place.protocol == "s3":
            self._fs.retries = 2  # what remains is retried by us, where it can be seen
        self.url = place.url

    def folders(self) -> list[str]:
        """Return the names of what lies directly in the place; none where it is empty.

        Raises:
            StoreRefused: no such bucket, or credentials that are refused.
            StoreFailed: it cannot be told now.
        """
        try:
            return self.names("")
        except FileNotFoundError:
            if self._protocol not in _LIBRARIES:
                return []
        bucket = self._root.partition("/")[0]
        try:
            self._call("info", bucket)
        except FileNotFoundError as error:
            raise StoreRefused(f"there is no bucket {bucket}") from error
        except StoreRefused:
            pass  # listing was allowed, so the bucket is there; its settings are not ours to see
        return []

    def names(self, folder: str) -> list[str]:
        """Return the names within a folder, without the folder.

        Raises:
            FileNotFoundError: there is nothing.
            StoreFailed: it cannot be told now.
        """
        found: list[str] = self._call("ls", self._path(folder), detail=False)
        return sorted(name.rstrip("/").rpartition("/")[2] for name in found)

    def has(self, name: str) -> bool:
        """Say whether there is an object of that name.

        Raises:
            StoreFailed: it cannot be told now.
        """
        return bool(self._call("exists", self._path(name)))

    def put(self, local: Path, name: str) -> Put:
        """Make an object of a local file, unless there is one of that name.

        Raises:
            OSError: the local file cannot be read.
            StoreFailed: it is not known whether the object is there; ask again.
        """
        size = local.stat().st_size
        with local.open("rb"):
            pass
        path = self._path(name)
        try:
            self._create(str(local), path, size)
        except FileExistsError:
            return Put.SAME if self._is_same(local, path, size) else Put.DIFFERENT
        except FileNotFoundError as error:
            raise StoreRefused(f"there is no {self.url}") from error
        return Put.STORED

    def _create(self, local: str, path: str, size: int) -> None:
        limit_seconds = _limit_seconds(size)
        if self._exclusive:
            options = {"overwrite": False} if self._protocol == "abfs" else {}
            try:
                self._call(
                    "put_file", local, path, mode="create", limit_seconds=limit_seconds, **options
                )
            except _Unsupported:
                self._exclusive = False
            else:
                return
        if self._call("exists", path):
            raise FileExistsError(path)
        if self._protocol in _LIBRARIES:
            self._call("put_file", local, path, limit_seconds=limit_seconds)
            return
        # Elsewhere a reader may see what is half written, so it gets its name last.
        self._call("makedirs", path.rpartition("/")[0], exist_ok=True)
        self._call("put_file", local, path + _DRAFT, limit_seconds=limit_seconds)
        self._call("mv", path + _DRAFT, path)

    def _is_same(self, local: Path, path: str, size: int) -> bool:
        info: dict[str, Any] = self._call("info", path)
        if info.get("size") != size:
            return False
        digest = hashlib.md5(usedforsecurity=False)
        for block in _blocks(local):
            digest.update(block)
        if digest.hexdigest() in _digests(info):
            return True
        # An object stored in pieces, or encrypted with a key of the store, has no such digest.
        start = 0
        for block in _blocks(local):
            end = start + len(block)
            limit_seconds = _limit_seconds(len(block))
            held = self._call("cat_file", path, start=start, end=end, limit_seconds=limit_seconds)
            if held != block:
                return False
            start = end
        return True

    def _path(self, name: str) -> str:
        return f"{self._root}/{name}" if name else self._root

    def _call(
        self, verb: str, *arguments: Any, limit_seconds: float = _CALL_SECONDS, **options: Any
    ) -> Any:
        """Do one thing in the store. FileExistsError and FileNotFoundError mean what they say."""
        try:
            self._fs.invalidate_cache()
            if not self._fs.async_impl:
                return getattr(self._fs, verb)(*arguments, **options)
            # The blocking face of fsspec leaves a call that lasts too long to itself for ever.
            work = asyncio.wait_for(
                getattr(self._fs, f"_{verb}")(*arguments, **options), limit_seconds
            )
            return asyncio.run_coroutine_threadsafe(work, self._fs.loop).result()
        except (FileExistsError, FileNotFoundError):
            raise
        except TimeoutError as error:
            raise StoreFailed(f"it did not answer within {limit_seconds:.0f} s") from error
        except Exception as error:
            raise _failure(error)(_told(error)) from error


class _Unsupported(StoreFailed):
    """The store knows no exclusive create."""


def _options(config: ObjectConfig) -> dict[str, Any]:
    """Return how a protocol's library is told to use short timeouts and no cache."""
    options: dict[str, Any] = {"use_listings_cache": False}
    match config.place.protocol:
        case "s3":
            options["config_kwargs"] = {
                "connect_timeout": _CONNECT_SECONDS,
                "read_timeout": _READ_SECONDS,
                "retries": {"max_attempts": 1},
            }
            if config.region:
                options["client_kwargs"] = {"region_name": config.region}
        case "gs":
            pass
        case "abfs":
            options |= {"connection_timeout": _CONNECT_SECONDS, "read_timeout": _READ_SECONDS}
            if "AZURE_STORAGE_ANON" not in os.environ:
                options["anon"] = False  # else the store's own chain is not asked
        case _:
            return {}
    if config.endpoint_url:
        options["endpoint_url"] = config.endpoint_url
    return options


def _failure(error: BaseException) -> type[StoreFailed]:
    """Decide what an error of a store's library means."""
    for cause in _causes(error):
        if isinstance(cause, OSError) and cause.errno == errno.ENOSYS:
            return _Unsupported
        if isinstance(cause, PermissionError) or _NO_CREDENTIALS.fullmatch(type(cause).__name__):
            return StoreRefused
        if _status(cause) in _REFUSALS:
            return StoreRefused
    return StoreFailed


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    for _ in range(5):
        if error is None:
            return
        yield error
        error = error.__cause__ or error.__context__


def _status(error: BaseException) -> int | None:
    """Return the HTTP status that an error carries, however its library spells it."""
    response = getattr(error, "response", None)
    if isinstance(response, dict):
        status = response.get("ResponseMetadata", {}).get("HTTPStatusCode")
    else:
        status = getattr(error, "status_code", None) or getattr(error, "code", None)
    return int(status) if isinstance(status, int) else None


def _told(error: BaseException) -> str:
    text = " ".join(str(error).split())[:300]
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def _digests(info: dict[str, Any]) -> set[str]:
    """Return the MD5 sums, in hex, that a store tells of an object."""
    found = {str(info.get("ETag", "")).strip('"').lower()}
    if encoded := info.get("md5Hash"):
        found.add(base64.b64decode(encoded).hex())
    return {text for text in found if _MD5.fullmatch(text)}


def _blocks(local: Path) -> Iterator[bytes]:
    with local.open("rb") as file:
        while block := file.read(_BLOCK_BYTES):
            yield block


def _limit_seconds(size: int) -> float:
    return _CALL_SECONDS + size / _SLOWEST_BYTES_A_SECOND
