from __future__ import annotations

import fcntl
import os

import pytest

from ssmd_core.service.stderr import LineWriter


@pytest.fixture
def pipe():
    """A pipe of four pages: (read end, write end)."""
    ends = os.pipe()
    fcntl.fcntl(ends[1], fcntl.F_SETPIPE_SZ, 16_384)
    yield ends
    for end in ends:
        try:
            os.close(end)
        except OSError:
            continue


def drain(read_end):
    os.set_blocking(read_end, False)
    taken = b""
    try:
        while chunk := os.read(read_end, 65536):
            taken += chunk
    except BlockingIOError:
        pass
    return taken


def test_a_line_is_written_as_it_is(pipe):
    writer = LineWriter(pipe[1])
    assert writer.write(b"one\n")
    assert writer.write(b"two\n")
    assert drain(pipe[0]) == b"one\ntwo\n"
    assert writer.take_lost() == 0


def test_a_reader_that_is_gone_costs_lines_and_raises_nothing(pipe):
    writer = LineWriter(pipe[1])
    os.close(pipe[0])
    assert not writer.write(b"one\n")
    assert not writer.write(b"two\n")
    assert writer.take_lost() == 2
    assert writer.take_lost() == 0


def test_a_descriptor_that_is_closed_raises_nothing(pipe):
    writer = LineWriter(pipe[1])
    os.close(pipe[1])
    assert not writer.write(b"one\n")


def test_a_reader_that_sleeps_does_not_block_the_writer_and_loses_counted_lines(pipe):
    writer = LineWriter(pipe[1])
    taken = [writer.write(b"x" * 99 + b"\n") for _ in range(1000)]
    assert taken[0]
    assert not taken[-1]
    assert writer.take_lost() == taken.count(False)


def test_lines_flow_again_when_the_reader_wakes_up(pipe):
    writer = LineWriter(pipe[1])
    while writer.write(b"x" * 99 + b"\n"):
        pass
    drain(pipe[0])
    assert writer.write(b"awake\n")
    assert drain(pipe[0]).endswith(b"awake\n")


def test_a_line_cut_off_in_the_middle_does_not_run_into_the_next(pipe):
    writer = LineWriter(pipe[1])
    assert not writer.write(b"x" * 50_000 + b"\n")
    cut = drain(pipe[0])
    assert 0 < len(cut) < 50_000
    assert writer.write(b"next\n")
    assert drain(pipe[0]) == b"\nnext\n"


def test_a_long_line_is_written_whole(tmp_path):
    descriptor = os.open(tmp_path / "log", os.O_WRONLY | os.O_CREAT)
    assert LineWriter(descriptor).write(b"x" * 100_000 + b"\n")
    os.close(descriptor)
    assert (tmp_path / "log").stat().st_size == 100_001
