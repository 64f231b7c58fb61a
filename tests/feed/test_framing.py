"""Cutting a stream into frames: whatever the chunks, a protocol of its own agrees."""

from itertools import chain, pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from websockets.frames import Frame, Opcode

from ssmd_core.feed.framing import Splitter

LIMIT = 70_000
SIZES = st.one_of(
    st.integers(0, 200), st.sampled_from([125, 126, 127, 65_535, 65_536, LIMIT - 1, LIMIT])
)


def wire(opcode, data, *, fin=True):
    """Return a frame as a server sends it."""
    return Frame(opcode, data, fin).serialize(mask=False)


def whole(data):
    """Return one complete message or control frame."""
    return st.sampled_from(
        [
            [wire(Opcode.TEXT, data)],
            [wire(Opcode.BINARY, data)],
            [wire(Opcode.PING, data[:125])],
            [
                wire(Opcode.TEXT, data[:50], fin=False),
                wire(Opcode.PONG, b"in between"),
                wire(Opcode.CONT, data[50:]),
            ],
        ]
    )


TEXT = SIZES.map(lambda size: [wire(Opcode.TEXT, b"t" * size)])
ANY = SIZES.flatmap(lambda size: whole(b"x" * size))
STREAMS = st.lists(st.one_of(TEXT, TEXT, ANY), max_size=12).map(lambda parts: [*chain(*parts)])


def cut(data, at):
    ends = sorted({0, len(data), *(position % (len(data) + 1) for position in at)})
    return [data[start:stop] for start, stop in pairwise(ends)]


def split(chunks, limit=LIMIT):
    """Return what a splitter makes of chunks: plain texts, and the other frames whole."""
    splitter, texts, odd = Splitter(limit), [], []
    for chunk in chunks:
        splitter.feed(chunk)
        texts += splitter.texts()
        while (frame := splitter.odd()) is not None:
            odd.append(frame)
            texts += splitter.texts()
    return texts, odd, splitter.rest()


@given(STREAMS, st.lists(st.integers(0, 2**20), max_size=8))
def test_every_byte_comes_out_once_and_frames_are_whole_wherever_the_chunks_end(frames, at):
    texts, odd, rest = split(cut(b"".join(frames), at))
    assert rest == b""
    assert sorted([*odd, *(wire(Opcode.TEXT, text) for text in texts)]) == sorted(frames)


@given(STREAMS, st.lists(st.integers(0, 2**20), max_size=8))
def test_nothing_of_a_fragmented_message_is_taken_for_a_whole_one(frames, at):
    texts, odd, _ = split(cut(b"".join(frames), at))
    fragments = [frame for frame in frames if not frame[0] & 0x80 or frame[0] == 0x80]
    assert [frame for frame in odd if not frame[0] & 0x80 or frame[0] == 0x80] == fragments
    assert len(texts) <= sum(frame[0] == 0x81 for frame in frames)


@given(STREAMS.filter(len), st.data())
def test_of_a_cut_stream_only_the_last_frame_waits(frames, data):
    stream = b"".join(frames)
    end = data.draw(st.integers(0, len(stream)))
    texts, odd, rest = split([stream[:end]])
    came = sum(map(len, [*odd, *(wire(Opcode.TEXT, text) for text in texts)]))
    assert came + len(rest) == end
    ends = {sum(map(len, frames[:count])) for count in range(len(frames) + 1)}
    assert came == max(position for position in ends if position <= end)


@pytest.mark.parametrize(
    "begin",
    [
        Frame(Opcode.TEXT, b"masked").serialize(mask=True),
        wire(Opcode.TEXT, b"x" * (LIMIT + 1))[:10],
        wire(Opcode.BINARY, b"x" * (LIMIT + 1))[:10],
        b"\x81\x7f" + b"\xff" * 8,
    ],
    ids=["masked", "a text above the limit", "bytes above the limit", "more than anybody has"],
)
def test_what_breaks_the_rules_is_given_up_at_once_with_all_behind_it(begin):
    texts, odd, rest = split([wire(Opcode.TEXT, b"before") + begin])
    assert texts == [b"before"]
    assert odd == [begin]
    assert rest == b""


def test_the_rest_holds_what_came_of_a_frame_that_has_begun():
    stream = wire(Opcode.TEXT, b"y" * 60_000)
    _, _, rest = split([stream[:3], stream[3:20_000], stream[20_000:59_000]])
    assert rest == stream[:59_000]
