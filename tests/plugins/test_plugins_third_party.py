"""The package in tests/third_party is loaded as a stranger's would be."""

import ast
import json
import tomllib
from pathlib import Path
from types import MappingProxyType

import pytest

from ssmd_core.clock import SystemClock
from ssmd_core.config import load_files
from ssmd_core.errors import CredentialError, ParseError
from ssmd_core.feed import ConnectionPlan, FrameKind, Subscribed
from ssmd_core.plugins.index import PluginIndex
from ssmd_core.plugins.registry import Registry
from ssmd_core.records import Side, Trade
from ssmd_core.service.plan import resolve

SOURCE = Path(__file__).parents[1] / "third_party" / "ssmd-acme"
PUBLIC = {"ssmd_core.plugins", "ssmd_core.feed", "ssmd_core.records", "ssmd_core.errors"}

FEED = """\
name: acme-eu
plugin: acme
feed_type: websocket
versions:
  - version: 3
    endpoint: wss://acme.example/stream
    protocol: {transport: wss, message: json}
settings:
  channels: [trades]
  markets: [TIN, ZINC]
"""
ENV = """\
name: test
feed: acme-eu
schema: "trade:v1"
transport:
  transport_type: memory
keys:
  acme:
    type: api_key
    fields: [token]
    source: env:TIN_TOKEN
"""


@pytest.fixture
def acme(install, site, monkeypatch):
    """Install the metadata of the source tree, its code on sys.path."""
    project = tomllib.loads((SOURCE / "pyproject.toml").read_text())["project"]
    points = {
        f"{group.removeprefix('ssmd.').removesuffix('s')}:{name}": value
        for group, names in project["entry-points"].items()
        for name, value in names.items()
    }
    install(project["name"], points, version=project["version"], requires=project["dependencies"])
    monkeypatch.syspath_prepend(str(SOURCE / "src"))
    return Registry(PluginIndex.installed())


@pytest.fixture
def plan(acme, tmp_path):
    (tmp_path / "feed.yaml").write_text(FEED)
    (tmp_path / "env.yaml").write_text(ENV)
    environ = {"TIN_TOKEN": "hunter2"}
    loaded = load_files(tmp_path / "feed.yaml", tmp_path / "env.yaml", environ, clock=SystemClock())
    return resolve(loaded, acme, environ)


class FakeSession:
    plan = ConnectionPlan()
    channels = MappingProxyType({})
    state = None
    ids = 0

    def next_id(self) -> int:
        self.ids += 1
        return self.ids

    def now_ns(self) -> int:
        return 1


def test_it_is_installed_sound_and_compatible(acme):
    found = [entry for entry in acme.entries(check=True) if entry.distribution == "ssmd-acme"]
    assert [(entry.kind.value, entry.status.value) for entry in found] == [
        ("feed", "ok"),
        ("observer", "ok"),
    ]


def test_it_uses_nothing_but_the_public_surface():
    imported = set()
    for file in SOURCE.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            match node:
                case ast.Import(names=names):
                    imported |= {alias.name for alias in names}
                case ast.ImportFrom(module=str(module)):
                    imported.add(module)
    assert {name for name in imported if name.startswith("ssmd_core")} <= PUBLIC


def test_a_plan_is_made_with_it_under_another_name(plan):
    assert (plan.name, plan.feed_type.name) == ("acme-eu", "acme")
    assert plan.origins["feed"] == "ssmd-acme 0.3.0 (ssmd_acme.plugin)"
    assert plan.feed.kinds == {"trade", "ticker"}


def test_its_token_is_read_from_the_variable_that_keys_name(plan):
    endpoint = plan.feed.endpoint(ConnectionPlan())
    assert endpoint.headers == {"Authorization": "Bearer hunter2"}
    assert "hunter2" not in repr(plan)


def test_without_its_token_the_variable_is_named(acme, tmp_path):
    (tmp_path / "feed.yaml").write_text(FEED)
    (tmp_path / "env.yaml").write_text(ENV)
    loaded = load_files(tmp_path / "feed.yaml", tmp_path / "env.yaml", {})
    with pytest.raises(CredentialError, match="TIN_TOKEN is not set"):
        resolve(loaded, acme, {})


def test_it_subscribes_to_the_channels_and_markets_of_its_settings(plan):
    [send] = plan.feed.on_open(FakeSession())
    assert json.loads(send.data) == {
        "do": "subscribe",
        "id": 1,
        "channel": "trades",
        "markets": ["TIN", "ZINC"],
    }
    assert (send.request, send.subscribes, send.markets) == (1, "trades", 2)


def test_it_parses_trades_replies_and_what_it_does_not_know(plan):
    parse = plan.feed.parse
    trade = parse(
        b'{"type":"trade","channel":"trades","seq":7,"market":"TIN","ns":5,"price":"0.51",'
        b'"quantity":"2.5","side":"sell","trade":"t1"}',
        FakeSession(),
    )
    assert trade.records == (
        Trade(
            ticker="TIN",
            venue_ns=5,
            price_e9=510_000_000,
            size_e9=2_500_000_000,
            side=Side.SELL,
            trade_id="t1",
            seq=7,
        ),
    )
    assert (trade.sid, trade.first_seq, trade.last_seq) == ("trades", 7, 7)
    reply = parse(b'{"type":"subscribed","id":1,"channel":"trades"}', FakeSession())
    assert reply.event == Subscribed(request=1, channel="trades", sid="trades")
    assert parse(b'{"type":"weather"}', FakeSession()).kind is FrameKind.UNKNOWN
    with pytest.raises(ParseError):
        parse(b'{"type":"trade"}', FakeSession())
