"""Frames: what ``zstd`` and ``gzip`` read, and what is said of a torn or damaged one."""

from __future__ import annotations

import gzip
import io
import itertools
import random

import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from ssmd_sink_file.frames import compress
from ssmd_sink_file.frames.codec import Source
from ssmd_sink_file.frames.compress import BrokenFrame, Compression, codec_of, pack, read_frames

PACKED = [Compression.ZSTD, Compression.GZIP]
LINES = b"".join(b'{"ts":"x","feed":"kalshi","data":{"n":%d}}\n' % n for n in range(4000))


@pytest.fixture
def packed(tmp_path, monkeypatch):
    """Pack lines in frames of about 16 KiB."""
    monkeypatch.setattr(compress, "_FRAME_BYTES", 16 * 1024)

    def pack_lines(lines, compression, start=0, end=None):
        plain = tmp_path / "plain"
        plain.write_bytes(lines)
        out = io.BytesIO()
        told = pack(plain, out, compression, start, end)
        assert told == (len(lines[start:end]), len(out.getvalue()))
        return out.getvalue()

    return pack_lines


def unpack(data, compression, start=0, end=None):
    return b"".join(read_frames(io.BytesIO(data), compression, start, end))


def frames(data, compression):
    """Where each frame begins, and the end."""
    codec, source = codec_of(compression), Source(io.BytesIO(data))
    found, raw = [0], 0
    while not source.at_end():
        raw += codec.skip(source)
        found.append(source.offset)
    return found, raw


@pytest.mark.parametrize("compression", list(Compression))
def test_what_was_packed_is_read_back(packed, compression):
    assert unpack(packed(LINES, compression), compression) == LINES


def test_the_tools_of_the_world_read_it(packed):
    assert gzip.decompress(packed(LINES, Compression.GZIP)) == LINES
    reader = zstandard.ZstdDecompressor().stream_reader(
        packed(LINES, Compression.ZSTD), read_across_frames=True
    )
    assert reader.read() == LINES


@pytest.mark.parametrize("compression", PACKED)
def test_the_same_lines_give_the_same_bytes(packed, compression):
    assert packed(LINES, compression) == packed(LINES, compression)


@pytest.mark.parametrize("compression", PACKED)
def test_a_frame_holds_whole_lines_and_can_be_read_alone(packed, compression):
    data = packed(LINES, compression)
    places, raw = frames(data, compression)
    assert raw == len(LINES)
    assert len(places) > 5
    alone = [unpack(data, compression, a, b) for a, b in itertools.pairwise(places)]
    assert b"".join(alone) == LINES
    assert all(text.endswith(b"\n") for text in alone)


@pytest.mark.parametrize("compression", PACKED)
def test_a_line_longer_than_a_frame_is_a_frame(packed, compression):
    rng = random.Random(3)
    lines = b"a\n" + rng.randbytes(100_000).replace(b"\n", b"_") + b"\nb\n"
    data = packed(lines, compression)
    assert unpack(data, compression) == lines
    assert len(frames(data, compression)[0]) == 4


@pytest.mark.parametrize("compression", PACKED)
def test_a_range_of_a_file_is_packed_alone(packed, compression):
    middle = LINES.index(b"\n", 50_000) + 1
    data = packed(LINES, compression, 0, middle) + packed(LINES, compression, middle)
    assert unpack(data, compression) == LINES


def test_zstandard_frames_carry_checksum_and_content_size(packed):
    data = packed(LINES, Compression.ZSTD)
    found = zstandard.get_frame_parameters(data)
    assert found.has_checksum
    assert 0 < found.content_size <= 16 * 1024


def test_gzip_members_carry_no_time_and_no_name(packed):
    data = packed(LINES, Compression.GZIP)
    assert data[3] == 4, "an extra field and nothing else"
    assert data[4:8] == bytes(4)


@pytest.mark.parametrize("compression", PACKED)
def test_a_file_cut_at_any_byte_yields_every_complete_frame_and_says_where_it_is_torn(
    packed, compression
):
    data = packed(LINES[:100_000].rpartition(b"\n")[0] + b"\n", compression)
    places, _ = frames(data, compression)
    for size in range(0, len(data), 61):
        got = []
        whole = max(place for place in places if place <= size)
        if size == whole:
            got.extend(read_frames(io.BytesIO(data[:size]), compression))
        else:
            with pytest.raises(BrokenFrame) as broken:
                got.extend(read_frames(io.BytesIO(data[:size]), compression))
            assert (broken.value.offset, broken.value.is_torn) == (whole, True)
        assert b"".join(got) == unpack(data[:whole], compression)


@pytest.mark.parametrize("compression", PACKED)
def test_a_damaged_frame_is_never_handed_on(packed, compression):
    data = packed(LINES, compression)
    places, _ = frames(data, compression)
    begin, end = places[2], places[3]
    damaged = bytearray(data)
    damaged[(begin + end) // 2] ^= 0xFF
    got = []
    with pytest.raises(BrokenFrame, match=f"compressed frame at byte {begin}: ") as broken:
        got.extend(read_frames(io.BytesIO(damaged), compression))
    assert broken.value.offset == begin
    assert b"".join(got) == unpack(data[:begin], compression)


@pytest.mark.parametrize("compression", PACKED)
@pytest.mark.parametrize("tail", [bytes(5000), b"garbage that is long enough to be a head"])
def test_a_tail_that_is_no_frame_is_damage(packed, compression, tail):
    data = packed(LINES, compression)
    with pytest.raises(BrokenFrame) as broken:
        unpack(data + tail, compression)
    assert (broken.value.offset, broken.value.is_torn) == (len(data), False)


def test_frames_of_other_writers_are_read_and_skipped():
    theirs = zstandard.ZstdCompressor().compressobj()  # knows no size beforehand
    data = theirs.compress(LINES) + theirs.flush()
    skippable = b"\x50\x2a\x4d\x18" + (300_000).to_bytes(4, "little") + bytes(300_000)
    both = data + skippable + data
    assert unpack(both, Compression.ZSTD) == LINES * 2
    assert frames(both, Compression.ZSTD)[1] == 2 * len(LINES)
    members = gzip.compress(LINES) * 2
    assert unpack(members, Compression.GZIP) == LINES * 2
    assert frames(members, Compression.GZIP)[1] == 2 * len(LINES)


@pytest.mark.parametrize("compression", PACKED)
def test_a_huge_frame_is_read_in_bounded_blocks(monkeypatch, compression):
    monkeypatch.setattr(compress, "_CHECKED_BYTES", 300_000)
    data = codec_of(compression).pack([bytes(10_000_000)], 10_000_000)
    sizes = [len(block) for block in read_frames(io.BytesIO(data), compression)]
    assert sum(sizes) == 10_000_000
    assert max(sizes) <= 256 * 1024


@settings(max_examples=50, deadline=None)
@given(pieces=st.lists(st.binary(max_size=3000), max_size=5), compression=st.sampled_from(PACKED))
def test_any_bytes_come_back(pieces, compression):
    raw = b"".join(pieces)
    data = codec_of(compression).pack(pieces, len(raw))
    assert unpack(data, compression) == raw
    assert frames(data, compression) == ([0, len(data)], len(raw))


def test_a_name_tells_how_a_file_is_compressed():
    assert [Compression.of(f"kalshi.jsonl{c.suffix}") for c in Compression] == list(Compression)
    assert Compression.of("kalshi") is Compression.NONE
