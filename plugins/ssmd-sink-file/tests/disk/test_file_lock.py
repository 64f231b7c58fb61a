"""One connector an archive and feed."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
from contextlib import contextmanager

import anyio
import pytest

from ssmd_core.errors import StorageUnusable
from ssmd_sink_file.disk.lock import Lock

pytestmark = pytest.mark.anyio

HOLDER = """
import sys
from pathlib import Path
from ssmd_sink_file.disk.lock import Lock
lock = Lock(Path(sys.argv[1]))
print("ready" if lock.take() else "refused", flush=True)
sys.stdin.read()
"""


@contextmanager
def holder(path):
    """Another process that has the lock until its standard input closes."""
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, path],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            assert process.stdout.readline() == "ready\n"
            yield process
        finally:
            process.kill()


async def test_an_archive_in_use_names_its_holder(archive, make, root):
    async with archive():
        pass  # makes the directory
    with holder(root / ".kalshi.lock") as process, pytest.raises(StorageUnusable) as refusal:
        await make(lock_seconds=0.2).open()
    message = str(refusal.value)
    assert f"pid {process.pid} on host {os.uname().nodename} since 20" in message
    assert str(root / ".kalshi.lock") in message
    assert "storage.path" in message


async def test_a_start_waits_for_its_forerunner_to_stop(archive, make, root, monkeypatch):
    refused, real = anyio.Event(), Lock.take

    def take(lock):
        taken = real(lock)
        if not taken:
            refused.set()
        return taken

    monkeypatch.setattr(Lock, "take", take)
    async with archive():
        pass
    with holder(root / ".kalshi.lock") as process:
        storage = make(lock_seconds=30.0)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(storage.open)
            with anyio.fail_after(10):
                await refused.wait()
            process.stdin.close()
        await storage.aclose()


async def test_a_killed_holder_leaves_the_lock_free(archive, root):
    async with archive():
        pass
    with holder(root / ".kalshi.lock") as process:
        process.kill()
        process.wait()
        async with archive():
            pass


async def test_a_stopped_connector_leaves_the_lock_free_and_unsigned(archive, root):
    async with archive():
        assert f'"pid":{os.getpid()}' in (root / ".kalshi.lock").read_text()
    assert (root / ".kalshi.lock").read_bytes() == b""


async def test_a_failed_start_gives_the_lock_back(archive, make, root, monkeypatch):
    def refuse(*_args, **_options):
        raise StorageUnusable("no")

    with monkeypatch.context() as patch:
        patch.setattr("ssmd_sink_file.local.sink.recover", refuse)
        with pytest.raises(StorageUnusable, match="no"):
            await make().open()
    async with archive():
        pass


async def test_a_lock_file_that_cannot_be_opened_is_unusable(make, root):
    (root / ".kalshi.lock").mkdir(parents=True)
    with pytest.raises(StorageUnusable, match=r"cannot lock the archive: .*EISDIR"):
        await make().open()


def test_a_lock_is_taken_once_and_kept(tmp_path):
    lock, other = Lock(tmp_path / "lock"), Lock(tmp_path / "lock")
    assert lock.take()
    assert lock.take()
    assert not other.take()
    lock.release()
    assert other.take()
    other.release()


def test_a_removed_lock_file_guards_nothing_and_is_made_anew(tmp_path):
    lock, other = Lock(tmp_path / "lock"), Lock(tmp_path / "lock")
    assert lock.take()
    (tmp_path / "lock").unlink()
    lock.ensure()
    assert not other.take()
    lock.release()


def test_a_lock_file_removed_while_it_is_taken_is_not_taken(tmp_path, monkeypatch):
    lock, path, real = Lock(tmp_path / "lock"), tmp_path / "lock", fcntl.flock

    def remove_first(fd, operation):
        path.unlink()
        real(fd, operation)

    with monkeypatch.context() as patch:
        patch.setattr(fcntl, "flock", remove_first)
        assert not lock.take()
    assert lock.take()
    lock.release()


def test_an_unsigned_lock_is_held_by_another_process(tmp_path):
    assert Lock(tmp_path / "lock").holder() == "another process"
