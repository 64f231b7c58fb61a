import json

import pytest


def rows(out: str) -> dict[tuple[str, str], dict]:
    return {(row["kind"], row["type"]): row for row in json.loads(out)}


def test_json_lists_everything_installed(world):
    code, out, _ = world.call("plugins", "--json")
    assert code == 0
    found = rows(out)
    assert set(found) >= {
        ("feed", "acme"),
        ("feed", "kalshi"),
        ("transport", "memory"),
        ("transport", "nats"),
        ("storage", "local"),
        ("schema", "trade"),
        ("observer", "acme"),
    }
    assert found["feed", "acme"] == {
        "kind": "feed",
        "type": "acme",
        "distribution": "ssmd-acme",
        "version": "0.3.0",
        "status": "installed",
        "error": None,
    }


def test_the_table_has_a_line_an_entry(world):
    code, out, _ = world.call("plugins")
    assert code == 0
    lines = [line.split() for line in out.splitlines()]
    assert lines[0] == ["kind", "type", "distribution", "version", "status", "error"]
    assert ["feed", "acme", "ssmd-acme", "0.3.0", "installed"] in lines


def test_check_loads_everything_and_finds_nothing_wrong(world):
    code, out, _ = world.call("plugins", "--check", "--json")
    assert {row["status"] for row in rows(out).values()} == {"ok"}
    assert code == 0


def test_check_exits_1_when_one_is_broken_and_shows_the_others_sound(world):
    world.install("bad", {"ssmd.feeds": {"bad": "bad"}}, "raise RuntimeError('broken')")
    code, out, _ = world.call("plugins", "--check", "--json")
    found = rows(out)
    assert code == 1
    assert found["feed", "bad"]["status"] == "broken"
    assert "RuntimeError: broken" in found["feed", "bad"]["error"]
    assert found["feed", "acme"]["status"] == "ok"


def test_what_a_plugin_prints_while_it_is_loaded_is_no_part_of_the_json(world):
    world.install("loud", {"ssmd.feeds": {"loud": "loud"}}, "print('HELLO')")
    _, out, err = world.call("plugins", "--check", "--json")
    assert ("feed", "loud") in rows(out)
    assert "HELLO" in err


def test_a_broken_plugin_that_is_not_named_hurts_no_run(world):
    world.install("bad", {"ssmd.feeds": {"bad": "bad"}}, "raise SystemExit(9)")
    assert world.call("plugins").code == 0
    assert world.call("check", "-f", "feed.yaml", "-e", "env.yaml").code == 0


def test_a_conflict_is_listed_and_is_a_finding_only_of_check(world):
    world.install("acme-pro", {"ssmd.feeds": {"acme": "nowhere"}})
    code, out, _ = world.call("plugins", "--json")
    assert code == 0
    assert [row["status"] for row in json.loads(out) if row["type"] == "acme"] == [
        "conflict",
        "conflict",
        "installed",
    ]
    assert world.call("plugins", "--check").code == 1


def test_show_tells_what_a_plugin_is_and_its_settings(world):
    code, out, _ = world.call("plugins", "show", "ssmd-acme:acme")
    assert code == 0
    assert "feed acme" in out
    assert "ssmd-acme 0.3.0 (ssmd_acme.plugin)" in out
    assert "Acme exchange, trades and quotes" in out
    assert "alpha, api_version 1" in out
    assert "empty: all markets" in out
    assert "observes    ssmd_gap_detected" in out


def test_show_finds_a_distribution_with_all_it_provides(world):
    code, out, _ = world.call("plugins", "show", "ssmd-core")
    assert code == 0
    assert "transport memory" in out
    assert "schema trade" in out


@pytest.mark.parametrize("name", ["acne", "nobody:acme"])
def test_show_of_nothing_exits_2_and_lists_what_there_is(world, name):
    code, _, err = world.call("plugins", "show", name)
    assert code == 2
    assert f"no plugin `{name}` is installed" in err
    assert "acme" in err


def test_show_of_a_broken_plugin_exits_2_with_the_reason(world):
    world.install("bad", {"ssmd.feeds": {"bad": "bad"}}, "raise RuntimeError('broken')")
    code, _, err = world.call("plugins", "show", "bad")
    assert code == 2
    assert "plugin bad 1.0 (bad): cannot be imported: RuntimeError: broken" in err
