"""Every point at which a crash may cut a file off, and real kills."""

from __future__ import annotations

import errno
import os
import random
import subprocess
import sys
import time

import anyio
import pytest

from ssmd_core.clock import iso
from ssmd_core.errors import StorageUnusable
from ssmd_core.records import Batch
from ssmd_sink_file.lines.layout import Layout
from ssmd_sink_file.lines.parser import LineParser
from ssmd_sink_file.lines.writer import LineWriter
from ssmd_sink_file.local.recovery import recover

NOON = 1_795_348_800_000_000_000
DAYS = ("2026-11-21", "2026-11-22")
FILES = ("kalshi.jsonl", "kalshi.rest.jsonl", "kalshi.coverage.jsonl")


def content(name):
    """The file of a stream, of some appends."""
    if name == "kalshi.coverage.jsonl":
        return b"".join(b'{"ts":"%b","event":"gap"}\n' % iso(NOON + n).encode() for n in range(3))
    writer = LineWriter("kalshi")
    batches = [
        Batch(NOON, [b'{"a":1}', b"[]"]),
        Batch(NOON + 5, [b"\xff"], raw=frozenset({0})),
        Batch(NOON + 9, [b'{"b":[1,\n2]}'], conn=1),
    ]
    return b"".join(part.data for batch in batches for part in writer.parts(batch))


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("day", DAYS)
def test_a_crash_at_any_byte_costs_at_most_the_line_being_written(tmp_path, name, day):
    whole = content(name)
    for made in DAYS:
        (tmp_path / made).mkdir()
        (tmp_path / made / FILES[FILES.index(name) - 1]).touch()
    path, torn = tmp_path / day / name, tmp_path / day / "kalshi.torn"
    untouched = tmp_path / DAYS[1] / "kalshi.torn.jsonl"
    untouched.write_bytes(b"foreign")
    for size in range(len(whole) + 1):
        path.write_bytes(whole[:size])
        torn.unlink(missing_ok=True)
        mended = []
        found = recover(
            tmp_path,
            Layout("kalshi"),
            on_torn=lambda path, count, mended=mended: mended.append((path, count)),
            warn=pytest.fail,
        )
        kept, _, partial = whole[:size].rpartition(b"\n")
        kept += b"\n" if kept else b""
        assert path.read_bytes() == kept
        assert mended == ([(path, len(partial))] if partial else [])
        assert (torn.read_bytes() if torn.exists() else b"") == (
            partial + b"\n" if partial else b""
        )
        assert (found.last_ts > 0) == (b"\n" in kept)
        assert (
            recover(tmp_path, Layout("kalshi"), on_torn=pytest.fail, warn=pytest.fail) == found
        ), "a second start finds nothing to mend"
    assert untouched.read_bytes() == b"foreign"


@pytest.mark.parametrize("refusal", [errno.EACCES, errno.EROFS])
@pytest.mark.parametrize("step", ["open", "ftruncate"])
def test_a_torn_file_that_we_may_not_write_to_is_unusable(tmp_path, monkeypatch, refusal, step):
    (tmp_path / DAYS[1]).mkdir()
    (tmp_path / DAYS[1] / "kalshi.jsonl").write_bytes(b"{")

    def refuse(*_args):
        raise OSError(refusal, os.strerror(refusal))

    monkeypatch.setattr(os, step, refuse)
    with pytest.raises(StorageUnusable, match=rf"kalshi\.jsonl: {errno.errorcode[refusal]}.*uid"):
        recover(tmp_path, Layout("kalshi"), on_torn=pytest.fail, warn=pytest.fail)


WRITER = """
import random, sys, anyio
from ssmd_core.metrics import Metrics
from ssmd_core.records import Batch
from ssmd_core.sink import StorageContext
from ssmd_sink_file.config import LocalConfig
from ssmd_sink_file.local.sink import LocalStorage

async def main(path):
    context = StorageContext(feed="kalshi", environment="t", metrics=Metrics(),
                             report=lambda event, **fields: None, environ={}, warn=str)
    config = LocalConfig(path=path, compression=sys.argv[2], part_bytes=1_000_000)
    storage = LocalStorage(context, config)
    ts = await storage.open() or 1_795_348_800_000_000_000
    print("open", flush=True)
    while True:
        frames = [b'"%s"' % (b"x" * random.randrange(200_000)) for _ in range(5)]
        storage.append(Batch(ts + 1, frames))
        ts += len(frames)
        print(ts, flush=True)
        await storage.sync()

anyio.run(main, sys.argv[1])
"""


def kill_a_writer(root, seconds, compression="none"):
    """Let a writer run for ``seconds`` from its first append on; return the last ts it told."""
    with subprocess.Popen(
        [sys.executable, "-c", WRITER, root, compression], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout.readline() == "open\n"
        told = process.stdout.readline()
        time.sleep(seconds)  # the instant of the kill is the input of the test
        process.kill()
        return int((told + process.stdout.read()).rpartition("\n")[0].rpartition("\n")[2])


@pytest.mark.anyio
async def test_a_writer_killed_at_any_instant_leaves_whole_lines_and_loses_none(root, make, told):
    parser, rng, kills = LineParser("kalshi"), random.Random(7), 6
    for _ in range(kills):
        acknowledged = await anyio.to_thread.run_sync(kill_a_writer, root, rng.uniform(0, 0.06))
        storage = make(lock_seconds=10.0)
        last_ts = await storage.open()
        await storage.aclose()
        assert last_ts >= acknowledged
    (path,) = root.glob("*/kalshi.jsonl")
    lines = path.read_bytes().split(b"\n")
    assert lines.pop() == b""
    assert [parser.parse(line).ts for line in lines] == list(range(NOON + 1, last_ts + 1))
    assert told.metrics.torn_tails <= kills
    torn = path.with_name("kalshi.torn")
    torn_lines = torn.read_bytes().count(b"\n") if torn.exists() else 0
    assert torn_lines == told.metrics.torn_tails


@pytest.mark.anyio
@pytest.mark.parametrize("compression", ["zstd", "gzip"])
async def test_a_writer_killed_while_parts_close_loses_no_line_and_doubles_none(
    root, make, told, compression
):
    rng, end = random.Random(8), {"zstd": ".zst", "gzip": ".gz"}[compression]
    for number in range(6):
        acknowledged = await anyio.to_thread.run_sync(
            kill_a_writer, root, rng.uniform(0, 0.2), compression
        )
        if number % 2:
            continue  # the next writer finds what this one left
        storage = make(lock_seconds=10.0, compression=compression)
        last_ts = await storage.open()
        assert last_ts >= acknowledged
        expected = NOON + 1
        async for batch in storage.read(0, 1 << 62):
            assert batch.first_ts == expected
            expected = batch.last_ts + 1
        assert expected == last_ts + 1
        await storage.aclose()
        assert [path.suffix for path in root.glob("*/kalshi.jsonl*")] == [end]


@pytest.mark.anyio
async def test_a_torn_tail_is_counted_told_and_never_glued_to_what_follows(
    archive, root, told, batch
):
    async with archive() as storage:
        storage.append(batch(b"1"))
    path = root / DAYS[1] / "kalshi.jsonl"
    with path.open("ab") as file:
        file.write(b'{"ts":"2026-11-22T12')
    async with archive() as storage:
        storage.append(batch(b"2", at=1))
        assert [b async for b in storage.read(0, 1 << 62)] == [batch(b"1", b"2")]
    assert (root / DAYS[1] / "kalshi.torn").read_bytes() == b'{"ts":"2026-11-22T12\n'
    assert told.metrics.torn_tails == 1
    assert "partial line of 20 bytes" in told.warnings[0]
