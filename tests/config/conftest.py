from pathlib import Path

import pytest

from ssmd_core.clock import NS
from ssmd_core.config import Loaded, load_files

FEED = """\
name: kalshi
feed_type: websocket
versions:
  - version: "1.0"
    endpoint: wss://trading-api.kalshi.com/trade-api/ws/v2
    protocol:
      transport: websocket
      message: json
"""
ENV = """\
name: prod
feed: kalshi
schema: "trade:v1"
transport:
  transport_type: nats
  url: nats://nats.nats.svc.cluster.local:4222
storage:
  storage_type: local
"""


class FixedClock:
    """The wall clock stands at the given Unix seconds."""

    def __init__(self, seconds: int) -> None:
        self._seconds = seconds

    def wall_ns(self) -> int:
        return self._seconds * NS

    def monotonic_ns(self) -> int:
        return 0


@pytest.fixture
def clock():
    return FixedClock


@pytest.fixture
def feed_text():
    return FEED


@pytest.fixture
def env_text():
    return ENV


@pytest.fixture
def load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Load two texts as feed.yaml and env.yaml, with variables."""
    monkeypatch.chdir(tmp_path)

    def load(
        feed: str = FEED, env: str = ENV, *, at: int = 1_795_000_000, **environ: str
    ) -> Loaded:
        Path("feed.yaml").write_text(feed)
        Path("env.yaml").write_text(env)
        return load_files("feed.yaml", "env.yaml", environ, clock=FixedClock(at))

    return load
