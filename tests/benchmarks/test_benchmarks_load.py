from __future__ import annotations

import itertools
import json
import statistics

import pytest

from benchmarks.load import Load, LoadSpec
from ssmd_kalshi.messages import parse

FRAMES = 20_000


@pytest.fixture(scope="module")
def load():
    return Load(LoadSpec(FRAMES))


@pytest.fixture(scope="module")
def messages(load):
    return [json.loads(frame) for frame in load.first(FRAMES)]


def test_the_mix_is_eighty_fifteen_five(messages):
    kinds = [message["type"] for message in messages]
    shares = [kinds.count(kind) / FRAMES for kind in ("ticker", "trade", "orderbook_delta")]
    assert shares == pytest.approx([0.80, 0.15, 0.05], abs=0.01)


def test_the_mean_frame_has_about_380_bytes(load):
    assert statistics.mean(map(len, load.first(FRAMES))) == pytest.approx(380, abs=15)


def test_sequence_numbers_grow_by_one_in_each_channel(messages):
    for sid in (2, 3):
        seqs = [message["seq"] for message in messages if message["sid"] == sid]
        assert seqs == list(range(1, len(seqs) + 1))


def test_no_trade_id_comes_twice(messages):
    ids = [message["msg"]["trade_id"] for message in messages if message["type"] == "trade"]
    assert len(set(ids)) == len(ids)


def test_the_feed_reads_every_frame_without_fault(load):
    assert {parse(frame).fault for frame in load.first(FRAMES)} == {""}


def test_what_goes_out_is_all_but_the_books(load, messages):
    wanted = [n for n, message in enumerate(messages) if message["type"] != "orderbook_delta"]
    assert list(load.published(FRAMES)) == wanted


@pytest.mark.parametrize("size", [200, 1_024, 65_536])
def test_a_frame_of_a_given_size_has_that_size(size):
    sizes = {len(frame) for frame in Load(LoadSpec(200, frame_bytes=size)).first(200)}
    assert sizes == {size}


def test_a_load_too_long_to_keep_is_the_same_load(load, monkeypatch):
    monkeypatch.setattr("benchmarks.load._MOST_KEPT", 0)
    made = Load(LoadSpec(FRAMES))
    pairs = itertools.islice(zip(made.first(FRAMES), load.first(FRAMES), strict=True), 5_000)
    # The times differ, the rest does not.
    assert all(len(one) == len(other) for one, other in pairs)
