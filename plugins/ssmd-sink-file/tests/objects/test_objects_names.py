"""Names of parts, in the spool and as objects."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ssmd_core.clock import day_of
from ssmd_sink_file.frames.compress import Compression
from ssmd_sink_file.lines.layout import Kind
from ssmd_sink_file.objects.spool import OpenName, PartName, Spool, days_of, last_ts_of, lines_in

_TIMES = st.integers(min_value=0, max_value=9_000_000_000_000_000_000)
_KINDS = st.sampled_from(Kind)
_FIXTURE = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=50)


def part_name(times, kind, compression):
    first, last = sorted(times)
    packed = Compression.NONE if kind is Kind.COVERAGE else compression
    return PartName(day_of(first), first, last, kind, packed)


_PARTS = st.builds(
    part_name,
    st.tuples(_TIMES, _TIMES),
    _KINDS,
    st.sampled_from([Compression.ZSTD, Compression.GZIP]),
)
_OPEN = st.builds(lambda ts, kind: OpenName(day_of(ts), ts, kind), _TIMES, _KINDS)


@_FIXTURE
@given(name=st.one_of(_PARTS, _OPEN))
def test_a_name_is_found_again_as_it_was(tmp_path_factory, name):
    spool = Spool(tmp_path_factory.mktemp("spool"))
    spool.path(name).parent.mkdir()
    spool.path(name).touch()
    opened, closed = spool.files()
    assert [*opened, *closed] == [name]


@given(st.lists(_PARTS, min_size=1))
def test_names_of_objects_tell_the_last_receipt_time(parts):
    names = [part.object_name("kalshi").rpartition("/")[2] for part in parts]
    assert last_ts_of([*names, "README", "1-2.jsonl.zst"]) == max(part.last_ts for part in parts)


def test_an_object_stands_in_the_partition_of_its_day_and_feed():
    first = 1_795_348_800_000_000_000
    name = PartName("2026-11-22", first, first + 9, Kind.LIVE, Compression.ZSTD)
    assert name.object_name("kalshi") == (
        "date=2026-11-22/feed=kalshi/1795348800000000000-1795348800000000009.jsonl.zst"
    )


def test_objects_sort_by_time_within_a_day():
    names = [
        PartName("2026-11-22", 10**18 + at, 10**18 + at, Kind.LIVE, Compression.ZSTD)
        for at in (5, 50, 500)
    ]
    objects = [name.object_name("kalshi") for name in names]
    assert sorted(objects) == objects


def test_days_are_told_newest_first_and_other_folders_passed_over():
    folders = ["date=2026-11-21", "date=2026-11-22", "raw", "date=x", "date=2026-11-2"]
    assert days_of(folders) == ["2026-11-22", "2026-11-21"]


@_FIXTURE
@given(
    lines=st.lists(st.binary(max_size=300).map(lambda line: line.replace(b"\n", b""))),
    tail=st.binary(max_size=50).map(lambda tail: tail.replace(b"\n", b"")),
)
def test_the_whole_lines_of_a_file_are_read_and_no_more(tmp_path_factory, lines, tail):
    path = tmp_path_factory.mktemp("lines") / "file"
    path.write_bytes(b"".join(line + b"\n" for line in lines) + tail)
    assert [line for block in lines_in(path, Compression.NONE) for line in block] == lines


@pytest.mark.parametrize("base", ["missing", "file"])
def test_a_spool_that_is_not_there_holds_nothing(tmp_path: Path, base):
    (tmp_path / "file").mkdir()
    assert Spool(tmp_path / base).files() == ([], [])
    assert Spool(tmp_path / base).drafts() == []
