import json

import pytest

CHECK = ("check", "--feed", "feed.yaml", "--env", "env.yaml")
NATS_ENV = """\
name: prod
feed: acme
schema: "trade:v1"
transport:
  transport_type: nats
  url: nats://u:hunter3@nats.example:4222
storage:
  storage_type: local
"""


def facts(out: str) -> dict[str, str]:
    return {line[:14].strip(): line[14:] for line in out.splitlines() if not line.startswith(" ")}


def test_file_mode_is_told(world):
    code, out, err = world.call(*CHECK)
    assert (code, err) == (0, "")
    assert facts(out) == {
        "feed": "acme, version 1.0 by ssmd-acme 0.3.0 (ssmd_acme.plugin)",
        "endpoint": "wss://acme.example/stream",
        "environment": "prod",
        "transport": "memory by ssmd-core 0.1.0 (ssmd_core.sink.plugin)",
        "storage": "local by ssmd-sink-file 0.1.0 (ssmd_sink_file.plugin)",
        "published": "nothing: the archive is the output",
        "health": "0.0.0.0:8080",
    }
    assert "  path = data" in out.splitlines()


def test_checking_opens_and_writes_nothing(world):
    before = sorted(world.folder.iterdir())
    assert world.call(*CHECK).code == 0
    assert sorted(world.folder.iterdir()) == before


def test_nats_mode_is_told_without_secrets(world):
    world.write((world.folder / "feed.yaml").read_text(), NATS_ENV)
    code, out, err = world.call(*CHECK)
    assert code == 0
    told = facts(out)
    assert told["storage"] == "none: nothing is archived"
    assert told["published"] == "ticker, trade"
    assert told["schema"].startswith("trade:v1 by ssmd-core")
    assert "hunter" not in out + err


@pytest.mark.parametrize(
    "more",
    [
        "credentials: /nowhere/user.creds",
        "token_file: /nowhere/token",
        "nkey_seed_path: /nowhere/seed",
        "tls: {ca: /nowhere/ca.pem}",
        "user: u\n  password_file: /nowhere/password",
    ],
)
def test_secrets_of_a_sink_that_cannot_be_read_stop_a_check(world, more):
    env = NATS_ENV.replace("u:hunter3@", "").replace("  url:", f"  {more}\n  url:")
    world.write((world.folder / "feed.yaml").read_text(), env)
    code, _, err = world.call(*CHECK)
    assert code == 2
    assert "/nowhere/" in err


BOOKS = """
    from pydantic import BaseModel
    from ssmd_core.feed import Endpoint, Parsed, WebSocketFeed
    from ssmd_core.plugins import FeedType, hookimpl

    class Books(WebSocketFeed):
        kinds = frozenset({"trade", "orderbook", "weather"})
        def __init__(self, context, config):
            context.warn("the weather is unreliable")
        def endpoint(self, plan):
            return Endpoint(url="wss://other.example/?token=hunter5")
        def on_open(self, session):
            return ()
        def parse(self, data, session):
            return Parsed(label="x")

    class Config(BaseModel):
        pass

    @hookimpl
    def ssmd_feeds():
        yield FeedType(name="books", api_version=1, config=Config, open=Books)
"""


def test_kinds_without_a_struct_and_warnings_are_told(world):
    world.install("books", {"ssmd.feeds": {"books": "books"}}, BOOKS)
    feed = (world.folder / "feed.yaml").read_text() + "plugin: books\n"
    world.write(feed, NATS_ENV)
    code, out, err = world.call(*CHECK)
    assert code == 0
    told = facts(out)
    assert told["not published"] == "orderbook, weather: no struct in trade:v1, kept nowhere"
    assert told["endpoint"].startswith("wss://other.example/")
    assert "hunter5" not in out
    assert err == "Warning: the weather is unreliable\n"


def test_faults_are_told_one_a_line_and_exit_is_2(world):
    world.write("name: acme\n", "nam: prod\n")
    code, out, err = world.call(*CHECK)
    assert (code, out) == (2, "")
    lines = err.splitlines()
    assert all(line.startswith(("Error: feed.yaml:1: ", "Error: env.yaml:1: ")) for line in lines)
    assert len(lines) > 3


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        ({"ACME_TOKEN": ""}, "Error: ACME_TOKEN is not set"),
        ({"SSMD_TRANSPORT__TYPE": "natz"}, "nobody provides the transport type `natz`"),
        ({"SSMD_SCHEMA": "trade:v9"}, "unknown schema `trade:v9`; known: trade:v1"),
        ({"SSMD_SHUTDOWN_SECONDS": "x"}, "Error: SSMD_SHUTDOWN_SECONDS: must be"),
    ],
)
def test_what_would_stop_a_run_stops_a_check(world, variables, message):
    code, _, err = world.call(*CHECK, **variables)
    assert code == 2
    assert message in err
    assert "Traceback" not in err


def test_at_debug_level_the_traceback_is_told_too(world):
    _, _, err = world.call(*CHECK, ACME_TOKEN="", RUST_LOG="debug")
    assert "Traceback" in err
    assert err.splitlines()[-1].startswith("Error: ACME_TOKEN is not set")


def test_connect_opens_archive_and_venue(world, venue):
    code, out, err = world.call(*CHECK, "--connect", SSMD_FEED__VERSIONS__0__ENDPOINT=venue)
    assert (code, err) == (0, "")
    assert "venue: connected, credentials accepted" in out
    assert (world.folder / "data").is_dir()


def test_connect_exits_3_when_the_venue_refuses_the_credentials(world, venue):
    environ = {"SSMD_FEED__VERSIONS__0__ENDPOINT": venue, "ACME_TOKEN": "wrong"}
    code, _, err = world.call(*CHECK, "--connect", **environ)
    assert code == 3
    assert "refused the credentials" in err
    assert "wrong" not in err


def test_connect_exits_2_when_the_venue_cannot_be_reached(world):
    code, _, err = world.call(
        *CHECK, "--connect", SSMD_FEED__VERSIONS__0__ENDPOINT="ws://127.0.0.1:9/"
    )
    assert code == 2
    assert "cannot be reached" in err


def test_connect_exits_2_when_the_bus_cannot_be_reached(world):
    environ = {"SSMD_TRANSPORT": '{"transport_type": "nats", "url": "nats://127.0.0.1:9"}'}
    code, out, err = world.call(*CHECK, "--connect", **environ)
    assert code == 2
    assert "the bus cannot be used now" in err
    assert "takes what is published" not in out


def test_json_variables_reach_the_feed(world):
    environ = {"SSMD_FEED__SETTINGS": json.dumps({"channels": ["weather"]})}
    code, _, err = world.call(*CHECK, **environ)
    assert code == 2
    assert "Error: SSMD_FEED__SETTINGS: `weather` is not known; allowed: trades, quotes" in err
