import base64
import gzip
import json
from itertools import islice

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ssmd_core.testing.recording import Recording, frame_of

FRAMES = [b'{"type":"trade","n":1}', b'{"type":"trade", "n":2}']


def archived(frame, conn=""):
    head = b'{"ts":"2026-11-22T06:00:47.123456789+00:00","feed":"acme",' + conn.encode()
    return head + b'"data":' + frame + b"}"


def test_bare_frames_are_read_one_a_line(tmp_path):
    path = tmp_path / "frames.jsonl"
    path.write_bytes(b"\n".join(FRAMES) + b"\n\n")
    assert list(Recording.load(path).frames) == FRAMES


def test_an_archive_gives_back_its_frames_verbatim(tmp_path):
    path = tmp_path / "acme.jsonl"
    path.write_bytes(archived(FRAMES[0]) + b"\n" + archived(FRAMES[1], '"conn":3,') + b"\n")
    assert list(Recording.load(path).frames) == FRAMES


def test_a_gzip_file_is_read_too(tmp_path):
    path = tmp_path / "acme.jsonl.gz"
    path.write_bytes(gzip.compress(archived(FRAMES[0]) + b"\n"))
    assert list(Recording.load(path).frames) == [FRAMES[0]]


@given(st.binary())
def test_a_raw_archive_line_gives_back_its_bytes(data):
    head = b'{"ts":"2026-11-22T06:00:47.123456789+00:00","feed":"acme","raw":"'
    assert frame_of(head + base64.b64encode(data) + b'"}') == data


@given(st.recursive(st.integers() | st.text(), lambda s: st.dictionaries(st.text(), s)))
def test_any_json_survives_the_archive_line(value):
    frame = json.dumps(value, ensure_ascii=False).encode("utf-8", "surrogatepass")
    assert frame_of(archived(frame)) == frame


def test_a_looped_recording_begins_again():
    items = Recording(FRAMES, loop=True).items(lambda frame: frame)
    assert list(islice(items, 5)) == [*FRAMES, *FRAMES, FRAMES[0]]


def test_frames_that_are_not_wanted_are_left_out():
    items = Recording(FRAMES).items(lambda frame: frame if b"1" in frame else None)
    assert list(items) == [FRAMES[0]]


@pytest.mark.parametrize("frames", [FRAMES, dict.fromkeys(FRAMES)], ids=["list", "iterable"])
def test_a_loop_without_a_wanted_frame_ends(frames):
    assert list(Recording(frames, loop=True).items(lambda _: None)) == []


def test_a_generator_is_read_only_as_it_is_played():
    read = []

    def endless():
        while True:
            read.append(1)
            yield FRAMES[0]

    assert list(islice(Recording(endless()).items(lambda f: f), 3)) == [FRAMES[0]] * 3
    assert len(read) == 3


def test_a_generator_cannot_be_looped():
    with pytest.raises(ValueError, match="list"):
        Recording(iter(FRAMES), loop=True)


@pytest.mark.parametrize("rate", [0, -1.0])
def test_a_rate_that_is_not_positive_is_refused(rate):
    with pytest.raises(ValueError, match="greater than 0"):
        Recording(FRAMES, rate=rate)
