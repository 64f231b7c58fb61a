"""What a crash left at the end of a file."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from unittest import mock

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ssmd_sink_file.disk import tail
from ssmd_sink_file.disk.tail import lines_from_end, repair_tail


def mend(path: Path, torn: Path) -> tuple[int, int]:
    fd = os.open(path, os.O_RDWR)
    try:
        return repair_tail(fd, path.stat().st_size, torn)
    finally:
        os.close(fd)


_content = st.binary(max_size=120).map(lambda text: text.replace(b"a", b"\n"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("tails")


@given(content=_content, block=st.integers(1, 16))
def test_whole_lines_stay_and_the_rest_is_set_aside(folder, content, block):
    path, torn = folder / "live", folder / "torn"
    path.write_bytes(content)
    torn.unlink(missing_ok=True)
    whole, newline, partial = content.rpartition(b"\n")
    with mock.patch.object(tail, "_BLOCK_BYTES", block):
        assert mend(path, torn) == (len(whole + newline), len(partial))
    assert path.read_bytes() == whole + newline
    assert (torn.read_bytes() if torn.exists() else b"") == (partial + b"\n" if partial else b"")


def test_a_tail_of_nuls_is_torn(tmp_path):
    path, torn = tmp_path / "live", tmp_path / "torn"
    path.write_bytes(b"{}\n" + b"\0" * 5000)
    assert mend(path, torn) == (3, 5000)
    assert path.read_bytes() == b"{}\n"


def test_partial_lines_are_collected_and_none_is_lost(tmp_path):
    path, torn = tmp_path / "live", tmp_path / "torn"
    for partial in (b'{"ts":"2026', b'{"ts'):
        path.write_bytes(b"{}\n" + partial)
        mend(path, torn)
    assert torn.read_bytes() == b'{"ts":"2026\n{"ts\n'
    assert torn.stat().st_mode & 0o777 == 0o640


def test_a_tail_that_cannot_be_set_aside_stays(tmp_path):
    path = tmp_path / "live"
    path.write_bytes(b"{}\n{")
    with pytest.raises(FileNotFoundError):
        mend(path, tmp_path / "nowhere" / "torn")
    assert path.read_bytes() == b"{}\n{"


def test_a_partial_line_set_aside_in_part_is_taken_back(tmp_path, monkeypatch):
    path, torn = tmp_path / "live", tmp_path / "torn"
    path.write_bytes(b"{}\n{partial")
    torn.write_bytes(b"earlier\n")
    real, calls = os.write, []

    def short(fd, data):
        calls.append(fd)
        if len(calls) > 1:
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(fd, bytes(data)[:3])

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", short)
        with pytest.raises(OSError, match="No space"):
            mend(path, torn)
    assert torn.read_bytes() == b"earlier\n"
    assert path.read_bytes() == b"{}\n{partial"


def test_a_partial_line_is_durable_elsewhere_before_it_is_cut(tmp_path, monkeypatch):
    path, torn = tmp_path / "live", tmp_path / "torn"
    path.write_bytes(b"{}\n{")
    order, sync, cut = [], os.fsync, os.ftruncate

    def record(step, fd):
        order.append((step, Path(f"/proc/self/fd/{fd}").readlink().name))

    monkeypatch.setattr(os, "fsync", lambda fd: (record("sync", fd), sync(fd)))
    monkeypatch.setattr(os, "ftruncate", lambda fd, size: (record("cut", fd), cut(fd, size)))
    mend(path, torn)
    assert order == [("sync", "torn"), ("cut", "live"), ("sync", "live")]


def test_a_huge_file_is_not_read_whole(tmp_path):
    path, torn = tmp_path / "live", tmp_path / "torn"
    with path.open("wb") as file:
        file.truncate(1 << 40)  # sparse: reading it would take minutes
        file.seek(0, os.SEEK_END)
        file.write(b"\n{}\n{")
    assert mend(path, torn)[1] == 1


@given(content=_content, block=st.integers(1, 16))
def test_lines_come_last_first(folder, content, block):
    path = folder / "lines"
    path.write_bytes(content)
    fd = os.open(path, os.O_RDONLY)
    try:
        with mock.patch.object(tail, "_BLOCK_BYTES", block):
            lines = list(lines_from_end(fd, len(content), 1 << 20))
    finally:
        os.close(fd)
    assert lines == content.split(b"\n")[:-1][::-1]


def test_looking_back_has_a_bound(tmp_path):
    path = tmp_path / "lines"
    path.write_bytes(b"x\n" + b"\0" * 1_000_000 + b"\n")
    fd = os.open(path, os.O_RDONLY)
    try:
        assert list(lines_from_end(fd, path.stat().st_size, 100_000)) == []
    finally:
        os.close(fd)
