"""Small values beside the archive."""

from __future__ import annotations

import errno
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from ssmd_core.errors import StorageFailed
from ssmd_sink_file.disk import files
from ssmd_sink_file.disk.state import State
from ssmd_sink_file.lines.layout import Layout


@pytest.fixture
def state(tmp_path):
    return State(tmp_path, Layout("kalshi"))


def test_a_value_comes_back_after_a_restart(state, tmp_path):
    state.save("connector", b"abc")
    assert State(tmp_path, Layout("kalshi")).load("connector") == b"abc"
    assert (tmp_path / ".kalshi.connector").stat().st_mode & 0o777 == 0o640


def test_a_value_never_saved_is_none(state):
    assert state.load("cursor") is None


def test_values_of_feeds_are_apart(state, tmp_path):
    state.save("cursor", b"1")
    assert State(tmp_path, Layout("other")).load("cursor") is None


@pytest.mark.parametrize("step", ["write", "fsync"])
def test_a_save_that_fails_leaves_the_old_value_and_no_draft(state, tmp_path, monkeypatch, step):
    def fail(*_args):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    state.save("cursor", b"old")
    with monkeypatch.context() as patch:
        patch.setattr(files.os, step, fail)
        with pytest.raises(StorageFailed, match=r"cannot save .*\.kalshi\.cursor: ENOSPC"):
            state.save("cursor", b"new")
    assert state.load("cursor") == b"old"
    assert [path.name for path in tmp_path.iterdir()] == [".kalshi.cursor"]


def test_a_draft_that_a_crash_left_is_no_value_and_in_nobodys_way(state, tmp_path):
    (tmp_path / ".kalshi.cursor.tmp").write_bytes(b"a longer one that a crash left")
    assert state.load("cursor") is None
    state.save("cursor", b"1")
    assert state.load("cursor") == b"1"


def test_the_value_is_durable_before_it_takes_the_name(state, tmp_path, monkeypatch):
    order, real = [], os.fsync

    def record(fd):
        order.append((str(Path(f"/proc/self/fd/{fd}").readlink()), state.load("cursor")))
        real(fd)

    monkeypatch.setattr(files.os, "fsync", record)
    state.save("cursor", b"1")
    assert order == [(str(tmp_path / ".kalshi.cursor.tmp"), None), (str(tmp_path), b"1")]


def test_a_value_that_cannot_be_read_is_a_failure_and_not_none(state, tmp_path):
    (tmp_path / ".kalshi.cursor").mkdir()
    with pytest.raises(StorageFailed, match="EISDIR"):
        state.load("cursor")


def test_saves_from_threads_leave_one_whole_value(state, tmp_path):
    values = [bytes([65 + n]) * 5000 for n in range(8)]
    with ThreadPoolExecutor(4) as threads:
        list(threads.map(lambda value: state.save("cursor", value), values * 5))
    assert state.load("cursor") in values


@pytest.mark.parametrize("name", ["lock", "", "../x", "a/b", "a.b", "UP"])
def test_names_that_would_reach_elsewhere_are_refused(state, name):
    with pytest.raises(ValueError, match="not a name"):
        state.save(name, b"")
