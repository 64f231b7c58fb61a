"""Form of a line, and the day it belongs to."""

from __future__ import annotations

import base64
import json

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ssmd_core.clock import NS, day_of, iso
from ssmd_core.records import Batch
from ssmd_sink_file.lines.layout import Kind, Layout
from ssmd_sink_file.lines.ledger import LedgerParser, ledger_ts
from ssmd_sink_file.lines.parser import LineParser
from ssmd_sink_file.lines.writer import LineWriter, one_line

TS = 1_795_327_247_123_456_789
MIDNIGHT = 1_795_392_000 * NS

_texts = st.text(st.characters(codec="utf-8"))
_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | _texts,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(_texts, inner, max_size=4),
    max_leaves=8,
)
_gaps = st.sampled_from([b"", b" ", b"\n", b"\r\n", b"\t"])


@st.composite
def json_frames(draw):
    """JSON as a venue may send it: any spacing between tokens, any escaping."""
    value = draw(_values)
    text = json.dumps(
        value,
        ensure_ascii=draw(st.booleans()),
        indent=draw(st.sampled_from([None, 1])),
        separators=draw(st.sampled_from([(",", ":"), (", ", ": "), (",\r", "\r\n:")])),
    )
    return draw(_gaps) + text.encode() + draw(_gaps)


@st.composite
def batches(draw):
    """Batches of JSON and of anything else, anywhere in time."""
    frames, raw = [], set()
    for position in range(draw(st.integers(1, 6))):
        if draw(st.booleans()):
            frames.append(draw(json_frames()))
        else:
            frames.append(draw(st.binary(max_size=40)))
            raw.add(position)
    return Batch(
        draw(st.integers(0, 4_000_000_000 * NS)),
        frames,
        conn=draw(st.integers(0, 3)),
        raw=frozenset(raw),
    )


def write(batch: Batch) -> bytes:
    return b"".join(part.data for part in LineWriter("kalshi").parts(batch))


def test_a_line_is_what_the_contract_shows():
    assert write(Batch(TS, [b'{"type":"trade"}'])) == (
        b'{"ts":"2026-11-22T06:00:47.123456789+00:00","feed":"kalshi","data":{"type":"trade"}}\n'
    )


def test_lines_of_further_connections_carry_their_number():
    assert write(Batch(TS, [b"{}", b"[]"], conn=3)) == (
        b'{"ts":"2026-11-22T06:00:47.123456789+00:00","feed":"kalshi","conn":3,"data":{}}\n'
        b'{"ts":"2026-11-22T06:00:47.123456790+00:00","feed":"kalshi","conn":3,"data":[]}\n'
    )


def test_a_frame_that_is_not_json_stands_in_base64():
    assert write(Batch(TS, [b"{}", b"\xff\n"], raw=frozenset({1}))) == (
        b'{"ts":"2026-11-22T06:00:47.123456789+00:00","feed":"kalshi","data":{}}\n'
        b'{"ts":"2026-11-22T06:00:47.123456790+00:00","feed":"kalshi","raw":"/wo="}\n'
    )


@pytest.mark.parametrize("count", [1, 2, 3])
def test_line_breaks_between_tokens_become_spaces(count):
    lines = write(Batch(TS, [b'{\r\n"a": 1\n}'] * count)).splitlines()
    assert [line.partition(b'"data":')[2] for line in lines] == [b'{  "a": 1 }}'] * count


@pytest.mark.parametrize("end", [b"\n", b"\r"])
@pytest.mark.parametrize("at", [0, 127, 128, 299])
def test_a_line_break_anywhere_in_a_large_batch_becomes_a_space(at, end):
    frames = [b"{}"] * 300
    frames[at] = b"{%b}" % end
    (part,) = LineWriter("kalshi").parts(Batch(TS, frames))
    found = part.data.split(b"\n")[:-1]
    assert len(found) == 300
    assert found[at].endswith(b'"data":{ }}')


@given(batches())
@example(Batch(TS // 1000 * 1000 + 998, [b"1"] * 5))
@example(Batch(1_795_327_248 * NS - 2, [b"1"] * 1500))
@example(Batch(MIDNIGHT - 2, [b"1"] * 5))
@example(Batch(MIDNIGHT - 2, [b"\xff"] * 5, raw=frozenset({0, 2, 4})))
def test_every_line_names_its_frame_and_holds_it_verbatim(batch):
    text = write(batch)
    lines = text.split(b"\n")
    assert lines.pop() == b""
    assert len(lines) == len(batch.frames)
    for position, (line, frame) in enumerate(zip(lines, batch.frames, strict=True)):
        key, payload = (
            (b"raw", b'"%b"' % base64.b64encode(frame))
            if position in batch.raw
            else (b"data", one_line(frame))
        )
        conn = b'"conn":%d,' % batch.conn if batch.conn else b""
        ts = iso(batch.first_ts + position).encode()
        assert line == b'{"ts":"%b","feed":"kalshi",%b"%b":%b}' % (ts, conn, key, payload)


@given(batches())
def test_a_line_reads_back_as_its_frame(batch):
    parser = LineParser("kalshi")
    for position, line in enumerate(write(batch).split(b"\n")[:-1]):
        raw, frame = position in batch.raw, batch.frames[position]
        expected = (batch.first_ts + position, batch.conn, frame if raw else one_line(frame), raw)
        assert parser.parse(line) == expected
        assert parser.ts(line[: parser.HEAD_BYTES]) == expected[0]


@given(json_frames())
def test_a_line_is_json_that_means_what_the_venue_said(frame):
    line = json.loads(write(Batch(TS, [frame])))
    assert list(line) == ["ts", "feed", "data"]
    # Compared as text: a float is its digits, and NaN does not occur.
    assert json.dumps(line["data"]) == json.dumps(json.loads(frame))


@given(st.integers(1, 40), st.integers(-20, 20), st.booleans())
def test_a_batch_is_split_at_midnight_by_the_day_of_each_frame(count, shift, raw):
    positions = frozenset(range(0, count, 3)) if raw else frozenset()
    batch = Batch(MIDNIGHT + shift, [b"%d" % n for n in range(count)], raw=positions)
    writer, parser = LineWriter("kalshi"), LineParser("kalshi")
    read = []
    for part in writer.parts(batch):
        lines = [parser.parse(line) for line in part.data.split(b"\n")[:-1]]
        assert {day_of(line.ts) for line in lines} == {part.day}
        read += lines
    assert [(line.ts, line.data, line.raw) for line in read] == [
        (batch.first_ts + n, frame, n in positions) for n, frame in enumerate(batch.frames)
    ]


def test_one_writer_serves_seconds_and_days_in_any_order():
    writer = LineWriter("kalshi")
    for ts in (TS, MIDNIGHT, TS + 1, TS + NS, MIDNIGHT - 1):
        (part,) = writer.parts(Batch(ts, [b"{}"]))
        assert part.day == day_of(ts)
        assert part.data.startswith(b'{"ts":"%b"' % iso(ts).encode())


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"{}",
        b"\0" * 90,
        b'{"ts":"2026-11-22T06:00:47.123456789+00:00","feed":"other","data":{}}',
        b'{"ts":"2026-11-22T06:00:47.12345678+00:00","feed":"kalshi","data":{}}',
        b'{"ts":"2026-13-22T06:00:47.123456789+00:00","feed":"kalshi","data":{}}',
        b'{"ts":"2026-11-22T06:00:47.123456789+00:00","feed":"kalshi","data":}',
        b'{"ts":"2026-11-22T06:00:47.123456789+00:00","feed":"kalshi","data":{"a":1',
        b'{"ts":"2026-11-22T06:00:47.123456789+00:00","feed":"kalshi","data":{"a\0\0"}}',
        b'{"ts":"2026-11-22T06:00:47.123456789+00:00","feed":"kalshi","raw":"/wo"}',
        b'{"ts":"2026-11-22T06:00:47.123456789+00:00","feed":"kalshi","raw":"/wo=',
        b'{"ts":"2026-11-22T06:00:47.123456789+00:00","feed":"kalshi","conn":0,"data":{}}',
    ],
)
def test_a_line_that_is_not_ours_or_damaged_reads_as_nothing(line):
    parser = LineParser("kalshi")
    assert parser.parse(line) is None
    assert parser.whole_ts(line) is None


def test_a_ledger_line_tells_its_time_wherever_the_key_stands():
    assert ledger_ts(b'{"event":"gap","ts":"%b"}' % iso(TS).encode()) == TS


@pytest.mark.parametrize(
    "line",
    [
        *(b"", b"{}", b'{"ts":5}', b'{"ts":"now"}', b'{"ts":"2026', b'{"ts":"\xff"}'),
        *(b'{"ts":"\\ud800"}', b'{"a":' + b"[" * 100_000, b"\0" * 90),
    ],
)
def test_a_damaged_ledger_line_tells_no_time(line):
    assert ledger_ts(line) is None
    assert LedgerParser().parse(line) is None


def test_a_ledger_line_reads_back_as_its_bytes():
    line = b'{"ts":"%b","event":"gap", "tickers":["\xc3\xa9"]}' % iso(TS).encode()
    parser = LedgerParser()
    assert parser.parse(line) == (TS, line)
    assert parser.ts(line[: parser.HEAD_BYTES]) == TS


@pytest.mark.parametrize("end", [b"", b',"a":"\xff"}', b',"a":"\0"}', b',"a":1', b"}\0\0", b"}{}"])
def test_a_ledger_line_that_is_damaged_after_its_time_reads_as_nothing(end):
    assert LedgerParser().parse(b'{"ts":"%b"' % iso(TS).encode() + end) is None


def test_files_are_named_by_day_and_feed():
    layout = Layout("kalshi")
    assert [layout.file("2026-11-22", kind) for kind in Kind] == [
        "2026-11-22/kalshi.jsonl",
        "2026-11-22/kalshi.rest.jsonl",
        "2026-11-22/kalshi.coverage.jsonl",
    ]
    assert layout.torn("2026-11-22") == "2026-11-22/kalshi.torn"
    assert layout.beside("lock") == ".kalshi.lock"
