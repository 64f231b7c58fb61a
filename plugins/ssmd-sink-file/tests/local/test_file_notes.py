"""Reading the coverage ledger back, for catch-up."""

from __future__ import annotations

import tempfile
from collections import Counter
from pathlib import Path
from unittest import mock

import anyio
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ssmd_core.clock import day_of, iso
from ssmd_core.errors import StorageFailed
from ssmd_sink_file.disk import segments
from ssmd_sink_file.lines import blocks
from ssmd_sink_file.lines.layout import Layout
from ssmd_sink_file.local.reader import Reader

DAY_NS = 86_400_000_000_000
NOON = 1_795_348_800_000_000_000
MIDNIGHT = NOON + DAY_NS // 2
EVER = 1 << 63
TODAY = "2026-11-22"


def line_of(ts, text="gap", filler=0):
    return b'{"ts":"%b","session":null,"event":"%b"}' % (
        iso(ts).encode(),
        text.encode() + b"x" * filler,
    )


def reader_of(root, warn=pytest.fail):
    return Reader(root, Layout("kalshi"), readable=lambda _file: None, warn=warn)


async def collect(reader, after, upto):
    return [tuple(note) async for note in reader.notes(after, upto)]


def write(root, notes):
    for ts, line in notes:
        path = Path(root) / day_of(ts) / "kalshi.coverage.jsonl"
        path.parent.mkdir(exist_ok=True)
        with path.open("ab") as file:
            file.write(line + b"\n")


@st.composite
def ledgers(draw):
    """Lines in order over some days, with gaps from 1 ns to a day between them."""
    ts, notes = NOON, []
    for _ in range(draw(st.integers(0, 25))):
        ts += draw(st.sampled_from([1, 1, 1000, 10**9, DAY_NS // 2, DAY_NS]))
        text = draw(st.text("aé{}", max_size=5)).replace('"', "")
        notes.append((ts, line_of(ts, text, draw(st.sampled_from([0, 0, 90, 900])))))
    return notes


@settings(deadline=None)
@given(notes=ledgers(), data=st.data(), block=st.integers(50, 700))
def test_the_lines_read_are_those_noted_between_the_times_asked_for(notes, data, block):
    times = st.sampled_from([ts + d for ts, _ in notes for d in (-1, 0, 1)] or [NOON])
    after = data.draw(times | st.just(0))
    upto = data.draw(times | st.just(EVER))
    with tempfile.TemporaryDirectory() as root:
        write(root, notes)
        with mock.patch.object(blocks, "BLOCK_BYTES", block):
            read = anyio.run(collect, reader_of(Path(root)), after, upto)
    assert read == [note for note in notes if after < note[0] <= upto]


def test_only_the_lines_asked_for_are_read_of_a_long_ledger(tmp_path):
    notes = [(NOON + n, line_of(NOON + n, filler=900)) for n in range(500)]
    write(tmp_path, notes)
    sizes, real = Counter(), blocks.os.pread

    def record(fd, size, offset):
        sizes.update([size])
        return real(fd, size, offset)

    with (
        mock.patch.object(blocks, "BLOCK_BYTES", 2000),
        mock.patch.object(blocks.os, "pread", record),
    ):
        read = anyio.run(collect, reader_of(tmp_path), NOON + 400, NOON + 402)
    assert read == notes[401:403]
    assert sizes.total() < 60
    assert max(sizes) <= 2000


@pytest.mark.parametrize("block", [64, 300, 100_000])
def test_damaged_lines_are_passed_over_counted_and_told(tmp_path, block):
    lines = [line_of(NOON + n) for n in range(3)]
    (tmp_path / TODAY).mkdir()
    (tmp_path / TODAY / "kalshi.coverage.jsonl").write_bytes(
        b"\0" * 700
        + b"\n%b\n{}\n\n%b\n%b\n" % (lines[0], lines[1], lines[1].replace(b"null", b"nu\0l"))
        + lines[2][:40]
    )
    warnings = []
    reader = reader_of(tmp_path, warnings.append)
    with (
        mock.patch.object(blocks, "BLOCK_BYTES", block),
        mock.patch.object(blocks, "LINE_BYTES", 500),
    ):
        read = anyio.run(collect, reader, 0, EVER)
    assert [line for _, line in read] == lines[:2]
    assert reader.skipped_lines == 4
    assert "kalshi.coverage.jsonl: passed over 4 lines" in warnings[0]


@pytest.mark.anyio
async def test_what_was_noted_is_read_back_over_midnight_without_frames_between(storage, batch):
    notes = [(MIDNIGHT + n, line_of(MIDNIGHT + n)) for n in (-2, -1, 0, 1)]
    for ts, line in notes:
        storage.append(batch(b"1", at=ts - NOON))
        storage.note(ts, line)
    assert await collect(storage, 0, EVER) == notes
    assert await collect(storage, MIDNIGHT - 2, MIDNIGHT) == notes[1:3]


@pytest.mark.anyio
async def test_the_ledger_of_another_feed_is_not_read(archive, root):
    async with archive() as ours, archive("other") as theirs:
        ours.note(NOON, line_of(NOON, "ours"))
        theirs.note(NOON + 1, line_of(NOON + 1, "theirs"))
        assert await collect(ours, 0, EVER) == [(NOON, line_of(NOON, "ours"))]


@pytest.mark.anyio
async def test_notes_go_on_while_the_ledger_grows(storage, monkeypatch):
    monkeypatch.setattr(blocks, "BLOCK_BYTES", 200)
    for n in range(20):
        storage.note(NOON + n, line_of(NOON + n))
    read, n = [], 20
    async for ts, _ in storage.notes(NOON, NOON + 29):
        read.append(ts - NOON)
        storage.note(NOON + n, line_of(NOON + n))
        n += 1
    assert read == list(range(1, 30))


@pytest.mark.anyio
async def test_a_whole_line_beyond_the_last_note_is_not_yet_there(storage, root):
    storage.note(NOON, line_of(NOON))
    with (root / TODAY / "kalshi.coverage.jsonl").open("ab") as file:
        file.write(line_of(NOON + 1) + b"\n")
    assert await collect(storage, 0, EVER) == [(NOON, line_of(NOON))]


@pytest.mark.anyio
async def test_what_a_failed_note_left_is_no_part_of_the_ledger(storage, monkeypatch):
    storage.note(NOON, line_of(NOON))
    whole = segments.write_all

    def write_and_fail(fd, data):
        whole(fd, data)
        raise OSError(28, "full")

    def refuse(_fd, _size):
        raise OSError(5, "broken")

    with monkeypatch.context() as disk:
        disk.setattr(segments, "write_all", write_and_fail)
        disk.setattr(segments.os, "ftruncate", refuse)
        with pytest.raises(StorageFailed):
            storage.note(NOON + 1, line_of(NOON + 1))
    assert await collect(storage, 0, EVER) == [(NOON, line_of(NOON))]
    storage.note(NOON + 2, line_of(NOON + 2))
    assert [ts for ts, _ in await collect(storage, 0, EVER)] == [NOON, NOON + 2]


@pytest.mark.anyio
async def test_the_ledger_can_be_read_without_opening_the_archive(archive, make):
    async with archive() as storage:
        storage.note(NOON, line_of(NOON))
        assert await collect(make(), 0, EVER) == [(NOON, line_of(NOON))]


@pytest.mark.anyio
@pytest.mark.parametrize(("after", "upto"), [(NOON, NOON), (NOON + 5, NOON), (0, -1), (EVER, EVER)])
async def test_no_line_lies_between_times_that_enclose_nothing(storage, after, upto):
    storage.note(NOON, line_of(NOON))
    assert await collect(storage, after, upto) == []


@pytest.mark.anyio
async def test_a_ledger_that_cannot_be_read_is_a_failure(make):
    with pytest.raises(StorageFailed, match=r"cannot read the archive .*ENOENT"):
        await collect(make(), 0, EVER)
