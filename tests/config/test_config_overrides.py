import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import AliasChoices, BaseModel, Field

from ssmd_core.config.overrides import leaves, merge, read_overrides
from ssmd_core.errors import ConfigError


class Tls(BaseModel):
    model_config = {"extra": "forbid"}
    ca: str | None = None
    verify: bool = True


class Bus(BaseModel):
    model_config = {"extra": "forbid"}
    url: str | list[str] = ""
    password: str = ""
    window: int = 1
    tls: Tls | None = None
    tags: dict[str, str] = {}
    servers: list[Tls] = []
    stream: str = Field(default="", validation_alias=AliasChoices("stream", "stream_name"))


def merged(data: dict[str, Any], shape: Any = Bus, **environ: str):
    return merge(data, read_overrides(environ, ()), shape)


def test_a_variable_replaces_a_value_and_is_remembered():
    result = merged({"url": "a", "window": 2}, SSMD_URL__="x", SSMD_TLS__CA="/ca.pem")
    assert result.data == {"url": "a", "window": 2, "tls": {"ca": "/ca.pem"}}
    assert result.variables == {("tls", "ca"): "SSMD_TLS__CA"}


def test_the_given_values_are_not_changed():
    data = {"tls": {"ca": "a"}, "servers": [{"ca": "a"}]}
    merged(data, SSMD_TLS__CA="b", SSMD_SERVERS__0__CA="b")
    assert data == {"tls": {"ca": "a"}, "servers": [{"ca": "a"}]}


def test_a_list_is_changed_by_position():
    result = merged({"servers": [{"ca": "a"}, {"ca": "b"}]}, SSMD_SERVERS__1__CA="c")
    assert result.data == {"servers": [{"ca": "a"}, {"ca": "c"}]}


@pytest.mark.parametrize("position", ["2", "-1", "x", "²", ""])
def test_a_position_outside_a_list_matches_nothing(position):
    result = merged({"servers": [{}, {}]}, **{f"SSMD_SERVERS__{position}__CA": "c"})
    assert result.data == {"servers": [{}, {}]}
    assert len(result.unmatched) == 1


def test_a_json_object_is_merged_deeply_and_a_json_list_replaces():
    result = merged(
        {"tls": {"ca": "a", "verify": True}, "servers": [{"ca": "x"}]},
        SSMD_A__B="ignored",
        SSMD_TLS__="ignored",
    )
    assert result.data["tls"] == {"ca": "a", "verify": True}
    result = merge(
        {"outer": {"tls": {"ca": "a", "verify": True}}},
        read_overrides({"SSMD_OUTER__TLS": '{"verify": false}'}, ()),
        dict[str, Bus],
    )
    assert result.data == {"outer": {"tls": {"ca": "a", "verify": False}}}
    result = merge(
        {"outer": {"url": ["a", "b"]}},
        read_overrides({"SSMD_OUTER__URL": '["c"]'}, ()),
        dict[str, Bus],
    )
    assert result.data == {"outer": {"url": ["c"]}}


def test_text_that_only_looks_like_json_stays_text():
    values = {"SSMD_B__PASSWORD": '{"a": 1}', "SSMD_B__URL": "[oops", "SSMD_B__WINDOW": "12"}
    result = merge({}, read_overrides(values, ()), dict[str, Bus])
    assert result.data == {"b": {"password": '{"a": 1}', "url": "[oops", "window": "12"}}


def test_a_variable_uses_the_spelling_that_stands_in_the_file():
    shape = dict[str, Bus]
    overrides = read_overrides({"SSMD_B__STREAM": "x"}, ())
    assert merge({"b": {"stream_name": "y"}}, overrides, shape).data == {"b": {"stream_name": "x"}}
    overrides = read_overrides({"SSMD_B__STREAM_NAME": "x"}, ())
    assert merge({"b": {}}, overrides, shape).data == {"b": {"stream": "x"}}


def test_keys_of_a_free_mapping_keep_the_case_of_the_file():
    overrides = read_overrides({"SSMD_B__TAGS__SITE": "x", "SSMD_B__TAGS__NEW": "y"}, ())
    result = merge({"b": {"tags": {"Site": "a"}}}, overrides, dict[str, Bus])
    assert result.data == {"b": {"tags": {"Site": "x", "new": "y"}}}


def test_the_more_specific_variable_wins_over_a_json_object():
    environ = {"SSMD_TRANSPORT__URL": "b", "SSMD_TRANSPORT": '{"url": "a", "window": 3}'}
    result = merge({}, read_overrides(environ, ("transport",)), dict[str, Bus])
    assert result.data == {"transport": {"url": "b", "window": 3}}


@pytest.mark.parametrize(
    "variable", ["SSMD_LOG", "SSMD_HEALTH_ADDR", "SSMD_TRANSPORT_PORT", "X__Y"]
)
def test_variables_without_the_delimiter_or_prefix_are_no_overrides(variable):
    assert read_overrides({variable: "tcp://10.0.0.1:4222"}, ("transport",)) == ()


def test_a_repr_holds_no_value():
    overrides = read_overrides({"SSMD_B__PASSWORD": "hunter2"}, ())
    assert "hunter2" not in repr(overrides)
    assert "hunter2" not in repr(merge({}, overrides, dict[str, Bus]))


LEAVES = st.text(st.characters(codec="ascii", min_codepoint=32), min_size=1, max_size=8)
KEYS = st.from_regex(r"[a-z][a-z0-9]{0,5}", fullmatch=True)
INNER = st.recursive(
    LEAVES, lambda inner: st.dictionaries(KEYS, inner, min_size=1, max_size=2), max_leaves=4
)
TREES = st.dictionaries(KEYS, INNER, max_size=3)


def leaves_of(tree: Any, path: tuple[str, ...] = ()):
    for key, value in tree.items():
        if isinstance(value, dict):
            yield from leaves_of(value, (*path, key))
        else:
            yield (*path, key), value


def at(tree: Any, path: tuple[str, ...]) -> Any:
    for key in path:
        tree = tree[key]
    return tree


@given(data=TREES, over=TREES)
def test_every_leaf_of_the_variables_arrives_and_no_other_is_touched(data, over):
    """Leaf by leaf: what is overridden has the new value, what is beside it the old."""
    environ = {
        "SSMD_ROOT__" + "__".join(path).upper(): value
        for path, value in leaves_of(over)
        if not value.lstrip().startswith(("[", "{"))
    }
    result = merge({"root": data}, read_overrides(environ, ()), dict[str, Any])
    assert result.unmatched == ()
    written = dict(leaves_of(over))
    for path, value in written.items():
        if not value.lstrip().startswith(("[", "{")):
            assert at(result.data["root"], path) == value
    for path, value in leaves_of(data):
        overlapping = any(path[: len(p)] == p or p[: len(path)] == path for p in written)
        if not overlapping:
            assert at(result.data["root"], path) == value


@given(data=TREES, over=TREES)
def test_a_json_object_means_the_same_as_its_leaves_one_by_one(data, over):
    whole = {"SSMD_ROOT": json.dumps(over)}
    [override] = read_overrides(whole, ("root",))
    result = merge({"root": data}, list(leaves(override)), dict[str, Any])
    single = {"SSMD_ROOT__" + "__".join(path).upper(): v for path, v in leaves_of(over)}
    expected = merge({"root": data}, read_overrides(single, ()), dict[str, Any])
    assert result.data == expected.data


# ── through the files ────────────────────────────────────────────────────────────


def test_values_of_both_files_can_be_overridden(load):
    loaded = load(
        SSMD_NAME="dev",
        SSMD_SCHEMA="trade:v2",
        SSMD_TRANSPORT__TYPE="memory",
        SSMD_STORAGE__STORAGE_TYPE="s3",
        SSMD_FEED__VERSIONS__0__ENDPOINT="wss://other.example/",
        SSMD_FEED__VERSIONS__0__SUPPORTS_TRADES="true",
        SSMD_FEED__STATUS="deprecated",
    )
    assert (loaded.env.name, loaded.env.schema_) == ("dev", "trade:v2")
    assert loaded.env.transport.transport_type == "memory"
    assert loaded.env.storage.storage_type == "s3"
    assert loaded.version.endpoint == "wss://other.example/"
    assert loaded.version.supports == {"supports_trades": True}
    assert loaded.feed.status == "deprecated"
    assert loaded.warnings == ()


def test_both_names_can_be_overridden_together(load):
    loaded = load(SSMD_FEED__NAME="kraken", SSMD_FEED="kraken")
    assert (loaded.feed.name, loaded.env.feed) == ("kraken", "kraken")


def test_a_section_s_variables_reach_its_model(load):
    class Settings(BaseModel):
        channels: list[str]
        depth: int

    loaded = load(
        SSMD_FEED__SETTINGS__CHANNELS='["trade"]',
        SSMD_FEED__SETTINGS__DEPTH="5",
        SSMD_TRANSPORT__URL='["nats://a", "nats://b"]',
    )
    assert loaded.settings.validate(Settings) == Settings(channels=["trade"], depth=5)
    assert loaded.transport.validate(Bus).url == ["nats://a", "nats://b"]


def test_a_section_that_only_variables_give_is_a_local_archive(load, env_text):
    env = env_text.replace("storage:\n  storage_type: local\n", "")
    assert load(env=env).storage is None
    loaded = load(env=env, SSMD_STORAGE__PATH="/data")
    assert loaded.env.storage.storage_type == "local"
    assert loaded.storage.has("path")


@pytest.mark.parametrize(
    ("variable", "hint"),
    [
        ("SSMD_TRANSPRT__URL", "SSMD_TRANSPORT__URL"),
        ("SSMD_FEED__STATU", "SSMD_FEED__STATUS"),
        ("SSMD_FEED__VERSIONS__0__ENDPONT", "SSMD_FEED__VERSIONS__0__ENDPOINT"),
        ("SSMD_FEED__VERSIONS__0__PROTOCOL__MESAGE", "SSMD_FEED__VERSIONS__0__PROTOCOL__MESSAGE"),
        ("SSMD_STORAGES__PATH", "SSMD_STORAGE__PATH"),
    ],
)
def test_a_variable_that_matches_nothing_is_a_warning_with_the_nearest_name(load, variable, hint):
    assert load(**{variable: "x"}).warnings == (
        f"{variable} names no key of the configuration and has no effect; did you mean {hint}?",
    )


def test_a_variable_like_nothing_at_all_is_a_warning_too(load):
    assert load(SSMD_XYZZY__PORT="tcp://10.0.0.1:80").warnings == (
        "SSMD_XYZZY__PORT names no key of the configuration and has no effect",
    )


@pytest.mark.parametrize(
    ("variable", "value", "message"),
    [
        ("SSMD_NAME", "Prod", "SSMD_NAME: `Prod` must begin with"),
        ("SSMD_FEED", "kraken", "SSMD_FEED: is `kraken`, but the feed file's name is `kalshi`"),
        ("SSMD_STORAGE", "/data", "SSMD_STORAGE: must be a mapping of keys to values, not text"),
        ("SSMD_TRANSPORT__TYPE", "", "SSMD_TRANSPORT__TYPE: is empty (transport.transport_type)"),
        (
            "SSMD_FEED__VERSIONS__0__ENDPOINT",
            "http://x",
            "SSMD_FEED__VERSIONS__0__ENDPOINT: must be a wss:// or ws:// URL",
        ),
        (
            "SSMD_FEED__FEED_TYPE",
            "websockt",
            "SSMD_FEED__FEED_TYPE: `websockt` is not known; did you mean `websocket`?",
        ),
        ("SSMD_FEED__VERSIONS", "[]", "SSMD_FEED__VERSIONS: is empty; give at least one version"),
    ],
)
def test_a_fault_that_a_variable_causes_names_the_variable(load, variable, value, message):
    with pytest.raises(ConfigError) as caught:
        load(**{variable: value})
    assert message in str(caught.value)
    assert caught.value.file is None
    assert "yaml" not in str(caught.value)
