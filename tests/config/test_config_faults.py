"""Every fault of the two files: exit 2, with file, line, key, and what is allowed."""

import pytest

from ssmd_core.config import load_files
from ssmd_core.errors import ConfigError


def complaint(load, *args, **kwargs) -> ConfigError:
    with pytest.raises(ConfigError) as caught:
        load(*args, **kwargs)
    assert caught.value.exit_code == 2
    return caught.value


FEED_KEYS = (
    "name, feed_type, versions, plugin, settings, status, display_name, capture_locations, calendar"
)
ENV_KEYS = "name, feed, schema, transport, storage, keys, schedule, cache"

FEED_FAULTS = [
    ("name: kalshi\n", "", "feed.yaml:1: name: is missing"),
    (
        "feed_type: websocket\n",
        "",
        "feed.yaml:1: feed_type: is missing; allowed: websocket, rest, multicast",
    ),
    (
        "feed_type: websocket",
        "feed_type: websockt",
        (
            "feed.yaml:2: feed_type: `websockt` is not known; did you mean `websocket`? "
            "allowed: websocket, rest, multicast"
        ),
    ),
    (
        "feed_type: websocket",
        "type: 7",
        "feed.yaml:2: type: a number is not known; allowed: websocket, rest, multicast",
    ),
    (
        "feed_type: websocket",
        "type: websocket\nfeed_type: websocket",
        "feed.yaml:2: type: is the same key as `feed_type` on line 3; give one of them",
    ),
    (
        "name: kalshi\n",
        "name: kalshi\nfeed_typ: x\n",
        f"feed.yaml:2: feed_typ: unknown key; did you mean `feed_type`? allowed: {FEED_KEYS}",
    ),
    (
        "feed_type: websocket",
        "feed_type: websocket\nfeed_type: rest",
        "feed.yaml:3: feed_type: duplicate key, first on line 2; remove one",
    ),
    (
        "      message: json",
        "      message: jsn",
        (
            "feed.yaml:8: versions[0].protocol.message: `jsn` is not known; did you mean `json`? "
            "allowed: json, itch, fix, sbe, protobuf"
        ),
    ),
    (
        "      transport: websocket",
        "      transport: https",
        (
            "feed.yaml:7: versions[0].protocol.transport: `https` does not carry a websocket feed; "
            "allowed: websocket, wss"
        ),
    ),
    (
        "    endpoint: wss://trading-api.kalshi.com/trade-api/ws/v2",
        "    endpont: wss://trading-api.kalshi.com/trade-api/ws/v2",
        "feed.yaml:4: versions[0].endpoint: is missing",
    ),
    (
        "wss://trading-api.kalshi.com/trade-api/ws/v2",
        "https://trading-api.kalshi.com/",
        "feed.yaml:5: versions[0].endpoint: must be a wss:// or ws:// URL with a host",
    ),
    (
        "wss://trading-api.kalshi.com/trade-api/ws/v2",
        "wss:///path",
        "feed.yaml:5: versions[0].endpoint: must be a wss:// or ws:// URL with a host",
    ),
    (
        "wss://trading-api.kalshi.com/trade-api/ws/v2",
        '"wss://host/a b"',
        (
            "feed.yaml:5: versions[0].endpoint: must be a wss:// or ws:// URL with a host, "
            "without spaces"
        ),
    ),
    (
        "wss://trading-api.kalshi.com/trade-api/ws/v2",
        "wss://host:99999/",
        (
            "feed.yaml:5: versions[0].endpoint: must be a wss:// or ws:// URL with a host: "
            "Port out of range 0-65535"
        ),
    ),
    (
        "    protocol:\n      transport: websocket\n      message: json\n",
        "    protocol: wss\n",
        "feed.yaml:6: versions[0].protocol: must be a mapping of keys to values, not text",
    ),
    (
        '"1.0"',
        "true",
        "feed.yaml:4: versions[0].version: must be text, not true or false",
    ),
    (
        "feed_type: websocket",
        "feed_type: websocket\nstatus: disabled",
        "feed.yaml:3: status: is disabled: this feed must not run; set `active` to run it",
    ),
    (
        "feed_type: websocket",
        "feed_type: websocket\nsettings: 5",
        "feed.yaml:3: settings: must be a mapping of keys to values, not a number",
    ),
    (
        "      message: json\n",
        "      message: json\n    effective_from: 2999-01-01\n",
        (
            "feed.yaml:3: versions: none is in effect on 2026-11-18; "
            "the file has 1.0 from 2999-01-01 to ever"
        ),
    ),
    (
        "      message: json\n",
        "      message: json\n    effective_from: soon\n",
        (
            "feed.yaml:9: versions[0].effective_from: must be a valid date or datetime, "
            "input is too short"
        ),
    ),
    (
        "      message: json\n",
        "      message: json\n    supports_trades: maybe\n",
        (
            "feed.yaml:9: versions[0].supports_trades: must be a valid boolean, "
            "unable to interpret input"
        ),
    ),
    (
        "      message: json\n",
        "      message: json\n    rate_limit_per_second: .nan\n",
        "feed.yaml:9: versions[0].rate_limit_per_second: .nan is not a number to configure with",
    ),
]


@pytest.mark.parametrize(("before", "after", "message"), FEED_FAULTS)
def test_a_fault_of_the_feed_file_is_told_with_its_place(load, feed_text, before, after, message):
    assert before in feed_text
    error = complaint(load, feed_text.replace(before, after))
    assert message in str(error).splitlines()


ENV_FAULTS = [
    ("feed: kalshi\n", "", "env.yaml:1: feed: is missing"),
    ('schema: "trade:v1"\n', "", "env.yaml:1: schema: is missing"),
    (
        'schema: "trade:v1"',
        "schema: trade",
        "env.yaml:3: schema: `trade` must be name:version, such as trade:v1",
    ),
    (
        "name: prod",
        "name: Prod/1",
        (
            "env.yaml:1: name: `Prod/1` must begin with a-z or 0-9 and go on with a-z, 0-9, `_` "
            "and `-`: it becomes a path, a subject and a stream name"
        ),
    ),
    (
        "feed: kalshi",
        "feed: kraken",
        "env.yaml:2: feed: is `kraken`, but the feed file's name is `kalshi`; they must be equal",
    ),
    (
        "transport:",
        "transprt:",
        f"env.yaml:4: transprt: unknown key; did you mean `transport`? allowed: {ENV_KEYS}",
    ),
    ("transport:", "transprt:", "env.yaml:1: transport: is missing"),
    ("  transport_type: nats\n", "", "env.yaml:4: transport.transport_type: is missing"),
    (
        "  transport_type: nats",
        "  transport_type: nats\n  type: nats",
        (
            "env.yaml:6: transport.type: is the same key as `transport_type` on line 5; "
            "give one of them"
        ),
    ),
    (
        "  transport_type: nats",
        "  type: [nats]",
        "env.yaml:5: transport.type: must be text, not a list",
    ),
    ("  storage_type: local", "  path: /data", "env.yaml:7: storage.storage_type: is missing"),
    (
        "  storage_type: local",
        "  storage_type:",
        "env.yaml:8: storage.storage_type: must be text, not empty",
    ),
    (
        "storage:\n  storage_type: local",
        "storage: local",
        "env.yaml:7: storage: must be a mapping of keys to values, not text",
    ),
    (
        "storage:\n",
        "keys: {k: {type: api_key, fields: [a, b], source: 'env:A'}}\nstorage:\n",
        "env.yaml:7: keys.k: `source` names 1 variables for 2 `fields`",
    ),
    (
        "storage:\n",
        "keys: {k: {type: api_key, fields: [a], source: 'vault:A'}}\nstorage:\n",
        "env.yaml:7: keys.k: `source` must be env:VARIABLE or env:A,B, one for each of `fields`",
    ),
]


@pytest.mark.parametrize(("before", "after", "message"), ENV_FAULTS)
def test_a_fault_of_the_environment_file_is_told_with_its_place(
    load, env_text, before, after, message
):
    assert before in env_text
    error = complaint(load, env=env_text.replace(before, after))
    assert message in str(error).splitlines()


@pytest.mark.parametrize(
    "name", ["", "-a", "_a", "A", "a.b", "a/b", "a b", "ä", "a\n", "../x", "a*"]
)
def test_names_that_would_not_make_a_path_and_a_subject_are_refused(load, feed_text, name):
    quoted = name.replace("\n", "\\n")
    text = feed_text.replace("name: kalshi", f'name: "{quoted}"')
    assert complaint(load, text).key == "name"


@pytest.mark.parametrize("name", ["a", "0", "kalshi-2_x", "9-", "a__"])
def test_names_of_the_pattern_load(load, feed_text, env_text, name):
    feed, env = (
        feed_text.replace("name: kalshi", f'name: "{name}"'),
        env_text.replace("feed: kalshi", f'feed: "{name}"'),
    )
    assert load(feed, env).feed.name == name


def test_all_faults_of_both_files_are_told_at_once_in_order_of_lines(load, feed_text, env_text):
    feed = feed_text.replace("message: json", "message: jsn").replace("name: kalshi", "nam: kalshi")
    error = complaint(load, feed, env_text.replace("name: prod", "name: P"))
    lines = str(error).splitlines()
    assert [line.partition(": ")[0] for line in lines] == [
        "feed.yaml:1",
        "feed.yaml:1",
        "feed.yaml:8",
        "env.yaml:1",
    ]
    assert (error.file, error.line, error.key) == ("feed.yaml", 1, "name")


def test_an_unreadable_feed_file_does_not_hide_faults_of_the_environment_file(load, env_text):
    error = complaint(load, "a: [", env_text.replace("schema", "shema"))
    assert "feed.yaml:1: is not YAML" in str(error)
    assert "env.yaml:3: shema: unknown key" in str(error)


def test_missing_files_are_named(tmp_path):
    with pytest.raises(ConfigError) as caught:
        load_files(tmp_path / "a.yaml", tmp_path / "b.yaml", {})
    assert str(caught.value).splitlines() == [
        f"{tmp_path}/a.yaml: no such file",
        f"{tmp_path}/b.yaml: no such file",
    ]


def test_values_never_stand_in_a_message(load, env_text):
    env = env_text.replace("feed: kalshi", "feed: [hunter2]").replace(
        "storage:", "cach: hunter2\nkeys: hunter2\nstorage:"
    )
    assert "hunter2" not in str(complaint(load, env=env))
