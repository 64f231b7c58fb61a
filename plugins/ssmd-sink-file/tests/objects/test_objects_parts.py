"""What is archived: parts, their names, what stands in them, and when one ends."""

from __future__ import annotations

import hashlib

import pytest

from ssmd_core.records import Stream
from ssmd_core.sink import Health, Mark
from ssmd_core.testing import until
from ssmd_sink_file.layout import LineParser

pytestmark = pytest.mark.anyio

NOON = 1_795_348_800_000_000_000
FOLDER = "date=2026-11-22/feed=kalshi"
DAY_NS = 86_400_000_000_000
EVER = 1 << 62


async def read_all(storage):
    return [batch async for batch in storage.read(0, EVER)]


def frames(bucket, **options):
    parser = LineParser("kalshi")
    return [parser.parse(line).data for line in bucket.lines(**options)]


async def test_what_was_appended_stands_in_the_bucket_after_the_end(
    archive, bucket, batch, ledger_line, spool
):
    async with archive() as storage:
        storage.note(NOON, ledger_line(0))
        storage.append(batch(b'{"a":1}', b"[\n]", at=1))
        storage.append(batch(b"\xff", at=10, raw=frozenset({0})))
        storage.release(EVER)
    part = f"{FOLDER}/{NOON + 1}-{NOON + 10}"
    assert f"{part}.jsonl.zst" in bucket.names()
    assert f"{part}.coverage.jsonl" in bucket.names()
    assert frames(bucket) == [b'{"a":1}', b"[ ]", b"\xff"]
    assert bucket.get(f"{part}.coverage.jsonl") == ledger_line(0) + b"\n"
    assert [path for path in spool.rglob("*.jsonl*") if path.is_file()] == []
