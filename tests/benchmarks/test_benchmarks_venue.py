from __future__ import annotations

import multiprocessing
import threading

import pytest
from websockets.sync.client import connect

from benchmarks.contenders.common import SUBSCRIBE
from benchmarks.load import Load, LoadSpec
from benchmarks.venue import PATH, Go, Open, Pace, serve

SPEC = LoadSpec(600)


@pytest.fixture
def control():
    ours, theirs = multiprocessing.Pipe()
    venue = threading.Thread(target=serve, args=(theirs,), daemon=True)
    venue.start()
    yield ours
    ours.send(None)
    ours.close()
    venue.join(10)
    theirs.close()


@pytest.fixture
def client(control):
    control.send(Open(SPEC))
    with connect(f"ws://127.0.0.1:{control.recv()}{PATH}", compression=None) as client:
        client.send(SUBSCRIBE)
        replies = [client.recv(10) for _ in range(2)]
        assert all('"subscribed"' in reply for reply in replies)
        yield client


@pytest.mark.parametrize("pace", [Pace(), Pace(5_000), Pace(5_000, bursts=True)], ids=str)
def test_the_venue_sends_every_frame_in_order(control, client, pace):
    control.send(Go(600, pace))
    got = [client.recv(10) for _ in range(600)]
    sent = control.recv()
    kinds = [frame.partition(",")[0] for frame in got]
    assert kinds == [frame.decode().partition(",")[0] for frame in Load(SPEC).first(600)]
    assert sent.frames == 600


def test_a_paced_run_says_when_each_frame_was_sent(control, client):
    control.send(Go(600, Pace(5_000)))
    got = [client.recv(10) for _ in range(600)]
    sent = control.recv()
    assert len(sent.sent_ns) == len(got)
    assert list(sent.sent_ns) == sorted(sent.sent_ns)
    # 600 frames at 5,000 a second are never sent faster than that.
    assert sent.sent_ns[-1] - sent.sent_ns[0] >= 599 * 200_000 - 20_000_000


def test_the_venue_answers_a_ping(control, client):
    assert client.ping().wait(10)


def test_a_watched_file_is_seen_to_grow(control, client, tmp_path):
    file = tmp_path / "kalshi.jsonl"
    file.write_bytes(b"before\n")
    control.send(Go(600, Pace(5_000), watch=file))
    for _ in range(600):
        client.recv(10)
    with file.open("ab") as appended:
        appended.write(b"after\n")
    assert control.recv().grown_bytes[0] == len(b"before\n")
