"""Reading back, for catch-up and replay."""

from __future__ import annotations

import itertools
import tempfile
from contextlib import contextmanager
from pathlib import Path
from unittest import mock

import anyio
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ssmd_core.clock import day_of
from ssmd_core.errors import StorageFailed
from ssmd_core.records import Batch, Stream
from ssmd_sink_file.disk.segments import Segment
from ssmd_sink_file.lines import blocks
from ssmd_sink_file.lines.blocks import find_start, regroup
from ssmd_sink_file.lines.layout import Layout
from ssmd_sink_file.lines.parser import Line, LineParser
from ssmd_sink_file.lines.writer import LineWriter
from ssmd_sink_file.local.reader import Reader

DAY_NS = 86_400_000_000_000
NOON = 1_795_348_800_000_000_000
EVER = 1 << 63
TODAY = "2026-11-22"


async def collect(reader, after, upto):
    return [batch async for batch in reader.read(after, upto)]


def flat(batches):
    """Frames as (ts, conn, bytes, whether raw)."""
    return [
        (batch.first_ts + position, batch.conn, frame, position in batch.raw)
        for batch in batches
        for position, frame in enumerate(batch.frames)
    ]


@contextmanager
def blocks_of(size):
    """Read in blocks of so many bytes; yield the sizes of all reads so far."""
    sizes, real = [], blocks.os.pread

    def record(fd, size, offset):
        sizes.append(size)
        return real(fd, size, offset)

    with (
        mock.patch.object(blocks, "BLOCK_BYTES", size),
        mock.patch.object(blocks.os, "pread", record),
    ):
        yield sizes


@st.composite
def sessions(draw):
    """Batches in order over some days, with gaps from 1 ns to a day between them."""
    ts, out = NOON, []
    for _ in range(draw(st.integers(0, 12))):
        ts += draw(st.sampled_from([1, 1, 1, 1000, 10**9, DAY_NS // 2, DAY_NS]))
        frames = draw(st.lists(st.sampled_from([b"{}", b'{"a":"%b"}' % (b"x" * 90)]), max_size=4))
        frames = frames or [b"\xff\n"]
        raw = frozenset({0}) if frames[0] == b"\xff\n" else frozenset()
        out.append(Batch(ts, frames, conn=draw(st.integers(0, 1)), raw=raw))
        ts += len(frames) - 1
    return out


@settings(deadline=None)
@given(session=sessions(), data=st.data(), block=st.integers(50, 700))
def test_what_is_read_is_what_was_appended_between_the_times_asked_for(session, data, block):
    written = flat(session)
    times = st.sampled_from([ts + d for ts, *_ in written for d in (-1, 0, 1)] or [NOON])
    after = data.draw(times | st.just(0))
    upto = data.draw(times | st.just(EVER))
    with tempfile.TemporaryDirectory() as folder:
        writer, layout = LineWriter("kalshi"), Layout("kalshi")
        for batch in session:
            for part in writer.parts(batch):
                path = Path(folder) / part.day / "kalshi.jsonl"
                path.parent.mkdir(exist_ok=True)
                with path.open("ab") as file:
                    file.write(part.data)
        reader = Reader(Path(folder), layout, readable=lambda _file: None, warn=pytest.fail)
        with mock.patch.object(blocks, "BLOCK_BYTES", block):
            read = anyio.run(collect, reader, after, upto)
    assert flat(read) == [frame for frame in written if after < frame[0] <= upto]
    assert all(day_of(batch.first_ts) == day_of(batch.last_ts) for batch in read)


@given(st.lists(st.tuples(st.integers(1, 2), st.integers(0, 1)), max_size=30), st.integers(1, 5))
def test_batches_hold_consecutive_frames_of_one_connection_and_no_more_than_the_cap(steps, cap):
    ts, lines = 0, []
    for step, conn in steps:
        ts += step
        lines.append(Line(ts, conn, b"%d" % ts, ts % 5 == 0))
    with mock.patch.object(blocks, "_BATCH_FRAMES", cap):
        batches = list(regroup(lines))
    assert flat(batches) == lines
    assert all(1 <= len(batch.frames) <= cap for batch in batches)
    for one, two in itertools.pairwise(batches):
        together = one.conn == two.conn and one.last_ts + 1 == two.first_ts
        assert not together or len(one.frames) == cap, "no batch is smaller than it must be"


def test_a_start_is_found_without_reading_the_file_whole(tmp_path):
    path, parser = tmp_path / "kalshi.jsonl", LineParser("kalshi")
    writer = LineWriter("kalshi")
    with path.open("wb") as file:
        for number in range(200):
            (part,) = writer.parts(Batch(NOON + number, [b'"%s"' % (b"x" * 10_000)]))
            file.write(part.data)
    with path.open("rb") as file, blocks_of(20_000) as reads:
        size = path.stat().st_size
        file.seek(find_start(file.fileno(), size, NOON + 150, parser))
        assert 0 <= NOON + 151 - parser.ts(file.readline()) <= 3
    assert len(reads) < 30


def test_only_what_was_asked_for_is_read(tmp_path):
    writer = LineWriter("kalshi")
    for day in range(3):
        (part,) = writer.parts(Batch(NOON + day * DAY_NS, [b'"%s"' % (b"x" * 900)] * 500))
        (tmp_path / part.day).mkdir()
        noise = b"" if day == 1 else b"read by mistake\n"
        (tmp_path / part.day / "kalshi.jsonl").write_bytes(noise + part.data + noise)
    reader = Reader(tmp_path, Layout("kalshi"), readable=lambda _file: None, warn=pytest.fail)
    with blocks_of(2000) as sizes:
        read = anyio.run(collect, reader, NOON + DAY_NS + 9, NOON + DAY_NS + 12)
    assert [batch.first_ts for batch in read] == [NOON + DAY_NS + 10, NOON + DAY_NS + 12]
    assert len(sizes) < 60


def test_a_run_of_damage_is_not_read_whole(tmp_path):
    (tmp_path / TODAY).mkdir()
    (part,) = LineWriter("kalshi").parts(Batch(NOON, [b"1"]))
    (tmp_path / TODAY / "kalshi.jsonl").write_bytes(b"\0" * 50_000 + b"\n" + part.data)
    reader = Reader(
        tmp_path, Layout("kalshi"), readable=lambda _file: None, warn=lambda _text: None
    )
    with mock.patch.object(blocks, "LINE_BYTES", 20_000), blocks_of(1000) as sizes:
        assert flat(anyio.run(collect, reader, 0, EVER)) == [(NOON, 0, b"1", False)]
    assert max(sizes) <= 1000


def test_a_line_longer_than_a_block_is_read_whole(tmp_path):
    (tmp_path / TODAY).mkdir()
    frame = b'"%s"' % (b"x" * 5000)
    (part,) = LineWriter("kalshi").parts(Batch(NOON, [frame, b"1", frame]))
    (tmp_path / TODAY / "kalshi.jsonl").write_bytes(part.data)
    reader = Reader(tmp_path, Layout("kalshi"), readable=lambda _file: None, warn=pytest.fail)
    with mock.patch.object(blocks, "BLOCK_BYTES", 100):
        assert flat(anyio.run(collect, reader, 0, EVER)) == flat(
            [Batch(NOON, [frame, b"1", frame])]
        )


@pytest.mark.parametrize("block", [64, 300, 100_000])
def test_damaged_and_foreign_lines_are_passed_over_counted_and_told(tmp_path, block):
    (tmp_path / TODAY).mkdir()
    lines = [
        LineWriter("kalshi").parts(Batch(NOON + n, [b'{"n":%d}' % n]))[0].data for n in range(3)
    ]
    (tmp_path / TODAY / "kalshi.jsonl").write_bytes(
        b"\0" * 700 + b"\n" + lines[0] + b"{}\n\n" + lines[1] + b"\0" * 9 + lines[2] + lines[0][:50]
    )
    warnings = []
    reader = Reader(tmp_path, Layout("kalshi"), readable=lambda _file: None, warn=warnings.append)
    with (
        mock.patch.object(blocks, "BLOCK_BYTES", block),
        mock.patch.object(blocks, "LINE_BYTES", 500),
    ):
        read = anyio.run(collect, reader, 0, EVER)
    assert [frame for _, _, frame, _ in flat(read)] == [b'{"n":0}', b'{"n":1}']
    assert reader.skipped_lines == 4
    assert "passed over 4 lines" in warnings[0]


@pytest.mark.anyio
async def test_frames_of_both_streams_are_read_in_order_of_receipt(storage, batch):
    given = [
        batch(b"1", stream=Stream.REST),
        batch(b"2", b"3", at=1),
        batch(b"4", at=3, stream=Stream.REST),
        batch(b"5", at=4, stream=Stream.REST, conn=1),
        batch(b"6", at=DAY_NS),
        batch(b"7", at=DAY_NS + 1, stream=Stream.REST),
    ]
    for one in given:
        storage.append(one)
    assert await collect(storage, 0, EVER) == given
    assert await collect(storage, NOON + 1, NOON + 3) == [batch(b"3", at=2), given[2]]


@pytest.mark.anyio
async def test_reading_goes_on_while_the_file_grows(storage, batch, monkeypatch):
    monkeypatch.setattr(blocks, "BLOCK_BYTES", 200)
    for number in range(20):
        storage.append(batch(b"%d" % number, at=2 * number))
    read, number = [], 20
    async for part in storage.read(NOON, NOON + 2 * 29):
        read += part.frames
        storage.append(batch(b"%d" % number, at=2 * number))
        number += 1
    assert read == [b"%d" % n for n in range(1, 30)]


@pytest.mark.anyio
async def test_a_whole_line_beyond_the_last_append_is_not_yet_there(storage, root, batch):
    storage.append(batch(b"1"))
    (part,) = LineWriter("kalshi").parts(batch(b"2", at=1))
    with (root / TODAY / "kalshi.jsonl").open("ab") as file:
        file.write(part.data)
    assert flat(await collect(storage, 0, EVER)) == [(NOON, 0, b"1", False)]


@pytest.mark.anyio
async def test_an_archive_can_be_read_without_opening_it(archive, make, batch):
    async with archive() as storage:
        storage.append(batch(b"1"))
        assert flat(await collect(make(), 0, EVER)) == [(NOON, 0, b"1", False)]


@pytest.mark.anyio
@pytest.mark.parametrize(("after", "upto"), [(NOON, NOON), (NOON + 5, NOON), (0, -1), (EVER, EVER)])
async def test_nothing_lies_between_times_that_enclose_nothing(storage, batch, after, upto):
    storage.append(batch(b"1"))
    assert await collect(storage, after, upto) == []


@pytest.mark.anyio
async def test_an_archive_that_cannot_be_read_is_a_failure(make):
    with pytest.raises(StorageFailed, match=r"cannot read the archive .*ENOENT"):
        await collect(make(), 0, EVER)


@pytest.mark.anyio
async def test_a_file_may_begin_while_a_reader_asks_how_far_others_go(storage, batch, monkeypatch):
    storage.note(NOON, b"{}")
    storage.append(batch(b"1", b"2", at=1))
    fetched = [batch(b"3", at=3, stream=Stream.REST)]
    identity = Segment.identity

    def asked(segment):
        if fetched:
            storage.append(fetched.pop())  # as the task does while a thread reads
        return identity.fget(segment)

    monkeypatch.setattr(Segment, "identity", property(asked))
    assert await collect(storage, 0, NOON + 2) == [batch(b"1", b"2", at=1)]
    assert not fetched
