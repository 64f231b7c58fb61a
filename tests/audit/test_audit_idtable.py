from hypothesis import given
from hypothesis import strategies as st

from ssmd_core.audit.idtable import IdTable

NAMES = st.integers(0, 60).map("kalshi:trade:{}".format)


@given(st.lists(st.tuples(NAMES, st.sampled_from([1, 2, 4]))))
def test_a_table_remembers_as_a_dictionary_would(steps):
    table, known = IdTable(capacity=4), {}
    for name, flags in steps:
        assert table.add(name, flags) == known.get(name, 0)
        known[name] = known.get(name, 0) | flags
    assert len(table) == len(known)
    assert {name: table.get(name) for name in known} == known
    assert sorted(table.flags()) == sorted(known.values())


def test_an_id_that_was_never_added_has_no_flags():
    table = IdTable()
    table.add("a", 1)
    assert table.get("b") == 0


def test_a_table_grows_and_forgets_nothing():
    table = IdTable(capacity=8)
    for number in range(10_000):
        table.add(f"id{number}", 1)
    assert len(table) == 10_000
    assert all(table.get(f"id{number}") for number in range(10_000))


def test_an_id_costs_at_most_thirty_six_bytes_beyond_a_small_table():
    table = IdTable()
    for number in range(50_000):
        table.add(f"id{number}", 1)
    held = table._slots.itemsize * len(table._slots) + len(table._flags)
    assert held <= 36 * 50_000
