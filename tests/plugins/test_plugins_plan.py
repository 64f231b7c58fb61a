import pytest

from ssmd_core.config import load_files
from ssmd_core.errors import ConfigError, CredentialError, PluginError
from ssmd_core.service.plan import resolve

SINKS = """
from pydantic import BaseModel, ConfigDict
from ssmd_core.plugins import SchemaType, StorageType, TransportType, hookimpl

class Bus(BaseModel):
    model_config = ConfigDict(extra="forbid")
    url: str
    window: int = 1

class Quiet(BaseModel):
    model_config = ConfigDict(extra="forbid")

class Disk(BaseModel):
    model_config = ConfigDict(extra="forbid")
    path: str
    compression: str | None = None

class Tape(BaseModel):
    model_config = ConfigDict(extra="forbid")
    reel: int = 1

@hookimpl
def ssmd_transports():
    yield TransportType(name="bus", api_version=1, config=Bus, open=print)
    yield TransportType(name="quiet", api_version=1, config=Quiet, open=print, publishes=False)

@hookimpl
def ssmd_storages():
    yield StorageType(name="local", api_version=1, config=Disk, open=print)
    yield StorageType(name="tape", api_version=1, config=Tape, open=print)

@hookimpl
def ssmd_schemas():
    yield SchemaType(name="trade", api_version=1, version="v1", open=print)
"""
FEED = """\
name: acme
feed_type: websocket
versions:
  - version: "1.0"
    endpoint: wss://acme.example/stream
    protocol: {transport: websocket, message: json}
    supports_trades: true
"""
BUS = "transport: {transport_type: bus, url: bus://here}\n"
QUIET = "transport: {transport_type: quiet}\n"
HEAD = 'name: prod\nfeed: acme\nschema: "trade:v1"\n'


@pytest.fixture
def world(install, registry, feed_code, tmp_path, monkeypatch):
    """Resolve the texts of a feed file and an environment file against installed plugins."""
    install("ssmd-acme", {"feed:acme": "plan_acme"}, feed_code("acme"), module="plan_acme")
    monkeypatch.chdir(tmp_path)

    def make(env: str, feed: str = FEED, *, sinks: str = "all", **environ: str):
        points = {"transport:bus", "transport:quiet", "schema:trade"}
        if sinks == "all":
            points |= {"storage:local", "storage:tape"}
        install("sinks", dict.fromkeys(points, "plan_sinks"), SINKS, module="plan_sinks")
        (tmp_path / "acme.yaml").write_text(feed)
        (tmp_path / "prod.yaml").write_text(HEAD + env)
        return resolve(load_files("acme.yaml", "prod.yaml", environ), registry(), environ)

    return make


def test_a_plan_names_everything_that_runs(world):
    plan = world(BUS + "storage: {storage_type: local, path: /data}\n")
    assert (plan.name, plan.environment, plan.version) == ("acme", "prod", "1.0")
    assert plan.endpoint == "wss://acme.example/stream"
    assert (plan.feed_type.name, plan.transport_type.name) == ("acme", "bus")
    assert plan.transport_config.url == "bus://here"
    assert plan.storage_config.path == "/data"
    assert (plan.schema_type.name, plan.schema_type.version) == ("trade", "v1")
    assert plan.origins == {
        "feed": "ssmd-acme 1.0 (plan_acme)",
        "transport": "sinks 1.0 (plan_sinks)",
        "storage": "sinks 1.0 (plan_sinks)",
        "schema": "sinks 1.0 (plan_sinks)",
    }


def test_the_feed_is_opened_with_its_context_and_settings(world):
    plan = world(
        QUIET + "keys: {acme: {type: api_key, fields: [key], source: 'env:ACME_KEY'}}\n",
        FEED + "settings: {depth: 9}\n",
        ACME_KEY="hunter2",
    )
    context = plan.feed.context
    assert plan.feed.config.depth == 9
    assert (context.name, context.environment) == ("acme", "prod")
    assert context.endpoint == "wss://acme.example/stream"
    assert context.version["supports_trades"] is True
    assert context.keys == {"key": "ACME_KEY"}
    assert context.environ["ACME_KEY"] == "hunter2"
    assert "hunter2" not in repr(plan)


@pytest.mark.parametrize("storage", ["", "storage:\n", "storage: {storage_type: local}\n"])
def test_a_bus_without_a_place_for_an_archive_archives_nothing(world, storage):
    plan = world(BUS + storage)
    assert plan.storage_type is None
    assert plan.warnings == ()


def test_the_storage_that_is_not_used_need_not_be_installed(world):
    assert world(BUS + "storage: {storage_type: local}\n", sinks="none").storage_type is None


def test_the_storage_that_is_not_used_must_be_known_all_the_same(world):
    with pytest.raises(PluginError, match="storage type `locall`; did you mean `local`"):
        world(BUS + "storage: {storage_type: locall}\n")


def test_storage_settings_without_a_place_are_a_warning_beside_a_bus(world):
    plan = world(BUS + "storage: {storage_type: local, compression: zstd}\n")
    assert plan.storage_type is None
    assert plan.warnings == ("`storage` has neither path nor bucket: nothing is archived",)


def test_a_path_from_a_variable_alone_makes_an_archive(world):
    plan = world(BUS, SSMD_STORAGE__PATH="/data")
    assert plan.storage_config.path == "/data"


def test_an_empty_path_from_a_variable_is_no_place(world):
    plan = world(BUS + "storage: {storage_type: local}\n", SSMD_STORAGE__PATH="")
    assert plan.storage_type is None


@pytest.mark.parametrize("storage", ["", "storage: {storage_type: local}\n"])
def test_without_a_bus_the_archive_goes_to_data_by_default(world, storage):
    plan = world(QUIET + storage)
    assert plan.storage_type.name == "local"
    assert plan.storage_config.path == "./data"
    assert plan.schema_type is None


def test_without_a_bus_other_settings_of_the_archive_are_kept(world):
    plan = world(QUIET + "storage: {storage_type: local, compression: zstd}\n")
    assert (plan.storage_config.path, plan.storage_config.compression) == ("./data", "zstd")


@pytest.mark.parametrize("transport", [BUS, QUIET])
def test_a_storage_that_knows_no_place_runs_as_it_is_configured(world, transport):
    plan = world(transport + "storage: {storage_type: tape, reel: 7}\n")
    assert plan.storage_config.reel == 7


def test_an_unknown_schema_is_a_fault_even_where_nothing_is_published(world):
    with pytest.raises(PluginError, match="unknown schema `trade:v9`; known: trade:v1"):
        world(QUIET, SSMD_SCHEMA="trade:v9")


def test_faults_of_all_sections_are_told_at_once_with_their_lines(world):
    with pytest.raises(ConfigError) as caught:
        world(
            "transport:\n  type: bus\n  ulr: x\nstorage:\n  type: local\n  path: 5\n",
            FEED + "settings:\n  dept: 3\n",
        )
    assert str(caught.value).splitlines() == [
        "acme.yaml:9: settings.dept: unknown key; did you mean `depth`? allowed: depth",
        "prod.yaml:4: transport.url: is missing",
        "prod.yaml:6: transport.ulr: unknown key; did you mean `url`? allowed: url, window",
        "prod.yaml:9: storage.path: must be text, not a number",
    ]
    assert (caught.value.file, caught.value.line) == ("acme.yaml", 9)


def test_variables_that_a_plugin_does_not_know_are_warnings(world):
    plan = world(BUS, SSMD_TRANSPORT__ULR="x", SSMD_FEED__SETTINGS__DEPHT="3")
    assert sorted(plan.warnings) == [
        (
            "SSMD_FEED__SETTINGS__DEPHT names no key of the configuration and has no effect; "
            "did you mean SSMD_FEED__SETTINGS__DEPTH?"
        ),
        (
            "SSMD_TRANSPORT__ULR names no key of the configuration and has no effect; "
            "did you mean SSMD_TRANSPORT__URL?"
        ),
    ]


def test_a_bad_value_in_a_variable_names_the_variable(world):
    with pytest.raises(ConfigError) as caught:
        world(BUS, SSMD_TRANSPORT__WINDOW="many")
    assert str(caught.value).startswith("SSMD_TRANSPORT__WINDOW: must be a valid integer")
    assert caught.value.file is None


def test_a_feed_whose_name_is_no_type_is_told_of_the_plugin_key(world):
    with pytest.raises(PluginError, match=r"`plugin: TYPE` in acme\.yaml picks the plugin"):
        world(QUIET, FEED.replace("name: acme", "name: zinc"), SSMD_FEED="zinc")


def test_the_plugin_key_picks_the_plugin(world):
    feed = FEED.replace("name: acme", "name: zinc\nplugin: ssmd-acme:acme")
    plan = world(QUIET, feed, SSMD_FEED="zinc")
    assert (plan.name, plan.feed_type.name) == ("zinc", "acme")


def test_a_websocket_plugin_behind_another_feed_type_is_refused(world):
    feed = FEED.replace("feed_type: websocket", "type: rest")
    feed = feed.replace("wss://", "https://").replace("transport: websocket", "transport: https")
    with pytest.raises(ConfigError, match=r"^acme.yaml:2: type: is rest, but .* WebSocket"):
        world(QUIET, feed)


def test_a_settings_model_that_fails_is_the_plugin_s_fault_and_quotes_nothing(
    install, world, feed_code
):
    code = feed_code("acme").replace(
        "    depth: int = 5",
        "    def model_post_init(self, context):\n        raise RuntimeError('hunter2')",
    )
    install("bad", {"feed:bad": "plan_model"}, code.replace("'acme'", "'bad'"), module="plan_model")
    with pytest.raises(PluginError, match=r"its settings model raised RuntimeError$") as caught:
        world(QUIET, FEED + "plugin: bad\n")
    assert str(caught.value).startswith("plugin bad 1.0 (plan_model)")


@pytest.mark.parametrize(
    ("opening", "error", "message"),
    [
        ("raise ValueError('hunter2')", PluginError, "opening the feed raised ValueError$"),
        ("raise CredentialError('ACME_KEY is not set')", CredentialError, "^ACME_KEY is not set$"),
        ("return 5", PluginError, "`open` returns int, not a WebSocketFeed or Feed$"),
    ],
)
def test_a_feed_that_does_not_open_says_why(install, world, feed_code, opening, error, message):
    code = feed_code("acme").replace("open=Venue", "open=start") + (
        "\nfrom ssmd_core.errors import CredentialError\n"
        f"def start(context, config):\n    {opening}\n"
    )
    install("bad", {"feed:bad": "plan_bad"}, code.replace("'acme'", "'bad'"), module="plan_bad")
    with pytest.raises(error, match=message) as caught:
        world(QUIET, FEED + "plugin: bad\n")
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    ("connections", "message"),
    [
        ("return ()", "`connections` returns none, nothing would be captured$"),
        ("return [ConnectionPlan()] * 2", "`connections` returns conn 0, 0; .* number them from 0"),
        ("raise ValueError('hunter2')", "`connections` raised ValueError$"),
    ],
)
def test_a_feed_without_connections_of_its_own_is_refused(
    install, world, feed_code, connections, message
):
    code = feed_code("acme").replace(
        "    def on_open",
        f"    def connections(self):\n        {connections}\n    def on_open",
    )
    code = code.replace("import Endpoint,", "import ConnectionPlan, Endpoint,")
    install("bad", {"feed:bad": "plan_conns"}, code.replace("'acme'", "'bad'"), module="plan_conns")
    with pytest.raises(PluginError, match=message) as caught:
        world(QUIET, FEED + "plugin: bad\n")
    assert "hunter2" not in str(caught.value)
