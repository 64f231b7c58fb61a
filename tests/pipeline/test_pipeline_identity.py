"""The id of a connector: made once, kept beside the archive, and looked up where that is lost."""

import msgspec
import pytest

from ssmd_core.clock import NS
from ssmd_core.pipeline.identity import connector_id, new_id

pytestmark = pytest.mark.anyio

NOON = 1_795_348_800 * NS
DAY = 86_400 * NS
OURS, THEIRS = "c0ffee00c0ffee00", "0ddba11"


def told(storage, ts, event, **fields):
    storage.note(ts, msgspec.json.encode({"event": event, **fields}))


def test_ids_are_nobody_elses():
    assert len({new_id() for _ in range(100)}) == 100


async def test_an_id_is_made_at_the_first_start_and_kept(storage):
    made = await connector_id(storage, 0)
    assert storage.values["connector"] == made.encode() + b"\n"
    assert await connector_id(storage, NOON) == made


async def test_an_id_that_is_kept_wins_over_what_the_ledger_says(storage):
    told(storage, NOON, "session_opened", connector=THEIRS)
    storage.values["connector"] = OURS.encode()
    assert await connector_id(storage, NOON) == OURS


@pytest.mark.parametrize("damage", [None, b"", b"\n", b"\x00" * 17, b"two words", b"\xff\xfe"])
@pytest.mark.parametrize("event", ["session_opened", "session_carried"])
async def test_an_id_that_is_lost_is_found_in_the_ledger_and_kept_again(storage, damage, event):
    told(storage, NOON - DAY, event, connector=THEIRS)
    told(storage, NOON - 3, event, connector=OURS)
    told(storage, NOON - 2, "gap", connector=THEIRS)
    told(storage, NOON - 1, event, connector="not an id")
    storage.note(NOON, b"no line of a ledger")
    if damage is not None:
        storage.values["connector"] = damage
    assert await connector_id(storage, NOON) == OURS
    assert storage.values["connector"] == OURS.encode() + b"\n"


async def test_the_day_before_is_asked_where_the_last_one_names_none(storage):
    told(storage, NOON - DAY, "session_opened", connector=OURS)
    told(storage, NOON, "gap")
    assert await connector_id(storage, NOON) == OURS


@pytest.mark.parametrize("line", [b"[]", b'{"event":"session_opened"}', b"\xff", b'"text"'])
async def test_a_damaged_id_that_no_ledger_names_is_made_anew(storage, line):
    storage.note(NOON, line)
    storage.values["connector"] = b"\x00"
    made = await connector_id(storage, NOON)
    assert made.isalnum()
    assert storage.values["connector"] == made.encode() + b"\n"


async def test_a_ledger_that_cannot_be_read_leaves_a_new_id(storage):
    def fail(after, upto):
        raise OSError("damaged disk")

    storage.notes = fail
    assert (await connector_id(storage, NOON)).isalnum()


async def test_an_id_that_cannot_be_kept_is_used_all_the_same(storage):
    storage.failing = "ENOSPC"
    assert (await connector_id(storage, 0)).isalnum()
