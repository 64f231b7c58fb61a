"""Files hold what they held when they were finished, in order, each day its own."""

from ssmd_core.errors import StorageFailed
from ssmd_core.records import Batch
from ssmd_core.sink.archive import ArchiveFile, Content, Damaged

DAY, NEXT, LATER = "2026-11-22", "2026-11-23", "2026-11-24"
FILE = f"{DAY}/plain.jsonl"


def two_days(capture, digest, **said):
    capture.open()
    capture.frames({}, {}, {})
    capture.until(NEXT)
    capture.carry()
    fields = {"file": FILE, "lines": 3, "bytes": 100, "sha256": digest.sha256} | said
    capture.note("rotated", **fields)
    capture.frames({})
    capture.close()
    capture.archive.digests[FILE] = digest


def test_a_finished_file_that_did_not_change_is_no_finding(capture, audit, digest):
    two_days(capture, digest)
    assert list(audit(capture).findings) == []


def test_a_finished_file_that_changed_is_a_fault(capture, audit, digest):
    for field, value in (("lines", 4), ("bytes", 99), ("sha256", "cd" * 32)):
        two_days(capture, digest, **{field: value})
        outcome = audit(capture)
        assert outcome.faults == ["digest_differs"]
        assert FILE in outcome.text("digest_differs")
        capture.__init__()


def test_the_last_word_on_a_file_counts(capture, audit, digest):
    two_days(capture, digest, lines=1)
    capture.note("rotated", file=FILE, lines=3, bytes=100, sha256=digest.sha256)
    assert audit(capture).faults == []


def test_a_day_alone_is_compared_with_what_the_next_day_says_of_it(capture, audit, digest):
    two_days(capture, digest, lines=4)
    assert audit(capture, date=DAY).faults == ["digest_differs"]
    assert audit(capture, date=NEXT).faults == []


def test_a_file_that_is_gone_while_its_day_is_there_is_a_fault(capture, audit, digest):
    two_days(capture, digest)
    del capture.archive.listed[FILE]
    assert "file_missing" in audit(capture).faults


def test_a_day_that_is_gone_in_the_middle_is_a_fault(capture, audit, digest):
    two_days(capture, digest)
    capture.note("rotated", file=f"{LATER}/plain.jsonl", lines=1, bytes=1, sha256="")
    assert audit(capture).faults == ["file_missing"]


def test_a_day_before_all_that_is_here_is_gone_and_no_fault(capture, audit, digest):
    two_days(capture, digest, file="2026-11-01/plain.jsonl")
    outcome = audit(capture)
    assert (outcome.faults, outcome.notes) == ([], ["file_expired"])


def test_a_day_that_retention_removed_is_no_fault(capture, audit, digest):
    two_days(capture, digest)
    capture.note("rotated", file=f"{LATER}/plain.jsonl", lines=1, bytes=1, sha256="")
    capture.note("expired", day=LATER, files=1, bytes=1, reason="keep_days")
    outcome = audit(capture)
    assert outcome.faults == []
    assert "retention removed its day" in outcome.text("file_expired")


def test_a_file_that_was_compressed_since_is_compared_by_its_lines(capture, audit, digest):
    two_days(capture, digest)
    packed = f"{FILE}.zst"
    capture.archive.listed[packed] = ArchiveFile(
        name=packed, feed="plain", day=DAY, content=Content.LIVE
    )
    capture.archive.held[packed] = capture.archive.held[FILE]
    del capture.archive.listed[FILE]
    capture.archive.digests[packed] = digest._replace(bytes=7, sha256="")
    assert audit(capture).faults == []
    capture.archive.digests[packed] = digest._replace(lines=2)
    assert audit(capture).faults == ["digest_differs"]


def test_a_file_that_cannot_be_read_is_a_fault(capture, audit, digest):
    two_days(capture, digest)

    def fail(file):
        raise StorageFailed(f"{file.name}: EIO")

    capture.archive.digest = fail
    outcome = audit(capture)
    assert outcome.faults == ["unreadable"]
    assert "EIO" in outcome.text("unreadable")


def test_frames_that_cannot_be_read_on_are_a_fault_and_the_rest_is_judged(capture, audit):
    capture.open()
    capture.frames({})
    capture.close()
    held = capture.archive.frames

    def frames(file):
        yield from held(file)
        raise StorageFailed("the disk is gone")

    capture.archive.frames = frames
    assert audit(capture).faults == ["unreadable"]


def test_damaged_lines_inside_are_a_fault(capture, audit):
    capture.open()
    capture.frames({})
    capture.archive.put("plain", DAY, Content.LIVE, Damaged(FILE, 2, 1, "not ours"))
    capture.archive.put("plain", DAY, Content.LIVE, Damaged(FILE, 3, 4, "zeros"))
    capture.close()
    outcome = audit(capture)
    assert outcome.faults == ["damaged", "damaged"]
    assert [each.text for each in outcome.findings] == [
        f"{FILE}: line 2: not ours",
        f"{FILE}: 4 lines from 3: zeros",
    ]


def test_damaged_lines_of_the_ledger_are_a_fault(capture, audit):
    capture.open()
    name = f"{DAY}/plain.coverage.jsonl"
    capture.archive.put("plain", DAY, Content.LEDGER, Damaged(name, 2, 1, "torn"))
    capture.archive.put("plain", DAY, Content.LEDGER, (capture.wait(), b'{"no":"event"}'))
    capture.close()
    assert audit(capture).faults == ["damaged", "damaged"]


def test_a_frame_that_is_not_later_than_the_one_before_is_a_fault(capture, audit):
    capture.open()
    ts = capture.frames({}, {})
    capture.received["s1"] += 2
    capture.archive.put("plain", DAY, Content.LIVE, Batch(ts, [b"{}"]))
    capture.archive.put("plain", DAY, Content.LIVE, Batch(ts + 1, [b"{}"]))
    capture.close()
    assert audit(capture).faults == ["out_of_order"]


def test_order_holds_from_one_file_to_the_next(capture, audit):
    capture.open()
    capture.until(NEXT)
    ts = capture.frames({}, day=DAY)
    capture.received["s1"] += 1
    capture.archive.put("plain", NEXT, Content.LIVE, Batch(ts, [b"{}"]))
    capture.close()
    assert sorted(audit(capture).faults) == ["out_of_order", "wrong_day"]


def test_a_frame_in_another_days_file_is_a_fault(capture, audit):
    capture.open()
    capture.until(NEXT)
    capture.frames({}, day=DAY)
    capture.close()
    outcome = audit(capture)
    assert outcome.faults == ["wrong_day"]
    assert "another day's file" in outcome.text("wrong_day")


def test_a_batch_that_reaches_over_midnight_is_in_the_wrong_file(capture, audit):
    capture.open()
    capture.until(NEXT)
    capture.now -= 10**9 + 1
    capture.frames({}, {}, day=DAY)
    capture.close()
    assert audit(capture).faults == ["wrong_day"]


def test_ledger_lines_have_an_order_and_a_day_too(capture, audit):
    capture.open()
    capture.close()
    capture.until(NEXT)
    capture.note("paused", into=DAY)
    capture.now -= 3 * 10**9
    capture.note("resumed", into=DAY)
    outcome = audit(capture, upto=capture.now + 10**15)
    assert sorted(outcome.faults) == ["out_of_order", "wrong_day"]


def test_of_many_findings_of_a_kind_all_are_counted_and_some_kept(capture, audit):
    capture.open()
    for line in range(60):
        capture.archive.put("plain", DAY, Content.LIVE, Damaged(FILE, line, 1, "not ours"))
    capture.close()
    outcome = audit(capture)
    assert outcome.findings.unexplained() == 60
    assert len(outcome.faults) == 50
    assert outcome.findings.omitted == 10
