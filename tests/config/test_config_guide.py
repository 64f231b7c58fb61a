"""The pairs of files that the deployment guide gives, and the reference program's spelling."""

from datetime import date

import pytest
from pydantic import BaseModel

FILE_MODE = """\
name: prod
feed: kalshi
schema: "trade:v1"
transport:
  transport_type: memory
storage:
  storage_type: local
  path: /data
"""
REFERENCE_FEED = """\
name: kalshi
display_name: Kalshi Exchange
type: websocket
status: active
capture_locations:
  - site: aws-east
    type: cloud
    provider: aws
    region: us-east-1
calendar:
  timezone: America/New_York
  open_time: "08:00"
versions:
  - version: v1
    effective_from: "2025-12-22"
    effective_to: 2027-12-31
    protocol:
      transport: wss
      message: json
      version: "2"
    endpoint: wss://api.elections.kalshi.com/trade-api/ws/v2
    auth_method: api_key
    rate_limit_per_second: 10
    max_symbols_per_connection: 256
    supports_orderbook: true
    supports_trades: true
    supports_historical: false
    parser_config:
      price_unit: cents
"""
REFERENCE_ENV = """\
name: kalshi-dev
feed: kalshi
schema: trade:v1
schedule:
  timezone: UTC
  day_start: "00:10"
  auto_roll: true
keys:
  kalshi:
    type: api_key
    description: Kalshi trading API credentials
    required: true
    fields:
      - api_key
      - private_key
    source: env:KALSHI_API_KEY,KALSHI_PRIVATE_KEY
transport:
  type: nats
  url: nats://localhost:4222
storage:
  type: local
  path: /var/lib/ssmd/data
cache:
  type: memory
  max_size: 1GB
"""


class Anything(BaseModel):
    model_config = {"extra": "allow"}


def test_the_guide_s_nats_mode_loads(load):
    loaded = load()
    assert (loaded.feed.name, loaded.feed.feed_type) == ("kalshi", "websocket")
    assert loaded.version.endpoint == "wss://trading-api.kalshi.com/trade-api/ws/v2"
    assert (loaded.version.protocol.transport, loaded.version.protocol.message) == (
        "websocket",
        "json",
    )
    assert (loaded.env.name, loaded.env.feed, loaded.env.schema_) == ("prod", "kalshi", "trade:v1")
    assert loaded.env.transport.transport_type == "nats"
    assert loaded.transport.validate(Anything).model_dump() == {
        "url": "nats://nats.nats.svc.cluster.local:4222"
    }
    assert loaded.env.storage.storage_type == "local"
    assert not loaded.storage.keys()
    assert loaded.warnings == ()


def test_the_guide_s_file_mode_loads(load):
    loaded = load(env=FILE_MODE)
    assert loaded.env.transport.transport_type == "memory"
    assert loaded.storage.validate(Anything).model_dump() == {"path": "/data"}
    assert loaded.warnings == ()


def test_the_reference_program_s_feed_file_loads(load, env_text):
    loaded = load(REFERENCE_FEED)
    version = loaded.version
    assert loaded.feed.feed_type == "websocket"
    assert loaded.feed.display_name == "Kalshi Exchange"
    assert loaded.feed.calendar == {"timezone": "America/New_York", "open_time": "08:00"}
    assert (version.effective_from, version.effective_to) == (
        date(2025, 12, 22),
        date(2027, 12, 31),
    )
    assert version.protocol.transport == "wss"
    assert loaded.version.as_written() == {
        "version": "v1",
        "effective_from": "2025-12-22",
        "effective_to": "2027-12-31",
        "protocol": {"transport": "wss", "message": "json", "version": "2"},
        "endpoint": "wss://api.elections.kalshi.com/trade-api/ws/v2",
        "auth_method": "api_key",
        "rate_limit_per_second": 10,
        "max_symbols_per_connection": 256,
        "supports_orderbook": True,
        "supports_trades": True,
        "supports_historical": False,
        "parser_config": {"price_unit": "cents"},
    }


def test_the_reference_program_s_environment_file_loads(load):
    loaded = load(REFERENCE_FEED, REFERENCE_ENV)
    assert loaded.env.transport.transport_type == "nats"
    assert loaded.env.storage.storage_type == "local"
    assert loaded.env.variables() == {
        "api_key": "KALSHI_API_KEY",
        "private_key": "KALSHI_PRIVATE_KEY",
    }


def test_schedule_and_cache_are_warnings(load):
    assert load(REFERENCE_FEED, REFERENCE_ENV).warnings == (
        "`schedule` of the environment file has no effect",
        "`cache` of the environment file has no effect",
    )


@pytest.mark.parametrize(("written", "read"), [('"1.0"', "1.0"), ("1.0", "1.0"), ("2", "2")])
def test_a_version_may_be_text_or_a_number(load, feed_text, written, read):
    assert load(feed_text.replace('"1.0"', written)).version.version == read


VERSIONS = """\
name: kalshi
type: websocket
versions:
"""


def version(name: str, dates: str = "") -> str:
    return (
        f"  - {{version: {name}, endpoint: 'wss://x.example/', "
        f"protocol: {{transport: wss, message: json}}{dates}}}\n"
    )


JANUARY_10 = 1_767_999_600  # 2026-01-09T23:00:00Z
A_DAY = 86_400


@pytest.mark.parametrize(
    ("versions", "expected"),
    [
        ([version("a"), version("b")], "b"),
        ([version("a", ", effective_from: 2026-01-01"), version("b")], "a"),
        (
            [
                version("a", ", effective_from: 2026-01-05"),
                version("b", ", effective_from: 2026-01-01"),
            ],
            "a",
        ),
        (
            [
                version("a", ", effective_from: 2026-01-01, effective_to: 2026-01-08"),
                version("b", ", effective_from: 2026-01-09"),
                version("c", ", effective_from: 2026-01-10"),
            ],
            "b",
        ),
        (
            [
                version("a", ", effective_to: 2026-01-09"),
                version("b", ", effective_to: 2025-01-01"),
            ],
            "a",
        ),
    ],
)
def test_the_version_in_effect_today_runs(load, versions, expected):
    assert load(VERSIONS + "".join(versions), at=JANUARY_10).version.version == expected


def test_the_day_a_version_ends_is_its_last(load):
    text = (
        VERSIONS
        + version("a", ", effective_to: 2026-01-09")
        + version("b", ", effective_from: 2026-01-10")
    )
    assert load(text, at=JANUARY_10).version.version == "a"
    assert load(text, at=JANUARY_10 + A_DAY).version.version == "b"
