"""What a storage uploaded is what an archive reads back, and what it said of it is true."""

from __future__ import annotations

import os

import pytest

from ssmd_core.records import Stream
from ssmd_core.sink.archive import Content, Digest
from ssmd_sink_file.archive import open_archive

NOON = 1_795_348_800_000_000_000
MIDNIGHT = NOON + 43_200 * 10**9

pytestmark = pytest.mark.anyio


def flat(batches):
    return [
        (batch.first_ts + position, batch.conn, frame, position in batch.raw, batch.stream)
        for batch in batches
        for position, frame in enumerate(batch.frames)
    ]


@pytest.mark.parametrize("compression", ["zstd", "gzip"])
async def test_what_was_uploaded_reads_back(
    s3_archive, bucket, told, batch, ledger_line, compression
):
    given = [
        batch(b'{"n":%d}' % n, b"\xff" * 90, at=at, conn=n % 2, raw=frozenset({1}), stream=stream)
        for n, (at, stream) in enumerate(
            [(0, Stream.LIVE), (2, Stream.REST), (9, Stream.LIVE), (MIDNIGHT - NOON, Stream.LIVE)]
        )
    ]
    config = {"part_bytes": 100, "compression": compression, "prefix": "raw"}
    async with s3_archive(config=config) as storage:
        for one in given:
            storage.append(one)
            storage.note(one.last_ts + 1, ledger_line(one.last_ts + 1 - NOON))
            await storage.sync()
    place = f"s3://{bucket.name}/raw?endpoint_url={bucket.section['endpoint_url']}"
    with open_archive(place, os.environ) as archive:
        assert archive.days("kalshi") == ["2026-11-22", "2026-11-23"]
        files = [file for day in archive.days("kalshi") for file in archive.files("kalshi", day)]
        for content, stream in ((Content.LIVE, Stream.LIVE), (Content.REST, Stream.REST)):
            found = [b for file in files if file.content is content for b in archive.frames(file)]
            assert flat(found) == flat([one for one in given if one.stream is stream])
        ledgers = [file for file in files if file.content is Content.LEDGER]
        noted = [note for file in ledgers for note in archive.notes(file)]
        assert [ts for ts, _ in noted] == [one.last_ts + 1 for one in given]
        said = {
            fields["file"]: Digest(fields["lines"], fields["bytes"], fields["sha256"])
            for event, fields in told.events
            if event == "rotated"
        }
        held = {f.name: archive.digest(f) for f in files if f.content is not Content.LEDGER}
    assert held == said
    assert len(held) == len(given)
