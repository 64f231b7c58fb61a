"""Decides who may write: one connector an archive and feed."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import time
from pathlib import Path

import anyio
import msgspec

from ssmd_core.errors import StorageUnusable
from ssmd_sink_file.disk.files import describe, identity_of, open_file, write_all

__all__ = ["Lock", "acquire"]

_POLL_SECONDS = 0.1


class _Holder(msgspec.Struct):
    pid: int
    host: str
    since: str

    def __str__(self) -> str:
        return f"pid {self.pid} on host {self.host} since {self.since}"


class Lock:
    """An exclusive ``flock`` on a file that says who holds it. The kernel frees it with us."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._fd: int | None = None

    def take(self) -> bool:
        """Take the lock unless another holds it. True when it is ours, before or now.

        Raises:
            OSError: the lock file cannot be opened or locked.
        """
        if self._stands():
            return True
        self.release()
        fd, _ = open_file(self.path, os.O_RDWR)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(fd)
            return False
        except BaseException:
            os.close(fd)
            raise
        self._fd = fd
        # A file that was removed between opening and locking guards nothing.
        if not self._stands():
            self.release()
            return False
        self._sign()
        return True

    def ensure(self) -> None:
        """Take the lock again where its file was removed under us.

        Raises:
            OSError: another connector has it, or the file cannot be made.
        """
        if not self.take():
            raise OSError(errno.EAGAIN, f"{self.path} is held by {self.holder()}")

    def holder(self) -> str:
        """Say who holds the lock, as the file tells."""
        try:
            return str(msgspec.json.decode(self.path.read_bytes(), type=_Holder))
        except (OSError, msgspec.DecodeError):
            return "another process"

    def release(self) -> None:
        """Give the lock back. The file stays: removing it would let two in."""
        fd, self._fd = self._fd, None
        if fd is not None:
            with contextlib.suppress(OSError):
                os.ftruncate(fd, 0)
            os.close(fd)

    def _stands(self) -> bool:
        if self._fd is None:
            return False
        try:
            return identity_of(self.path.stat()) == identity_of(os.fstat(self._fd))
        except OSError:
            return False

    def _sign(self) -> None:
        since = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        holder = _Holder(os.getpid(), os.uname().nodename, since)
        if self._fd is not None:
            with contextlib.suppress(
                OSError
            ):  # on a full disk the lock is worth more than its text
                os.ftruncate(self._fd, 0)
                write_all(self._fd, msgspec.json.encode(holder) + b"\n")


async def acquire(path: Path, wait_seconds: float, *, key: str = "storage.path") -> Lock:
    """Return the lock, waiting for its holder to stop.

    Args:
        path: the lock file.
        wait_seconds: how long to wait.
        key: the setting that says where it lies, for the message.

    Raises:
        StorageUnusable: it is still held, and by whom; or the file cannot be used.
    """
    lock = Lock(path)
    try:
        with anyio.move_on_after(wait_seconds):
            while not lock.take():  # noqa: ASYNC110  flock cannot be waited for and cancelled
                await anyio.sleep(_POLL_SECONDS)
            return lock
    except OSError as error:
        msg = f"cannot lock the archive: {path}: {describe(error)}; make it writable for us"
        raise StorageUnusable(msg) from error
    msg = (
        f"the archive is in use: {path} is held by {lock.holder()}, "
        f"waited {wait_seconds:g} s; stop it, or give this connector another `{key}`"
    )
    raise StorageUnusable(msg)
