"""What the bytes of a file say, whatever was done to them."""

from __future__ import annotations

import io
import itertools
import zlib
from unittest import mock

import pytest
import zstandard
from hypothesis import example, given, settings
from hypothesis import strategies as st

from ssmd_core.clock import NS
from ssmd_core.records import Batch, Stream
from ssmd_core.sink.archive import Damaged
from ssmd_sink_file.frames.compress import Compression
from ssmd_sink_file.lines.parser import LineParser
from ssmd_sink_file.lines.writer import LineWriter, one_line
from ssmd_sink_file.reading import content as contents
from ssmd_sink_file.reading import scan
from ssmd_sink_file.reading.content import content, whole_lines
from ssmd_sink_file.reading.scan import FrameScanner, NoteScanner

NOON = 1_795_348_800 * NS
MIDNIGHT = NOON + 43_200 * NS
PACKED = [Compression.ZSTD, Compression.GZIP]


def write(*batches, feed="kalshi"):
    writer = LineWriter(feed)
    return b"".join(part.data for batch in batches for part in writer.parts(batch))


def pack(compression, *pieces):
    if compression is Compression.ZSTD:
        packer = zstandard.ZstdCompressor(write_checksum=True)
        return [packer.compress(piece) for piece in pieces]
    return [zlib.compress(piece, wbits=31) for piece in pieces]


def scanned(data, compression=Compression.NONE, scanner=None, block=None):
    scanner = scanner or FrameScanner("f", "kalshi", Stream.LIVE)
    found = []
    with mock.patch.object(contents, "_BLOCK_BYTES", block or contents._BLOCK_BYTES):
        for lines in whole_lines(content(io.BytesIO(data), compression)):
            found += scanner.take(lines) if isinstance(lines, bytes) else scanner.skip(lines.what)
    return found + scanner.end()


def flat(found):
    """Frames as (ts, conn, bytes, whether raw)."""
    return [
        (batch.first_ts + position, batch.conn, frame, position in batch.raw)
        for batch in found
        if isinstance(batch, Batch)
        for position, frame in enumerate(batch.frames)
    ]


def kept(*batches):
    """What of batches the archive keeps: JSON on one line."""
    return [
        (ts, conn, frame if raw else one_line(frame), raw) for ts, conn, frame, raw in flat(batches)
    ]


def damage(found):
    return [(item.line, item.lines, item.what) for item in found if isinstance(item, Damaged)]


@st.composite
def sessions(draw):
    """Batches in order of receipt, some right behind each other, some over midnight."""
    ts = draw(st.sampled_from([0, NOON, NOON + NS - 3, MIDNIGHT - 4]))
    out = []
    for _ in range(draw(st.integers(0, 8))):
        ts += draw(st.sampled_from([0, 0, 1, 999, NS]))
        size = draw(st.integers(1, 5))
        frames, raw = [], set()
        for position in range(size):
            if draw(st.integers(0, 3)):
                frames.append(
                    draw(st.sampled_from([b"{}", b'{\r\n"a": "}"}', b'"\xc3\xa9"', b"7"]))
                )
            else:
                frames.append(draw(st.binary(max_size=9)))
                raw.add(position)
        conn = draw(st.sampled_from([0, 0, 1, 12]))
        out.append(Batch(ts, frames, conn=conn, raw=frozenset(raw)))
        ts += size
    return out


@given(sessions(), st.integers(1, 400), st.sampled_from([1, 2, 1024]))
@example([Batch(MIDNIGHT - 2, [b"1"] * 5, conn=3)], 64, 1024)
def test_what_was_written_reads_back_in_the_longest_batches_there_are(session, block, cap):
    with mock.patch.object(scan, "_BATCH_FRAMES", cap):
        found = scanned(write(*session), block=block)
    assert flat(found) == kept(*session)
    assert damage(found) == []
    for one, two in itertools.pairwise(found):
        together = one.conn == two.conn and one.last_ts + 1 == two.first_ts
        assert not together or len(one.frames) == cap


def test_what_came_over_rest_says_so():
    scanner = FrameScanner("f", "kalshi", Stream.REST)
    (batch,) = scanned(write(Batch(NOON, [b"{}"])), scanner=scanner)
    assert batch.stream is Stream.REST


NOISE = [
    b"",
    b"{}",
    b"\0" * 40,
    write(Batch(NOON, [b"{}"]))[:-2],
    write(Batch(NOON, [b"{}"]), feed="other")[:-1],
    write(Batch(NOON, [b"{}"])).replace(b'{"ts', b' {"ts')[:-1],
    write(Batch(NOON, [b"{}"])).replace(b"-22T", b"-32T")[:-1],
    write(Batch(NOON, [b"{}"], conn=1)).replace(b":1,", b":01,")[:-1],
    write(Batch(NOON, [b"abc"], raw=frozenset({0}))).replace(b"YWJj", b"YWJ")[:-1],
    write(Batch(NOON, [b'"\0"'])).replace(b"\n", b""),
    write(Batch(NOON, [b"x"])).replace(b"x", b"")[:-1],
]


@given(sessions(), st.lists(st.tuples(st.integers(0, 40), st.sampled_from(NOISE)), max_size=6))
def test_a_scanner_takes_the_lines_that_the_parser_of_catch_up_takes(session, noise):
    lines = write(*session).split(b"\n")[:-1]
    for place, line in noise:
        lines.insert(place % (len(lines) + 1), line)
    parser = LineParser("kalshi")
    parsed = [parser.parse(line) for line in lines]
    found = scanned(b"".join(line + b"\n" for line in lines))
    assert flat(found) == [tuple(line) for line in parsed if line is not None]
    bad = [number for number, line in enumerate(parsed, 1) if line is None]
    told = [line + n for line, lines, _ in damage(found) for n in range(lines)]
    assert told == bad
    # What stands before a place is told before it.
    numbers = {ts: number for number, line in enumerate(parsed, 1) if line for ts in [line.ts]}
    if len(numbers) == len([line for line in parsed if line]):
        order = [
            item.line if isinstance(item, Damaged) else numbers[item.first_ts] for item in found
        ]
        assert order == sorted(order)


@pytest.mark.parametrize(
    ("line", "what"),
    [
        (b"\0" * 40, "zero bytes, as a power failure leaves them"),
        (write(Batch(NOON, [b"{}"]), feed="other")[:-1], "a line of the feed other"),
        (b"hello", "not a line of the archive"),
        (write(Batch(NOON, [b"{}"]))[:-3], "not a line of the archive"),
        (write(Batch(NOON, [b"{}"])).replace(b"-22T", b"-32T")[:-1], "not a line of the archive"),
        (
            write(Batch(NOON, [b"a"], raw=frozenset({0}))).replace(b"YQ==", b"YQ=")[:-1],
            "not a line of the archive",
        ),
    ],
)
def test_damage_says_what_it_looks_like(line, what):
    good = write(Batch(NOON, [b"1"]))
    after = write(Batch(NOON + 1, [b"2"]))
    found = scanned(good + line + b"\n" + line + b"\n" + after)
    assert found == [
        Batch(NOON, [b"1"]),
        Damaged("f", 2, 2, what),
        Batch(NOON + 1, [b"2"]),
    ]


def test_damage_of_two_sorts_is_told_apart():
    found = scanned(b"x\n\0\n\0\n")
    assert [lines for _, lines, _ in damage(found)] == [1, 2]


@settings(deadline=None)
@given(sessions(), st.integers(1, 300))
def test_whatever_of_a_file_is_left_gives_its_whole_lines(session, block):
    data = write(*session)
    frames = kept(*session)
    ends = [n for n, byte in enumerate(data, 1) if byte == 10]
    places = {0, 1, len(data) // 3, len(data) // 2, len(data) - 1, *ends[-2:]}
    for cut in sorted(place for place in places if 0 <= place <= len(data)):
        found = scanned(data[:cut], block=block)
        whole = sum(end <= cut for end in ends)
        assert flat(found) == frames[:whole]
        torn = cut > 0 and cut not in ends
        assert damage(found) == ([(whole + 1, 1, "a partial line at the end")] if torn else [])


def test_every_byte_at_which_a_file_may_end_gives_its_whole_lines():
    batches = [Batch(NOON, [b"{}", b"\xff"], raw=frozenset({1})), Batch(NOON + 9, [b"[]"], conn=2)]
    data, frames = write(*batches), kept(*batches)
    for cut in range(len(data) + 1):
        assert flat(scanned(data[:cut])) == frames[: data[:cut].count(b"\n")]


@pytest.mark.parametrize("compression", PACKED)
def test_every_byte_at_which_a_compressed_file_may_end_gives_its_whole_frames(compression):
    batches = [Batch(NOON + n, [b"%d" % n]) for n in (0, 5, 9)]
    pieces = pack(compression, *map(write, batches))
    data = b"".join(pieces)
    ends = list(itertools.accumulate(map(len, pieces)))
    for cut in range(len(data) + 1):
        found = scanned(data[:cut], compression)
        whole = sum(end <= cut for end in ends)
        assert flat(found) == kept(*batches[:whole])
        assert len(damage(found)) == (cut not in {0, *ends})


@pytest.mark.parametrize("compression", PACKED)
@settings(deadline=None)
@given(session=sessions(), count=st.integers(1, 4), block=st.integers(1, 300))
def test_a_compressed_file_reads_back_as_the_plain_one(compression, session, count, block):
    lines = write(*session).splitlines(keepends=True)
    size = max(1, len(lines) // count)
    parts = [b"".join(lines[at : at + size]) for at in range(0, len(lines), size)]
    packed = b"".join(pack(compression, *parts))
    found = scanned(packed, compression, block=block)
    assert flat(found) == kept(*session)
    assert damage(found) == []


@pytest.mark.parametrize("compression", PACKED)
@settings(deadline=None)
@given(data=st.data())
def test_reading_goes_on_behind_a_frame_that_cannot_be_decompressed(compression, data):
    batches = [Batch(NOON + n, [b"%d" % n, b"{}"]) for n in (0, 5, 9)]
    pieces = pack(compression, *map(write, batches))
    which = data.draw(st.integers(0, 2))
    hurt = bytearray(pieces[which])
    place = data.draw(st.integers(0, len(hurt) - 1))
    hurt[place] ^= 1 << data.draw(st.integers(0, 7))
    pieces[which] = bytes(hurt)
    found = scanned(b"".join(pieces), compression)
    others = [batch for number, batch in enumerate(batches) if number != which]
    frames = flat(found)
    if len(frames) == 6:  # a bit of the header that means nothing
        return
    assert frames == kept(*others)
    ((line, lines, what),) = damage(found)
    assert (line, lines) == (1 + 2 * which, 1)
    assert "cannot be decompressed" in what


@pytest.mark.parametrize("compression", PACKED)
def test_what_only_looks_like_the_next_frame_is_part_of_the_damage(compression):
    first, last = pack(compression, write(Batch(NOON, [b"1"])), write(Batch(NOON + 1, [b"2"])))
    found = scanned(first[:-4] + first[:9] + last, compression)
    assert flat(found) == [(NOON + 1, 0, b"2", False)]
    ((line, lines, what),) = damage(found)
    assert (line, lines) == (1, 1)
    assert what.startswith(f"{len(first) + 5} bytes from byte 0 cannot be decompressed: ")


def test_the_end_of_a_frame_is_looked_for_across_blocks():
    first, last = pack(Compression.ZSTD, write(Batch(NOON, [b"1"])), write(Batch(NOON + 1, [b"2"])))
    for block in range(1, 12):
        found = scanned(first[:-9] + b"(" * 7 + last, Compression.ZSTD, block=block)
        assert flat(found)[-1] == (NOON + 1, 0, b"2", False)


def test_a_line_that_no_frame_can_be_is_passed_over_and_not_held():
    good = write(Batch(NOON, [b"1"]))
    with mock.patch.object(contents, "_LINE_BYTES", 1 << 20):
        found = scanned(good + b"x" * (3 << 20) + b"\n" + good, block=1 << 16)
        assert flat(found) == kept(Batch(NOON, [b"1"])) * 2
        assert damage(found) == [(2, 1, "longer than 1 MiB, which no frame is")]
        endless = scanned(good + b"x" * (3 << 20), block=1 << 16)
    assert damage(endless) == [(2, 1, "a partial line at the end")]


def test_a_long_line_is_read_whole():
    batch = Batch(NOON, [b'"%b"' % (b"x" * 5000)] * 3)
    assert flat(scanned(write(batch), block=100)) == flat([batch])


def test_ledger_lines_are_read_with_their_time_and_damage_is_told():
    one = b'{"ts":"2026-11-22T12:00:00.000000001+00:00","event":"gap"}'
    two = one.replace(b"001+", b"002+")
    found = scanned(b"%b\nx\n\0\n%b\n%b" % (one, two, one[:9]), scanner=NoteScanner("f"), block=7)
    assert found == [
        (NOON + 1, one),
        Damaged("f", 2, 2, "not a line of a ledger"),
        (NOON + 2, two),
        Damaged("f", 5, 1, "a partial line at the end"),
    ]
