"""A directory read as an archive: which files, in which order, and what may still grow."""

from __future__ import annotations

import errno
import fcntl
import gc
import gzip
import hashlib
import os
import shutil
from pathlib import Path
from unittest import mock

import pytest
import zstandard

from ssmd_core.errors import StorageFailed
from ssmd_core.records import Batch
from ssmd_core.sink.archive import Content, Damaged, Digest
from ssmd_sink_file.archive import open_archive
from ssmd_sink_file.lines.layout import Kind, Layout
from ssmd_sink_file.lines.writer import LineWriter
from ssmd_sink_file.local import pieces
from ssmd_sink_file.reading import local as local_archive
from ssmd_sink_file.reading import snapshot
from ssmd_sink_file.reading.local import LocalArchive

NOON = 1_795_348_800_000_000_000
DAY_NS = 86_400_000_000_000
TODAY, TOMORROW, YESTERDAY = "2026-11-22", "2026-11-23", "2026-11-21"
LATER = NOON + 30 * DAY_NS


def lines(*frames, at=0):
    return b"".join(part.data for part in LineWriter("kalshi").parts(Batch(NOON + at, [*frames])))


def packed(*pieces):
    return b"".join(map(zstandard.ZstdCompressor(write_checksum=True).compress, pieces))


@pytest.fixture
def put(root):
    def write(name, data=b"{}"):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        return path

    return write


@pytest.fixture
def read(root):
    """Open the archive long after the days that it holds."""
    opened = []

    def open_it(wall_ns=LATER, day=None):
        opened.append(LocalArchive(root, day, wall_ns=lambda: wall_ns))
        return opened[-1]

    yield open_it
    for archive in opened:
        archive.close()


def names(archive, day=TODAY, content=None):
    return [
        file.name.partition("/")[2]
        for file in archive.files("kalshi", day)
        if content in {None, file.content}
    ]


def frames(archive, day=TODAY):
    """Return the frames of all LIVE files of a day, and what is damaged."""
    found = [
        item
        for file in archive.files("kalshi", day)
        if file.content is Content.LIVE
        for item in archive.frames(file)
    ]
    damaged = [item for item in found if isinstance(item, Damaged)]
    return [frame for item in found if isinstance(item, Batch) for frame in item.frames], damaged


def open_files():
    gc.collect()
    return len([*Path("/proc/self/fd").iterdir()])


# ── names ────────────────────────────────────────────────────────────────────────


def test_feeds_and_days_are_told_from_names(put, read):
    for name in ("2026-11-22/kalshi.jsonl", "2026-11-20/kalshi.jsonl.zst", "2026-11-21/b-2.jsonl"):
        put(name)
    put("2026-11-23/other_1.coverage.jsonl")
    assert read().feeds() == ["b-2", "kalshi", "other_1"]
    assert read().days("kalshi") == ["2026-11-20", "2026-11-22"]
    assert read().days("nobody") == []


@pytest.mark.parametrize(
    "name",
    [
        "kalshi.jsonl",
        "notes/kalshi.jsonl",
        "2026-13-01/kalshi.jsonl",
        "2026-11-22x/kalshi.jsonl",
        "2026-11-22/README.md",
        "2026-11-22/kalshi.torn",
        "2026-11-22/Kalshi.jsonl",
        "2026-11-22/kalshi.jsonl.zst.torn",
        "2026-11-22/kalshi.jsonl.12.closing.old",
        "2026-11-22/kalshi.jsonl/inside",
        ".kalshi.connector",
    ],
)
def test_what_is_not_of_an_archive_is_passed_over(put, read, name):
    put(name)
    assert read().feeds() == []
    assert read().days("kalshi") == []
    assert read().files("kalshi", TODAY) == []


def test_a_foreign_file_does_not_hide_ours(put, read):
    put("2026-11-22/kalshi.jsonl", lines(b"1"))
    put("2026-11-22/kalshi.jsonl.bak", b"junk")
    put("todo.txt")
    os.mkfifo(put("2026-11-22/x").parent / "kalshi.rest.jsonl")
    assert names(read()) == ["kalshi.jsonl"]


def test_the_files_of_a_day_stand_in_the_order_of_what_they_hold(put, read):
    layout = Layout("kalshi")
    for kind in (Kind.LIVE, Kind.REST):
        put(layout.file(TODAY, kind))
        put(layout.file(TODAY, kind) + ".zst")
        put(layout.file(TODAY, kind) + ".7.closing")
    put(layout.file(TODAY, Kind.COVERAGE))
    live = ["kalshi.jsonl.zst", "kalshi.jsonl.7.closing", "kalshi.jsonl"]
    assert names(read(), content=Content.LIVE) == live
    rest = [name.replace("kalshi", "kalshi.rest") for name in live]
    assert names(read(), content=Content.REST) == rest
    assert names(read(), content=Content.LEDGER) == ["kalshi.coverage.jsonl"]
    assert {file.feed for file in read().files("kalshi", TODAY)} == {"kalshi"}


def test_the_files_of_another_feed_are_not_among_ours(put, read):
    put("2026-11-22/kalshi.jsonl")
    put("2026-11-22/kalshi-2.jsonl")
    assert names(read()) == ["kalshi.jsonl"]


# ── what may grow ────────────────────────────────────────────────────────────────


def open_names(archive, day=TODAY):
    return {file.name.partition("/")[2] for file in archive.files("kalshi", day) if file.is_open}


@pytest.fixture
def lock(put):
    path = put(".kalshi.lock", b"")
    fd = os.open(path, os.O_RDWR)
    fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    yield path
    os.close(fd)


def test_todays_files_may_grow(put, read):
    put("2026-11-22/kalshi.jsonl")
    put("2026-11-22/kalshi.jsonl.zst")
    put("2026-11-22/kalshi.jsonl.7.closing")
    put("2026-11-22/kalshi.coverage.jsonl")
    assert open_names(read(NOON)) == {*names(read())}


def test_files_of_former_days_are_closed(put, read):
    put("2026-11-22/kalshi.jsonl")
    put(".kalshi.lock")
    assert open_names(read(NOON + DAY_NS)) == set()


def test_the_newest_files_may_grow_while_a_connector_holds_the_lock(put, read, lock):
    put("2026-11-21/kalshi.jsonl")
    put("2026-11-22/kalshi.jsonl")
    put("2026-11-23/other.jsonl")
    assert open_names(read()) == {"kalshi.jsonl"}
    assert open_names(read(), YESTERDAY) == set()


def test_a_connector_is_at_work_while_a_process_holds_its_lock(put, read, lock):
    put(f"{TODAY}/kalshi.jsonl")
    assert read().is_live("kalshi") is True
    assert read().is_live("other") is False


@pytest.mark.parametrize("left", [(), (".kalshi.lock",)])
def test_no_connector_is_at_work_on_a_copy(put, read, left):
    put(f"{TODAY}/kalshi.jsonl")
    for name in left:
        put(name)
    assert read().is_live("kalshi") is False


def test_a_lock_that_cannot_be_asked_says_nothing(put, read):
    put(f"{TODAY}/kalshi.jsonl")
    put(".kalshi.lock")
    archive = read()
    with mock.patch.object(local_archive.os, "open", side_effect=PermissionError):
        assert archive.is_live("kalshi") is None


def test_looking_at_the_lock_does_not_hold_it(put, read):
    put("2026-11-22/kalshi.jsonl")
    path = put(".kalshi.lock")
    assert open_names(read()) == set()
    with path.open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


def test_a_line_that_is_being_written_is_left_out_of_an_open_file_only(put, read):
    put("2026-11-22/kalshi.jsonl", lines(b"1") + b'{"ts":"2026')
    assert frames(read(NOON)) == ([b"1"], [])
    partial = Damaged("2026-11-22/kalshi.jsonl", 2, 1, "a partial line at the end")
    assert frames(read()) == ([b"1"], [partial])


# ── frames that move between files ───────────────────────────────────────────────


def test_a_day_is_read_across_its_files(put, read):
    put("2026-11-22/kalshi.jsonl.zst", packed(lines(b"1"), lines(b"2", at=5)))
    put("2026-11-22/kalshi.jsonl", lines(b"3", at=9))
    assert frames(read()) == ([b"1", b"2", b"3"], [])


@pytest.mark.parametrize("come", [0, 5, 1000])
def test_what_a_closing_part_was_packed_so_far_is_told_once(put, read, come):
    old, new = packed(lines(b"1")), packed(lines(b"2", at=5))
    put("2026-11-22/kalshi.jsonl.zst", old + new[:come])
    put(f"2026-11-22/kalshi.jsonl.{len(old)}.closing", lines(b"2", at=5))
    put("2026-11-22/kalshi.jsonl", lines(b"3", at=9))
    assert frames(read()) == ([b"1", b"2", b"3"], [])


def test_the_digest_is_of_the_file_as_it_lies(put, read):
    old, new = packed(lines(b"1")), packed(lines(b"2", at=5))
    put("2026-11-22/kalshi.jsonl.zst", old + new)
    put(f"2026-11-22/kalshi.jsonl.{len(old)}.closing", lines(b"2", at=5))
    archive = read()
    (file, *_) = archive.files("kalshi", TODAY)
    sha256 = hashlib.sha256(old + new).hexdigest()
    assert archive.digest(file) == Digest(2, len(old + new), sha256)


def compress_plain(root):
    """Do what a connector does when it closes a file."""
    plain = root / TODAY / "kalshi.jsonl"
    target = root / TODAY / "kalshi.jsonl.zst"
    size = target.stat().st_size if target.exists() else 0
    closing = plain.rename(root / TODAY / f"kalshi.jsonl.{size}.closing")
    with target.open("ab") as file:
        file.write(packed(closing.read_bytes()))
    closing.unlink()


def test_files_that_are_compressed_after_they_were_listed_are_read_all_the_same(put, read, root):
    put("2026-11-22/kalshi.jsonl.zst", packed(lines(b"1")))
    put("2026-11-22/kalshi.jsonl", lines(b"2", at=5))
    archive = read()
    listed = archive.files("kalshi", TODAY)
    compress_plain(root)
    put("2026-11-22/kalshi.jsonl", lines(b"3", at=9))
    found = [batch.frames for file in listed for batch in archive.frames(file)]
    assert found == [[b"1"], [b"2"]]
    assert frames(archive) == ([b"1", b"2", b"3"], [])


@pytest.mark.parametrize("moment", range(8))
def test_files_that_are_compressed_while_they_are_listed_are_read_once(put, read, root, moment):
    put("2026-11-22/kalshi.jsonl.zst", packed(lines(b"1")))
    put("2026-11-22/kalshi.jsonl", lines(b"2", at=5))
    calls = []

    def before(step):
        def meanwhile(*arguments):
            if len(calls) == moment:
                compress_plain(root)
            calls.append(step)
            return step(*arguments)

        return meanwhile

    steps = {"look": before(pieces.look), "_open": before(pieces._open)}
    with mock.patch.multiple(pieces, **steps):
        assert frames(read()) == ([b"1", b"2"], [])
    assert len(calls) > moment


def test_a_day_that_a_stranger_compressed_in_another_form_as_well_is_listed_whole(put, read):
    put("2026-11-22/kalshi.jsonl.gz", gzip.compress(lines(b"1")))
    put("2026-11-22/kalshi.jsonl.zst", packed(lines(b"2", at=5)))
    put("2026-11-22/kalshi.jsonl", lines(b"3", at=9))
    assert frames(read()) == ([b"1", b"2", b"3"], [])


def test_a_file_that_may_not_be_read_is_listed_and_named(put, read, monkeypatch):
    put("2026-11-22/kalshi.jsonl", lines(b"1"))
    put("2026-11-22/kalshi.jsonl.zst", packed(lines(b"2")))
    open_any = os.open

    def refuse(path, *arguments, **options):
        if str(path).endswith(".zst"):
            raise PermissionError(errno.EACCES, "Permission denied")
        return open_any(path, *arguments, **options)

    monkeypatch.setattr(os, "open", refuse)
    archive = read()
    packed_file, plain = archive.files("kalshi", TODAY)
    assert [batch.frames for batch in archive.frames(plain)] == [[b"1"]]
    with pytest.raises(StorageFailed, match=r"kalshi\.jsonl\.zst of .*EACCES"):
        list(archive.frames(packed_file))


def test_few_days_are_held_open(put, read):
    for day in range(1, 30):
        put(f"2026-11-{day:02}/kalshi.jsonl", lines(b"1"))
    archive = read()
    before = open_files()
    listed = [file for day in archive.days("kalshi") for file in archive.files("kalshi", day)]
    held = open_files() - before
    assert held <= local_archive._HELD_DAYS
    assert sum(len(batch.frames) for file in listed for batch in archive.frames(file)) == 29
    archive.close()
    assert open_files() == before


def test_frames_that_were_begun_go_on_after_their_day_was_let_go(put, read):
    put("2026-11-22/kalshi.jsonl", lines(b"1") + lines(b"2", at=5))
    archive = read()
    (file,) = archive.files("kalshi", TODAY)
    found = archive.frames(file)
    assert next(found).frames == [b"1"]
    archive.close()
    assert next(found).frames == [b"2"]


# ── beside the files ─────────────────────────────────────────────────────────────


def test_the_bytes_of_partial_lines_are_counted(put, read):
    put("2026-11-22/kalshi.torn", b"abc\n\0\0\n")
    assert read().torn_bytes("kalshi", TODAY) == 5
    assert read().torn_bytes("kalshi", TOMORROW) == 0


def test_values_beside_the_archive_are_read(put, read):
    put(".kalshi.connector", b"abc")
    assert read().load("kalshi", "connector") == b"abc"
    assert read().load("kalshi", "cursor") is None


def test_reading_makes_and_changes_nothing(put, read, root):
    put("2026-11-22/kalshi.jsonl", lines(b"1") + b"torn")
    put("2026-11-22/kalshi.coverage.jsonl", b"{}\n")
    before = {path: path.stat() for path in sorted(root.rglob("*"))}
    archive = read(NOON)
    for file in archive.files("kalshi", TODAY):
        archive.digest(file)
    frames(archive)
    assert archive.load("kalshi", "connector") is None
    after = {path: path.stat() for path in sorted(root.rglob("*"))}
    assert [path for path in after if after[path].st_mtime_ns != before[path].st_mtime_ns] == []
    assert after.keys() == before.keys()


def test_a_ledger_is_read_line_by_line(put, read):
    line = b'{"ts":"2026-11-22T12:00:00.000000001+00:00","event":"gap"}'
    put("2026-11-22/kalshi.coverage.jsonl", line + b"\nx\n")
    archive = read()
    (file,) = archive.files("kalshi", TODAY)
    damaged = Damaged(file.name, 2, 1, "not a line of a ledger")
    assert list(archive.notes(file)) == [(NOON + 1, line), damaged]


# ── where there is none ──────────────────────────────────────────────────────────


def test_a_day_directory_is_an_archive_of_that_day(put, root):
    put("2026-11-22/kalshi.jsonl", lines(b"1"))
    put("2026-11-21/kalshi.jsonl", lines(b"0", at=-DAY_NS))
    put(".kalshi.connector", b"abc")
    with open_archive(str(root / TODAY), {}) as archive:
        assert archive.place == str(root / TODAY)
        assert archive.days("kalshi") == [TODAY]
        assert frames(archive) == ([b"1"], [])
        assert archive.load("kalshi", "connector") == b"abc"


def test_a_relative_path_and_a_file_url_will_do(put, root, monkeypatch):
    put("2026-11-22/kalshi.jsonl", lines(b"1"))
    monkeypatch.chdir(root / TODAY)
    for place in (".", "..", f"file://{root}"):
        with open_archive(place, {}) as archive:
            assert archive.days("kalshi") == [TODAY]


def test_an_archive_in_a_directory_that_is_called_like_a_day_is_one(put, root):
    put("2026-01-01/2026-11-22/kalshi.jsonl", lines(b"1"))
    with open_archive(str(root / "2026-01-01"), {}) as archive:
        assert archive.days("kalshi") == [TODAY]


@pytest.mark.parametrize("name", ["nowhere", "file", "empty", "2026-11-20"])
def test_where_no_archive_is_the_message_says_where_and_what_was_expected(put, root, name):
    put("file")
    (root / "empty").mkdir()
    (root / "2026-11-20").mkdir()
    with pytest.raises(StorageFailed, match=r"no archive at .*2026-11-22.*\.jsonl") as caught:
        open_archive(str(root / name), {})
    assert str(root / name) in str(caught.value)


@pytest.mark.parametrize("how", ["frames", "digest", "notes"])
def test_a_file_that_cannot_be_read_is_named(put, read, root, how):
    put("2026-11-22/kalshi.jsonl", lines(b"1"))
    archive = read()
    (file,) = archive.files("kalshi", TODAY)
    archive.close()
    shutil.rmtree(root)
    with pytest.raises(StorageFailed, match=r"2026-11-22/kalshi\.jsonl of .*ENOENT"):
        list(getattr(archive, how)(file))


def test_a_disk_that_fails_is_told(put, read, monkeypatch):
    put("2026-11-22/kalshi.jsonl", lines(b"1"))
    archive = read()
    (file,) = archive.files("kalshi", TODAY)

    def fail(_fd, _size, _offset):
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(snapshot.os, "pread", fail)
    with pytest.raises(StorageFailed, match="EIO"):
        list(archive.frames(file))


def test_what_the_caller_raises_between_frames_is_not_of_the_archive(put, read):
    put("2026-11-22/kalshi.jsonl", lines(b"1") + lines(b"2", at=5))
    archive = read()
    (file,) = archive.files("kalshi", TODAY)
    found = archive.frames(file)
    next(found)
    with pytest.raises(ZeroDivisionError):
        found.throw(ZeroDivisionError())


def test_nothing_is_left_open_when_a_reader_turns_away(put, read):
    put("2026-11-22/kalshi.jsonl", lines(b"1") + lines(b"2", at=5))
    archive = read()
    (file,) = archive.files("kalshi", TODAY)
    before = open_files()
    found = archive.frames(file)
    next(found)
    found.close()
    assert open_files() == before


def test_a_root_given_as_a_path_with_a_trailing_slash_is_the_same(put, root):
    put("2026-11-22/kalshi.jsonl", lines(b"1"))
    with open_archive(f"{root}{os.sep}", {}) as archive:
        assert Path(archive.place) == root
