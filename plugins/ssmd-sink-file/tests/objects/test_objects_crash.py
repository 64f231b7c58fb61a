"""Every point at which a crash may cut off closing, compressing, uploading and deleting."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import Any

import pytest

from ssmd_core.clock import iso
from ssmd_core.records import Batch, Stream
from ssmd_sink_file.disk.state import State
from ssmd_sink_file.frames.compress import Compression
from ssmd_sink_file.lines.layout import Kind, Layout
from ssmd_sink_file.lines.writer import LineWriter
from ssmd_sink_file.objects.config import ObjectConfig
from ssmd_sink_file.objects.leftovers import look
from ssmd_sink_file.objects.parts import Closed, PartMaker
from ssmd_sink_file.objects.shipping import Shipping, _Done
from ssmd_sink_file.objects.spool import OpenName, Spool
from ssmd_sink_file.objects.store import Store
from ssmd_sink_file.objects.uploading import Uploader

NOON = 1_795_348_800_000_000_000
DAY, TOMORROW = "2026-11-22", "2026-11-23"
CHANGES = ("open", "mkdir", "rename", "unlink", "rmdir", "ftruncate", "write", "fsync")
TORN = b'{"ts":"2026-11-22T12:00'


class Crash(BaseException):
    """The process is gone: nothing of it runs any more, no handler either."""


@dataclass
class Fuse:
    """Lets so many changes happen, and none after them."""

    left: int = 1 << 30
    happened: int = 0

    def burn(self) -> None:
        if self.left == 0:
            raise Crash
        self.left -= 1
        self.happened += 1


@pytest.fixture
def fuse(monkeypatch):
    fuse = Fuse()

    def fused(real):
        def change(*args, **options):
            fuse.burn()
            return real(*args, **options)

        return change

    for name in CHANGES:
        monkeypatch.setattr(os, name, fused(getattr(os, name)))
    monkeypatch.setattr(Store, "put", fused(Store.put))
    return fuse


@dataclass
class Run:
    """What happens to parts, one step after the other, without threads."""

    root: Any
    memory: Any
    context: Any
    torn: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.spool = Spool(self.root / "kalshi")

    def write(self, kinds: tuple[Kind, ...]) -> None:
        """Leave what a connector was appending to when it was killed."""
        (self.spool.base / DAY).mkdir(parents=True)
        writer = LineWriter("kalshi")
        lines = {
            Kind.LIVE: writer.parts(Batch(NOON + 5, [b"1", b"2"]))[0].data + TORN,
            Kind.REST: writer.parts(Batch(NOON + 9, [b"[3]"], stream=Stream.REST))[0].data,
            Kind.COVERAGE: b'{"ts":"%b","event":"gap"}\n' % iso(NOON + 20).encode(),
        }
        for kind in kinds:
            self.spool.path(OpenName(DAY, NOON, kind)).write_bytes(lines[kind])

    def go_on(self) -> None:
        """Do what a start and what follows it does with everything that was left."""
        state = State(self.root, Layout("kalshi"))
        maker = PartMaker(
            self.spool, "kalshi", Compression.ZSTD, lambda _, size: self.torn.append(size)
        )
        uploader = Uploader(self.spool, "kalshi", Store(ObjectConfig(**self.memory.section)))
        shipping = Shipping(
            self.context,
            self.spool,
            state,
            compression=Compression.ZSTD,
            kept_bytes=1,
            on_torn=lambda *_: None,
            wait_seconds=lambda _: 0.0,
        )
        for job in look(self.spool, "kalshi").jobs:
            part = maker.make(job)
            assert part.damaged == ()
            uploaded = uploader.upload(part)
            assert (uploaded.conflicts, uploaded.unreadable) == ((), ())
            if part.files:
                shipping._leave([_Done(part, ())], TOMORROW)
        shipping._kept.trim(0)  # as the next part does

    def left(self) -> list[str]:
        return [path.name for path in (self.spool.base / DAY).rglob("*") if path.is_file()]

    def kept(self) -> dict[str, bytes]:
        folder = self.spool.base / "kept"
        return {path.name: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


KINDS = [
    (Kind.LIVE, Kind.REST, Kind.COVERAGE),
    (Kind.LIVE, Kind.REST),
    (Kind.LIVE, Kind.COVERAGE),
    (Kind.REST, Kind.COVERAGE),
    (Kind.COVERAGE,),
]


def outcome(run):
    return {name: run.memory.get(name) for name in run.memory.names()}


@pytest.fixture
def run_at(tmp_path, told, make_memory):
    def make_run(name):
        root = tmp_path / name
        root.mkdir()
        return Run(root, make_memory(), told.context())

    return make_run


@pytest.mark.parametrize("kinds", KINDS, ids=lambda kinds: "+".join(k.name for k in kinds))
def test_a_crash_at_any_change_ends_in_the_same_objects(run_at, fuse, kinds):
    whole = run_at("whole")
    whole.write(kinds)
    fuse.happened = 0
    whole.go_on()
    changes, expected, kept = fuse.happened, outcome(whole), whole.kept()
    assert len(expected) == len({*kinds} | {Kind.COVERAGE})
    for point in range(changes):
        run = run_at(f"point{point}")
        run.write(kinds)
        fuse.left = point
        with pytest.raises(Crash):
            run.go_on()
        fuse.left = 1 << 30
        run.go_on()
        assert outcome(run) == expected, f"after {point} changes"
        assert [name for name in run.left() if name != "torn"] == []
        assert run.kept() == kept


def test_a_crash_while_mending_a_crash_ends_in_the_same_objects(run_at, fuse):
    whole = run_at("whole")
    whole.write(KINDS[0])
    fuse.happened = 0
    whole.go_on()
    changes, expected = fuse.happened, outcome(whole)
    for first in range(0, changes, 5):
        for second in range(first % 7, changes, 7):
            run = run_at(f"points{first}-{second}")
            run.write(KINDS[0])
            for point in (first, second):
                fuse.left = point
                try:
                    run.go_on()
                except Crash:
                    continue
            fuse.left = 1 << 30
            run.go_on()
            assert outcome(run) == expected, f"after {first}, then {second} changes"


def test_where_receipt_time_goes_on_is_kept_before_anything_leaves(run_at, fuse):
    whole = run_at("whole")
    whole.write(KINDS[0])
    fuse.happened = 0
    whole.go_on()
    for point in range(fuse.happened):
        run = run_at(f"point{point}")
        run.write(KINDS[0])
        fuse.left = point
        with pytest.raises(Crash):
            run.go_on()
        fuse.left = 1 << 30
        kept = State(run.root, Layout("kalshi")).load("uploaded")
        assert max(int(kept or 0), look(run.spool, "kalshi").last_ts) == NOON + 20


def test_a_closed_part_with_more_in_it_than_was_appended_is_cut(run_at):
    run = run_at("failed-write")
    run.write((Kind.LIVE,))
    path = run.spool.path(OpenName(DAY, NOON, Kind.LIVE))
    first = path.read_bytes().index(b"\n") + 1
    maker = PartMaker(run.spool, "kalshi", Compression.ZSTD, lambda *_: pytest.fail("torn"))
    part = maker.make(Closed(DAY, NOON, {Kind.LIVE: first}))
    (file,) = (file for file in part.files if file.name.kind is Kind.LIVE)
    assert (file.name.first_ts, file.name.last_ts, file.digest.lines) == (NOON + 5, NOON + 5, 1)
