"""What stays in the spool after its upload: all that the next start looks back at, not more."""

from __future__ import annotations

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ssmd_core.clock import NS, day_of
from ssmd_core.testing import until
from ssmd_sink_file.frames.compress import Compression
from ssmd_sink_file.lines.layout import Kind
from ssmd_sink_file.objects import kept as keeping
from ssmd_sink_file.objects.kept import superseded
from ssmd_sink_file.objects.spool import PartName

pytestmark = pytest.mark.anyio

NOON = 1_795_348_800_000_000_000
DAY = "2026-11-22"
DAY_NS = 86_400 * NS
EVER = 1 << 62


async def abandon(storage):
    """Leave a storage as ``kill -9`` would."""
    storage._parts.forget()
    storage._shipping.stop(storage._lock.release)
    await anyio.to_thread.run_sync(storage._shipping.join)


async def leave(storage):
    """Upload what there is, and let go of it."""
    await storage.drain()
    storage.release(EVER)
    await storage.sync()


async def frames(storage):
    return [frame async for item in storage.read(0, EVER) for frame in item.frames]


async def notes(storage, after=0, upto=EVER):
    return [line async for _, line in storage.notes(after, upto)]


# ── which ────────────────────────────────────────────────────────────────────────


def name(kind, first, last):
    return PartName(day_of(first), first, last, kind, Compression.NONE)


NAMES = st.dictionaries(
    st.builds(
        lambda kind, first, length: name(kind, NOON + first, NOON + first + length),
        st.sampled_from(Kind),
        st.integers(0, 5 * DAY_NS) | st.integers(0, 900 * NS),
        st.integers(0, 300 * NS),
    ),
    st.integers(1, 100),
)


@given(NAMES, st.integers(0, 300), st.integers(0, 2))
def test_the_ledger_of_the_last_two_days_and_the_last_frames_stay(names, limit_bytes, least):
    gone = set(superseded(names, limit_bytes, least))
    stay = names.keys() - gone
    newest_ts = max((n.last_ts for n in names), default=0)
    last_days = {day_of(newest_ts), day_of(newest_ts - DAY_NS)} if names else set()
    for each in names:
        if each.kind is Kind.COVERAGE and each.day in last_days:
            assert each in stay
        if each.kind is Kind.COVERAGE and each.day < min(last_days):
            assert each in gone
    live = sorted((n for n in names if n.kind is Kind.LIVE), key=lambda n: n.last_ts)
    assert len([n for n in live if n in stay]) >= min(least, len(live))
    others = [n for n in stay if n.kind is not Kind.COVERAGE and n not in live[-least:]]
    if not least:
        others = [n for n in stay if n.kind is not Kind.COVERAGE]
    assert all(n.last_ts >= newest_ts - 600 * NS for n in others)
    assert sum(names[n] for n in others) <= limit_bytes
    assert superseded({n: names[n] for n in stay}, limit_bytes, least) == []


# ── across starts ────────────────────────────────────────────────────────────────


async def test_uploaded_ledgers_and_the_newest_frames_are_read_back_after_a_crash(
    make, memory, batch, ledger_line, files
):
    first = make()
    await first.open()
    for at in (0, 100, 200):
        first.note(NOON + at, ledger_line(at))
        first.append(batch(b"%d" % at, at=at + 1))
        await leave(first)
    assert files() == []
    await abandon(first)
    objects = {name: memory.get(name) for name in memory.names()}
    second = make()
    assert await second.open() == NOON + 201
    assert await frames(second) == [b"0", b"100", b"200"]
    assert await notes(second) == [ledger_line(at) for at in (0, 100, 200)]
    assert await notes(second, NOON, NOON + 100) == [ledger_line(100)]
    await leave(second)
    assert {name: memory.get(name) for name in memory.names()} == objects, "nothing new"
    assert await frames(second) == [b"0", b"100", b"200"]
    await second.aclose()


async def test_frames_go_when_newer_ones_were_uploaded_and_ledgers_with_their_days(
    archive, batch, ledger_line, kept
):
    async with archive(config={"part_bytes": 300}) as storage:
        for at in range(6):
            storage.append(batch(b'"%d %s"' % (at, b"x" * 300), at=at))
            await leave(storage)
        assert len([n for n in kept() if n.startswith("frames")]) < 6
        assert (await frames(storage))[-1].startswith(b'"5')
        for day in range(4):
            storage.note(NOON + day * DAY_NS + 10, ledger_line(day * DAY_NS + 10))
            await leave(storage)
        days = {name.split("/")[1] for name in kept() if name.startswith("ledger")}
        assert days == {"2026-11-24", "2026-11-25"}
        assert await notes(storage) == [ledger_line(day * DAY_NS + 10) for day in (2, 3)]


async def test_a_ledger_that_the_bus_has_not_got_stays_however_old_it_is(
    make, ledger_line, kept, batch
):
    first = make()
    await first.open()
    first.note(NOON, ledger_line(0))
    await first.aclose()
    assert len(kept()) == 1, "the last words of a run are uploaded and kept, released or not"
    second = make()
    await second.open()
    second.note(NOON + 5 * DAY_NS, ledger_line(5 * DAY_NS))
    await second.drain()
    assert await notes(second) == [ledger_line(0), ledger_line(5 * DAY_NS)]
    await leave(second)
    second.note(NOON + 5 * DAY_NS + 1, ledger_line(5 * DAY_NS + 1))
    await leave(second)
    assert await notes(second) == [ledger_line(5 * DAY_NS), ledger_line(5 * DAY_NS + 1)]
    await second.aclose()


async def test_many_ledgers_of_a_day_become_one_file(
    archive, batch, ledger_line, kept, monkeypatch
):
    monkeypatch.setattr(keeping, "_MOST_LEDGERS", 3)
    async with archive() as storage:
        for at in range(0, 100, 10):
            storage.note(NOON + at, ledger_line(at))
            await leave(storage)
        assert len([n for n in kept() if n.startswith("ledger")]) <= 4
        assert await notes(storage) == [ledger_line(at) for at in range(0, 100, 10)]


async def test_a_crash_while_ledgers_become_one_shows_no_line_twice(
    make, ledger_line, kept, spool, monkeypatch
):
    storage = make()
    await storage.open()
    lines = [ledger_line(at) for at in (0, 10, 20)]
    for at in (0, 10, 20):
        storage.note(NOON + at, ledger_line(at))
        await leave(storage)
    await abandon(storage)
    with monkeypatch.context() as patch:
        patch.setattr(keeping, "_MOST_LEDGERS", 2)
        patch.setattr(keeping.Kept, "_remove", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            storage._shipping._kept.trim(EVER)
    assert len(kept()) == 4, "three, and what they became"
    again = make()
    await again.open()
    assert await notes(again) == lines
    monkeypatch.setattr(keeping, "_MOST_LEDGERS", 2)
    again._shipping._kept.trim(EVER)
    assert len(kept()) == 1
    assert await notes(again) == lines
    await again.aclose()


# ── told once ────────────────────────────────────────────────────────────────────


async def test_a_part_that_waits_over_several_starts_is_reported_once(
    make_s3, bucket, proxy, batch, told, ledger_line, monkeypatch
):
    reported = []
    for number in range(3):
        storage = make_s3(config={"endpoint_url": proxy.url})
        at = iter(range(1000 * (number + 1), 1000 * (number + 2)))

        def report(event, *, storage=storage, at=at, **fields):
            if event == "rotated":
                reported.append(fields["file"])
                moment = next(at)
                line = ledger_line(moment, event)[:-1] + b',"file":"%b"}' % fields["file"].encode()
                storage.note(NOON + moment, line)

        object.__setattr__(storage._context, "report", report)
        await storage.open()
        if not number:
            storage.append(batch(b"1"))
        await proxy.turn("503")
        storage._parts.close_older(0)
        await storage.sync()
        await storage._shipping.made()
        await storage.sync()
        await abandon(storage)
        await proxy.turn("pass")
    assert len(reported) == 1


# ── told at once ─────────────────────────────────────────────────────────────────


async def test_an_upload_that_fails_degrades_at_once(s3_archive, proxy, batch, told):
    async with s3_archive(config={"endpoint_url": proxy.url}) as storage:
        assert storage.degraded() == []
        await proxy.turn("403")
        storage.append(batch(b"1"))
        storage._parts.close_older(0)

        async def strained():
            await storage.sync()
            return storage.degraded()

        await until(strained)
        (reason,) = storage.degraded()
        assert "cannot upload to s3://" in reason
        assert "1 parts (0.0 MB compressed) wait in" in reason
        assert storage.health().ok
        await proxy.turn("pass")

        async def well():
            await storage.sync()
            return not storage.degraded()

        await until(well)


async def test_what_was_set_aside_degrades_until_somebody_takes_it_away(
    archive, memory, batch, spool
):
    memory.put(f"date={DAY}/feed=kalshi/{NOON}-{NOON}.jsonl.zst", b"somebody else's")
    now = [0.0]
    async with archive(monotonic=lambda: now[0]) as storage:
        storage.append(batch(b"1"))
        await leave(storage)
        (reason,) = storage.degraded()
        assert reason.startswith(f"1 files are set aside in {spool / 'kalshi/conflict'}")
        for path in (spool / "kalshi/conflict").glob("*/*"):
            path.unlink()
        now[0] += 20
        await storage.sync()
        assert storage.degraded() == []
