import json

import pytest

from ssmd_core.errors import StorageFailed
from ssmd_core.pipeline import ledger as ledger_module
from ssmd_core.testing.fakes import WindowTransport

pytestmark = pytest.mark.anyio


async def test_frames_wait_in_memory_while_the_archive_refuses_and_go_first_after(rig, storage):
    rig = rig(storage, WindowTransport())
    rig.deliver(b"1")
    storage.failing = "ENOSPC"
    rig.deliver(b"2")
    storage.failing = ""
    rig.deliver(b"3")
    assert storage.frames == [b"1"]
    assert rig.pipeline.archiver.failing == "ENOSPC"
    rig.pipeline.archiver.retry()
    assert storage.frames == [b"1", b"2", b"3"]
    assert rig.trades() == [b"1", b"2", b"3"]
    assert [e["event"] for e in rig.events()] == ["sink_failed", "sink_recovered"]
    assert rig.pipeline.lost == 0
    assert rig.missed == []


async def test_an_archive_that_is_back_is_told_which_sessions_are_open(rig, storage, monkeypatch):
    rig = rig(storage)
    storage.failing = "the directory is gone"
    rig.deliver(b"1")
    rig.pipeline.archiver.retry()
    assert rig.carried == []
    storage.failing = ""
    rig.pipeline.archiver.retry()
    assert len(rig.carried) == 1
    with monkeypatch.context() as patch:
        patch.setattr(storage, "sync", lambda: 1 / 0)
        await rig.pipeline.durability.sync()
    await rig.pipeline.durability.sync()
    assert len(rig.carried) == 2


async def test_frames_that_are_gone_from_the_archive_are_declared_and_counted_as_lost(rig, storage):
    rig = rig(storage, WindowTransport())
    batch = rig.deliver(b"1")
    rig.pipeline.archiver.lose(1, batch.first_ts, batch.last_ts, "somebody removed the file")
    (dropped,) = [e for e in rig.events() if e["event"] == "dropped"]
    assert (dropped["sink"], dropped["frames"]) == ("storage", 1)
    assert dropped["from_ts"] == dropped["to_ts"]
    assert dropped["reason"] == "somebody removed the file"
    assert rig.pipeline.lost == 1
    assert rig.metrics.dropped == {"archive_removed": 1}
    assert rig.missed == [(batch.first_ts, batch.last_ts)]


async def test_past_the_bound_the_oldest_frames_are_dropped_and_declared(rig, storage):
    rig = rig(storage)
    rig.pipeline.archiver._limit = 3 * (1000 + 64)
    storage.failing = "ENOSPC"
    batches = [rig.deliver(b"%d" % n * 1000) for n in range(6)]
    storage.failing = ""
    rig.pipeline.archiver.retry()
    assert storage.frames == [b"%d" % n * 1000 for n in (3, 4, 5)]
    assert rig.pipeline.lost == 3
    assert rig.metrics.dropped == {"archive_failed": 3}
    (dropped,) = [e for e in rig.events() if e["event"] == "dropped"]
    assert dropped["frames"] == 3
    assert dropped["from_ts"] < dropped["to_ts"]
    assert batches[0].first_ts < batches[3].first_ts
    assert rig.missed == [(batches[0].first_ts, batches[2].last_ts)]


async def test_frames_that_were_dropped_are_declared_before_all_that_waits_is_archived(
    rig, storage, monkeypatch
):
    rig = rig(storage)
    rig.pipeline.archiver._limit = 2 * (1000 + 64)
    storage.failing = "ENOSPC"
    for n in range(4):
        rig.deliver(b"%d" % n * 1000)
    storage.failing = ""
    append = storage.append

    def filling(batch):
        append(batch)
        storage.failing = "ENOSPC"

    monkeypatch.setattr(storage, "append", filling)
    rig.pipeline.archiver.retry()
    assert rig.pipeline.archiver.held == 1
    assert len(rig.missed) == 1
    storage.failing = ""
    rig.pipeline.ledger.flush()
    assert [e["event"] for e in rig.events()] == ["sink_failed", "dropped"]


async def test_a_spell_of_failing_syncs_stands_in_the_ledger_once(rig, storage, monkeypatch):
    rig = rig(storage)

    async def refuse():
        raise StorageFailed("EIO")

    await rig.pipeline.durability.sync()
    with monkeypatch.context() as patch:
        patch.setattr(storage, "sync", refuse)
        for _ in range(5):
            await rig.pipeline.durability.sync()
    await rig.pipeline.durability.sync()
    await rig.pipeline.durability.sync()
    assert [e["event"] for e in rig.events()] == ["sink_failed", "sink_recovered"]


async def test_ledger_lines_wait_for_space_too(rig, storage):
    rig = rig(storage)
    storage.failing = "ENOSPC"
    rig.pipeline.report("gap", session="s", conn=0, channel="trade", first=1, last=2)
    assert storage.notes_kept == []
    storage.failing = ""
    rig.pipeline.ledger.flush()
    (event,) = rig.events()
    assert list(event)[:4] == ["ts", "session", "conn", "event"]
    assert event["event"] == "gap"


async def test_ledger_lines_that_do_not_fit_in_memory_are_counted_in_the_ledger(
    rig, storage, monkeypatch
):
    monkeypatch.setattr(ledger_module, "_MAX_HELD", 3)
    rig = rig(storage)
    ledger = rig.pipeline.ledger
    storage.failing = "no space"
    for code in range(5):
        ledger.write("refused", code=code)
    storage.failing = ""
    ledger.flush()
    told = rig.events()
    assert [line["event"] for line in told] == ["refused"] * 3 + ["dropped"]
    assert (told[-1]["sink"], told[-1]["lines"]) == ("ledger", 2)
    assert told[-1]["from_ts"] <= told[-1]["to_ts"] < told[0]["ts"]


@pytest.mark.parametrize("reason", ["\ud800", object()])
async def test_a_ledger_line_of_odd_values_is_written_all_the_same(rig, storage, reason):
    rig = rig(storage)
    rig.pipeline.ledger.write("refused", reason=reason)
    line = storage.notes_kept[-1][1]
    assert line.startswith(b'{"ts":"2')  # as it is looked for when the ledger is read back
    assert json.loads(line)["reason"] == str(reason)


async def test_what_still_waits_at_the_end_is_lost_and_said_so(rig, storage):
    rig = rig(storage)
    storage.failing = "EIO"
    rig.deliver(b"1", b"2")
    assert await rig.pipeline.finish() == 2


async def test_what_the_stop_gave_up_is_told_apart_from_what_memory_could_not_hold(
    rig, storage, monkeypatch
):
    rig = rig(storage)
    rig.pipeline.archiver._limit = 2 * (1000 + 64)
    monkeypatch.setattr(storage, "append", lambda batch: 1 / 0)
    for n in range(5):
        rig.deliver(b"%d" % n * 1000)
    assert await rig.pipeline.finish() == 5
    told = [e for e in rig.events() if e["event"] == "dropped"]
    assert [e["frames"] for e in told] == [3, 2]
    assert "longer than memory holds" in told[0]["reason"]
    assert "until the stop" in told[1]["reason"]
    assert told[0]["to_ts"] < told[1]["from_ts"]


async def test_a_storage_that_breaks_its_word_costs_no_frame(rig, storage, monkeypatch):
    rig = rig(storage)
    monkeypatch.setattr(storage, "append", lambda batch: 1 / 0)
    rig.deliver(b"1")
    monkeypatch.undo()
    rig.pipeline.archiver.retry()
    assert storage.frames == [b"1"]
