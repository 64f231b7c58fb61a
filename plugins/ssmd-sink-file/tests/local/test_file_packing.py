"""Every instant at which a crash may stop a part on its way into the compressed file."""

from __future__ import annotations

import errno
import itertools
import os
import shutil

import anyio
import pytest

from ssmd_core.records import Batch
from ssmd_sink_file.frames import compress
from ssmd_sink_file.frames.compress import Compression
from ssmd_sink_file.lines.layout import Kind, Layout
from ssmd_sink_file.lines.writer import LineWriter
from ssmd_sink_file.local import packing
from ssmd_sink_file.local.mending import Told
from ssmd_sink_file.local.packing import Packing
from ssmd_sink_file.local.reader import Reader
from ssmd_sink_file.local.recovery import recover

NOON = 1_795_348_800_000_000_000
TODAY = "2026-11-22"
LAYOUT = Layout("kalshi")
STEPS = ("open", "write", "ftruncate", "fsync", "rename", "unlink")
PACKED = [Compression.ZSTD, Compression.GZIP]


class Crash(BaseException):
    """The process is gone: nothing that follows is done, no handler runs to the disk."""


class Power:
    """Lets so many system calls that change something through, then none."""

    def __init__(self, patch, calls, *, halves=False):
        self.left = calls
        self.halves = halves
        self.made = []
        self._real = {step: getattr(os, step) for step in STEPS}
        for step in STEPS:
            patch.setattr(os, step, self._wrap(step))

    def _wrap(self, step):
        real = self._real[step]

        def call(*args, **kwargs):
            if step == "open" and not args[1] & os.O_CREAT:
                return real(*args, **kwargs)
            if self.left == 0:
                if step == "write" and self.halves:
                    real(args[0], bytes(args[1])[: len(args[1]) // 2])
                    self.halves = False
                raise Crash
            self.left -= 1
            self.made.append(step)
            return real(*args, **kwargs)

        return call


@pytest.fixture(autouse=True)
def small(monkeypatch):
    monkeypatch.setattr(compress, "_FRAME_BYTES", 300)
    monkeypatch.setattr(packing, "_SLICE_SECONDS", 0.0)


def lines(first, count):
    writer = LineWriter("kalshi")
    return b"".join(
        writer.parts(Batch(NOON + n, [b"%d" % n]))[0].data for n in range(first, first + count)
    )


def told():
    return Told(lambda *_: pytest.fail("torn"), pytest.fail)


def names(root):
    return sorted(path.name for path in (root / TODAY).iterdir())


def part_of(root, kind, compression, *, is_over=True):
    return Packing(root, LAYOUT, (TODAY, kind), compression, told(), is_over=is_over)


def finish(part):
    while not part.work():
        pass


def pack_all(root, kind, compression):
    finish(part_of(root, kind, compression))


def everything(root):
    """The numbers of all frames as a reader meets them, whatever lies there."""

    async def read():
        reader = Reader(root, LAYOUT, readable=lambda _: None, warn=pytest.fail)
        return [int(f) async for batch in reader.read(0, 1 << 62) for f in batch.frames]

    return anyio.run(read)


def start_again(root, kind, compression):
    """What a start does: mend, then go on with what is on its way."""
    found = recover(root, LAYOUT, on_torn=lambda *_: pytest.fail("torn"), warn=pytest.fail)
    for _, of_kind in found.closing:
        finish(part_of(root, of_kind, compression, is_over=False))
    return found


def make_day(root, kind, compression, tail):
    """A day with a compressed file already, and a plain one."""
    (root / TODAY).mkdir(parents=True)
    (root / LAYOUT.file(TODAY, kind)).write_bytes(lines(0, 8))
    pack_all(root, kind, compression)
    (root / LAYOUT.file(TODAY, kind)).write_bytes(tail)


@pytest.mark.parametrize(
    ("compression", "kind"), [(Compression.ZSTD, Kind.LIVE), (Compression.GZIP, Kind.REST)]
)
@pytest.mark.parametrize("halves", [False, True])
def test_a_crash_between_any_two_system_calls_loses_no_line_and_doubles_none(
    tmp_path, monkeypatch, compression, kind, halves
):
    whole, origin = list(range(20)), tmp_path / "origin"
    make_day(origin, kind, compression, lines(8, 12))
    for calls in itertools.count():
        root = tmp_path / f"{calls}"
        shutil.copytree(origin, root)
        with monkeypatch.context() as patch:
            power = Power(patch, calls, halves=halves)
            try:
                pack_all(root, kind, compression)
            except Crash:
                pass
            else:
                break
        assert everything(root) == whole, "whatever lies there is read as one"
        found = start_again(root, kind, compression)
        assert found.last_ts == NOON + 19
        assert everything(root) == whole
        pack_all(root, kind, compression)
        assert names(root) == [LAYOUT.packed("", kind, compression)[1:]]
        assert everything(root) == whole
    # Two frames or more, and each kind of step, were cut at.
    assert power.made.count("write") >= 2
    assert {"write", "fsync", "rename", "unlink"} <= set(power.made)


def test_a_crash_during_the_start_after_a_crash_loses_nothing_either(tmp_path, monkeypatch):
    compression = Compression.ZSTD
    whole, origin = list(range(20)), tmp_path / "origin"
    make_day(origin, Kind.LIVE, compression, lines(8, 12))
    reached = 0
    for calls in range(12):
        crashed = tmp_path / f"{calls}"
        shutil.copytree(origin, crashed)
        with monkeypatch.context() as patch:
            Power(patch, calls, halves=True)
            try:
                pack_all(crashed, Kind.LIVE, compression)
            except Crash:
                pass
            else:
                break
        for again in itertools.count():
            root = tmp_path / f"{calls}-{again}"
            shutil.copytree(crashed, root)
            with monkeypatch.context() as patch:
                Power(patch, again, halves=True)
                try:
                    start_again(root, Kind.LIVE, compression)
                except Crash:
                    pass
                else:
                    break
            start_again(root, Kind.LIVE, compression)
            assert everything(root) == whole
            reached += 1
    assert reached > 20


@pytest.mark.parametrize("fault", [errno.ENOSPC, errno.EIO])
@pytest.mark.parametrize("step", ["write", "fsync", "rename", "unlink"])
def test_a_step_that_fails_is_made_up_for_later(tmp_path, monkeypatch, fault, step):
    compression = Compression.ZSTD
    make_day(tmp_path, Kind.LIVE, compression, lines(8, 12))
    part = part_of(tmp_path, Kind.LIVE, compression)

    def fail(*_args, **_kwargs):
        raise OSError(fault, os.strerror(fault))

    with monkeypatch.context() as patch:
        patch.setattr(os, step, fail)
        with pytest.raises(OSError, match=os.strerror(fault)):
            finish(part)
        assert everything(tmp_path) == list(range(20))
    finish(part)
    assert everything(tmp_path) == list(range(20))
    assert names(tmp_path) == [f"kalshi.jsonl{compression.suffix}"]


def test_a_slice_is_a_slice(tmp_path):
    make_day(tmp_path, Kind.LIVE, Compression.ZSTD, lines(8, 12))
    part = part_of(tmp_path, Kind.LIVE, Compression.ZSTD)
    sizes = []
    while not part.work():
        sizes.append(part.packed_bytes)
        assert everything(tmp_path) == list(range(20))
    assert len(sizes) >= 2
    assert sizes == sorted(set(sizes))


def test_a_part_goes_on_in_the_form_that_the_day_has(tmp_path):
    make_day(tmp_path, Kind.LIVE, Compression.GZIP, lines(8, 12))
    pack_all(tmp_path, Kind.LIVE, Compression.ZSTD)
    assert names(tmp_path) == ["kalshi.jsonl.gz"]
    assert everything(tmp_path) == list(range(20))


def test_an_empty_part_leaves_nothing(tmp_path):
    (tmp_path / TODAY).mkdir()
    (tmp_path / TODAY / "kalshi.jsonl").touch()
    pack_all(tmp_path, Kind.LIVE, Compression.ZSTD)
    assert names(tmp_path) == []


def test_a_torn_part_is_mended_on_its_way(tmp_path):
    make_day(tmp_path, Kind.LIVE, Compression.ZSTD, b"")
    (tmp_path / TODAY / "kalshi.jsonl").unlink()
    size = (tmp_path / TODAY / "kalshi.jsonl.zst").stat().st_size
    closing = tmp_path / TODAY / f"kalshi.jsonl.{size}.closing"
    closing.write_bytes(lines(8, 2) + b'{"ts":"20')
    torn = []
    recover(
        tmp_path, LAYOUT, on_torn=lambda path, count: torn.append((path, count)), warn=pytest.fail
    )
    assert torn == [(closing, 9)]
    assert (tmp_path / TODAY / "kalshi.torn").read_bytes() == b'{"ts":"20\n'
    start_again(tmp_path, Kind.LIVE, Compression.ZSTD)
    assert everything(tmp_path) == list(range(10))


# ── damage ───────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("compression", PACKED)
@pytest.mark.parametrize("tail", [bytes(500), b"\x28\xb5\x2f\xfd no frame", b"x", None])
def test_a_damaged_tail_is_set_aside_and_what_follows_is_whole(tmp_path, compression, tail):
    make_day(tmp_path, Kind.LIVE, compression, lines(8, 4))
    path = tmp_path / TODAY / f"kalshi.jsonl{compression.suffix}"
    whole = path.read_bytes()
    path.write_bytes(whole[:-9] if tail is None else whole + tail)
    warnings = []
    found = recover(tmp_path, LAYOUT, on_torn=pytest.fail, warn=warnings.append)
    assert len(warnings) == 1
    assert "set aside in" in warnings[0]
    aside = path.with_name(f"{path.name}.torn").read_bytes()
    if tail is not None:
        assert aside == tail
        assert path.read_bytes() == whole
    assert path.read_bytes() + aside == (whole[:-9] if tail is None else whole + tail)
    assert found.last_ts == NOON + 11
    pack_all(tmp_path, Kind.LIVE, compression)
    kept = everything(tmp_path)
    assert kept[-4:] == [8, 9, 10, 11]
    assert tail is None or kept == list(range(12))
    assert recover(tmp_path, LAYOUT, on_torn=pytest.fail, warn=pytest.fail).last_ts == NOON + 11


@pytest.mark.parametrize("compression", PACKED)
def test_damage_in_the_middle_costs_its_frame_and_no_other(tmp_path, compression):
    make_day(tmp_path, Kind.LIVE, compression, lines(8, 12))
    pack_all(tmp_path, Kind.LIVE, compression)
    path = tmp_path / TODAY / f"kalshi.jsonl{compression.suffix}"
    data = bytearray(path.read_bytes())
    data[30:40] = bytes(10)
    path.write_bytes(data)
    warnings = []

    async def read(after):
        reader = Reader(tmp_path, LAYOUT, readable=lambda _: None, warn=warnings.append)
        return [int(f) async for batch in reader.read(after, 1 << 62) for f in batch.frames]

    got = anyio.run(read, 0)
    assert got == list(range(20 - len(got), 20))
    assert 10 < len(got) < 20
    assert "passed over 1 lines" in warnings[0]
    assert anyio.run(read, NOON + 14) == [15, 16, 17, 18, 19]
    assert recover(tmp_path, LAYOUT, on_torn=pytest.fail, warn=warnings.append).last_ts == NOON + 19
    assert path.read_bytes() == data, "frames behind the damage are not given up"


def test_a_compressed_file_that_was_cut_by_somebody_goes_on_from_its_last_frame(tmp_path):
    make_day(tmp_path, Kind.LIVE, Compression.ZSTD, lines(8, 4))
    path = tmp_path / TODAY / "kalshi.jsonl.zst"
    part = part_of(tmp_path, Kind.LIVE, Compression.ZSTD)
    part.begin()
    path.write_bytes(path.read_bytes()[:-3])
    warnings = []
    found = recover(tmp_path, LAYOUT, on_torn=pytest.fail, warn=warnings.append)
    assert "3 bytes shorter than it was" in warnings[0]
    assert found.closing == [(TODAY, Kind.LIVE)]
    start_again(tmp_path, Kind.LIVE, Compression.ZSTD)
    assert everything(tmp_path)[-4:] == [8, 9, 10, 11]


def test_a_compressed_file_that_was_removed_is_said_and_begun_anew(tmp_path):
    make_day(tmp_path, Kind.LIVE, Compression.ZSTD, lines(8, 4))
    part_of(tmp_path, Kind.LIVE, Compression.ZSTD).begin()
    (tmp_path / TODAY / "kalshi.jsonl.zst").unlink()
    warnings = []
    recover(tmp_path, LAYOUT, on_torn=pytest.fail, warn=warnings.append)
    assert "what was compressed of it is gone" in warnings[0]
    start_again(tmp_path, Kind.LIVE, Compression.ZSTD)
    assert everything(tmp_path) == [8, 9, 10, 11]


def test_an_older_part_that_came_back_is_set_aside(tmp_path):
    make_day(tmp_path, Kind.LIVE, Compression.ZSTD, lines(8, 4))
    part_of(tmp_path, Kind.LIVE, Compression.ZSTD).begin()
    stale = tmp_path / TODAY / "kalshi.jsonl.0.closing"
    stale.write_bytes(lines(0, 8))
    warnings = []
    recover(tmp_path, LAYOUT, on_torn=pytest.fail, warn=warnings.append)
    assert "set aside as kalshi.jsonl.0.closing.old" in warnings[0]
    start_again(tmp_path, Kind.LIVE, Compression.ZSTD)
    assert everything(tmp_path) == list(range(12))


@pytest.mark.parametrize("size", [0, 7])
@pytest.mark.parametrize("content", [b"", b"rubbish\n", bytes(4_096), lines(0, 2), lines(4, 9)])
def test_a_part_that_nothing_was_copied_from_takes_nothing_away(tmp_path, size, content):
    make_day(tmp_path, Kind.LIVE, Compression.ZSTD, lines(8, 4))
    stranger = tmp_path / TODAY / f"kalshi.jsonl.{size}.closing"
    stranger.write_bytes(content)
    warnings, damaged = [], []
    recover(tmp_path, LAYOUT, on_torn=pytest.fail, warn=warnings.append, on_damaged=damaged.append)
    assert len(damaged) == 1
    assert damaged[0].startswith(f"{stranger} is not what kalshi.jsonl.zst holds from there on")
    assert not warnings
    assert stranger.with_name(f"{stranger.name}.old").read_bytes() == content
    start_again(tmp_path, Kind.LIVE, Compression.ZSTD)
    assert everything(tmp_path) == list(range(12))


def test_names_that_are_not_ours_are_no_parts(tmp_path):
    make_day(tmp_path, Kind.LIVE, Compression.ZSTD, lines(8, 4))
    foreign = ["kalshi.jsonl.x.closing", "other.jsonl.7.closing", "kalshi.jsonl..closing", "a.zst"]
    for name in foreign:
        (tmp_path / TODAY / name).write_bytes(b"theirs")
    (tmp_path / TODAY / "kalshi.rest.jsonl.zst").mkdir()
    pack_all(tmp_path, Kind.LIVE, Compression.ZSTD)
    assert start_again(tmp_path, Kind.LIVE, Compression.ZSTD).closing == []
    assert everything(tmp_path) == list(range(12))
    for name in foreign:
        assert (tmp_path / TODAY / name).read_bytes() == b"theirs"
