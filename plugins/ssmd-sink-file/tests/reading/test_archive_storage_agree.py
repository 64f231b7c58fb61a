"""Storage, archive and the files themselves tell the same frames, whatever was done."""

from __future__ import annotations

import base64
import gzip
import io
import json
import tempfile
from datetime import datetime
from pathlib import Path

import anyio
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from ssmd_core.clock import iso
from ssmd_core.metrics import Metrics
from ssmd_core.records import Batch, Stream
from ssmd_core.sink import StorageContext
from ssmd_core.sink.archive import Content
from ssmd_sink_file.config import LocalConfig
from ssmd_sink_file.lines.writer import one_line
from ssmd_sink_file.local.sink import LocalStorage
from ssmd_sink_file.reading.local import LocalArchive

NOON = 1_795_348_800_000_000_000
DAY_NS = 86_400_000_000_000
EVER = 1 << 62
STREAMS = {Content.LIVE: Stream.LIVE, Content.REST: Stream.REST}


class Rig:
    """One archive, what it was given, and every way to read it back."""

    def __init__(self, root, compression):
        self.root = root
        self.ts = NOON
        self.given = []
        self.noted = []
        self._config = LocalConfig(path=str(root), compression=compression, part_bytes=300)
        self.storage = None

    async def open(self):
        context = StorageContext(
            feed="kalshi",
            environment="prod",
            metrics=Metrics(),
            report=lambda *_, **__: None,
            environ={},
            warn=pytest.fail,
        )
        self.storage = LocalStorage(
            context, self._config, lock_seconds=0.0, wall_ns=lambda: self.ts
        )
        await self.storage.open()

    def append(self, gap, frames, conn, stream):
        self.ts += gap
        raw = frozenset(n for n, frame in enumerate(frames) if frame.startswith(b"\xff"))
        self.storage.append(Batch(self.ts, frames, conn=conn, raw=raw, stream=stream))
        for n, frame in enumerate(frames):
            kept = frame if n in raw else one_line(frame)
            self.given.append((self.ts + n, conn, kept, n in raw, stream))
        self.ts += len(frames)

    def note(self, gap, text):
        self.ts += gap
        line = b'{"ts":"%b","event":"%b"}' % (iso(self.ts).encode(), text)
        self.storage.note(self.ts, line)
        self.noted.append((self.ts, line))
        self.ts += 1

    async def check(self):
        read = [batch async for batch in self.storage.read(0, EVER)]
        assert flat(read) == self.given
        assert [tuple(note) async for note in self.storage.notes(0, EVER)] == self.noted
        with LocalArchive(self.root, wall_ns=lambda: self.ts) as archive:
            files = [f for day in archive.days("kalshi") for f in archive.files("kalshi", day)]
            for content, stream in STREAMS.items():
                wanted = [frame for frame in self.given if frame[4] is stream]
                found = [b for f in files if f.content is content for b in archive.frames(f)]
                assert flat(found) == wanted
                assert self.lying(stream) == wanted
            ledgers = [file for file in files if file.content is Content.LEDGER]
            assert [note for file in ledgers for note in archive.notes(file)] == self.noted

    def lying(self, stream):
        """Read the files as a stranger would: with nothing but JSON and decompressors."""
        end = ".rest.jsonl" if stream is Stream.REST else ".jsonl"
        found = {}
        for day in sorted(path for path in self.root.iterdir() if path.is_dir()):
            for path in day.iterdir():
                if path.name.removeprefix("kalshi").startswith(end):
                    for line in plain(path).splitlines():
                        frame = frame_of(line)
                        found[frame[0]] = (*frame, stream)
                        assert iso(frame[0]).startswith(day.name)
        return [found[ts] for ts in sorted(found)]


def plain(path):
    match path.suffix:
        case ".zst":
            reader = zstandard.ZstdDecompressor()
            return reader.stream_reader(
                io.BytesIO(path.read_bytes()), read_across_frames=True
            ).read()
        case ".gz":
            return gzip.decompress(path.read_bytes())
    return path.read_bytes()


def frame_of(line):
    held = json.loads(line)
    second, _, nanos = held["ts"].removesuffix("+00:00").partition(".")
    ts = int(datetime.fromisoformat(second + "+00:00").timestamp()) * 10**9 + int(nanos)
    if "raw" in held:
        return ts, held.get("conn", 0), base64.b64decode(held["raw"]), True
    return ts, held.get("conn", 0), line.partition(b'"data":')[2][:-1], False


def flat(batches):
    return [
        (batch.first_ts + position, batch.conn, frame, position in batch.raw, batch.stream)
        for batch in batches
        for position, frame in enumerate(batch.frames)
    ]


gaps = st.sampled_from([0, 0, 0, 1, 1000, 10**9, DAY_NS // 2, 3 * DAY_NS])
frames = st.sampled_from([b"{}", b'{"a":\r\n"\xc3\xa9"}', b"[%b]" % (b"7," * 90 + b"7"), b"\xff\n"])
appends = st.tuples(
    st.just("append"),
    gaps,
    st.lists(frames, min_size=1, max_size=5),
    st.sampled_from([0, 0, 1]),
    st.sampled_from([Stream.LIVE, Stream.LIVE, Stream.REST]),
)
notes = st.tuples(st.just("note"), gaps, st.sampled_from([b"gap", b"stale"]))
steps = st.one_of(
    appends, appends, notes, st.tuples(st.sampled_from(["sync", "sync", "restart", "check"]))
)


async def drive(root, compression, doing):
    rig = Rig(root, compression)
    await rig.open()
    try:
        for step in doing:
            match step:
                case ("append", *rest):
                    rig.append(*rest)
                case ("note", *rest):
                    rig.note(*rest)
                case ("sync",):
                    await rig.storage.sync()
                case ("restart",):
                    await rig.storage.aclose()
                    await rig.check()
                    await rig.open()
                case ("check",):
                    await rig.check()
        await rig.check()
    finally:
        await rig.storage.aclose()
    await rig.check()


@pytest.mark.parametrize("compression", ["none", "zstd", "gzip"])
@settings(deadline=None, max_examples=60)
@given(doing=st.lists(steps, max_size=14))
def test_storage_archive_and_files_tell_the_same_frames(compression, doing):
    with tempfile.TemporaryDirectory() as folder:
        anyio.run(drive, Path(folder) / "archive", compression, doing)
