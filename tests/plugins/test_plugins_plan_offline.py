"""What is resolved for commands that only read an archive."""

import pytest

from ssmd_core.config import load_files
from ssmd_core.errors import CredentialError, PluginError
from ssmd_core.service.plan import resolve

CODE = """
from pydantic import BaseModel
from ssmd_core.errors import CredentialError
from ssmd_core.feed import WebSocketFeed
from ssmd_core.plugins import FeedType, SchemaType, TransportType, hookimpl

class Parser(WebSocketFeed):
    def connections(self): raise RuntimeError("this one only parses")
    def endpoint(self, plan): raise RuntimeError("this one only parses")
    def on_open(self, session): return ()
    def parse(self, data, session): raise NotImplementedError

class Settings(BaseModel):
    pass

def refuse(context, config):
    raise CredentialError("ACME_TOKEN is missing")

@hookimpl
def ssmd_feeds():
    yield FeedType(name="acme", api_version=1, config=Settings, open=refuse, offline=OFFLINE)

@hookimpl
def ssmd_transports():
    yield TransportType(name="bus", api_version=1, config=Settings, open=print)

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
"""
ENV = """\
name: prod
feed: acme
schema: "trade:v1"
transport: {transport_type: bus}
storage: {storage_type: tape, reel: 9}
"""


@pytest.fixture
def resolved(install, registry, tmp_path, monkeypatch):
    """Resolve offline with a plugin whose ``offline`` is the given expression."""
    monkeypatch.chdir(tmp_path)

    def make(offline, name):
        points = dict.fromkeys(("feed:acme", "transport:bus", "schema:trade"), name)
        install("ssmd-acme", points, CODE.replace("OFFLINE", offline), module=name)
        (tmp_path / "acme.yaml").write_text(FEED)
        (tmp_path / "prod.yaml").write_text(ENV)
        return resolve(load_files("acme.yaml", "prod.yaml", {}), registry(), {}, offline=True)

    return make


def test_a_feed_that_can_parse_offline_needs_no_credentials_and_no_connections(resolved):
    assert type(resolved("Parser", "off_parser").feed).__name__ == "Parser"


def test_the_storage_is_not_looked_for(resolved):
    plan = resolved("Parser", "off_storage")
    assert (plan.storage_type, plan.storage_config) == (None, None)


def test_a_feed_that_cannot_is_opened_with_its_credentials(resolved):
    with pytest.raises(CredentialError, match="ACME_TOKEN is missing"):
        resolved("None", "off_none")


def test_an_offline_feed_that_is_none_is_refused(resolved):
    with pytest.raises(PluginError, match="`offline` returns int, not a WebSocketFeed or Feed"):
        resolved("lambda: 7", "off_wrong")
