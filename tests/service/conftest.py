from __future__ import annotations

from dataclasses import dataclass, field

import pytest

from ssmd_core.metrics import Metrics
from ssmd_core.service.monitored import Readiness
from ssmd_core.sink.contract import Health


@dataclass
class Subject:
    """A connector whose state a test sets."""

    name: str = "kalshi"
    environment: str = "prod"
    metrics: Metrics = field(default_factory=Metrics)
    is_connected: bool = True
    is_ready: Readiness = field(default_factory=lambda: Readiness(ready=True))
    is_alive: Health = field(default_factory=lambda: Health(ok=True))
    tells: dict = field(default_factory=dict)
    offset_ns: int = 0

    def connected(self) -> bool:
        return self.is_connected

    def readiness(self) -> Readiness:
        return self.is_ready

    def status(self) -> dict:
        return self.tells

    def alive(self) -> Health:
        return self.is_alive

    def clock_offset_ns(self) -> int:
        return self.offset_ns


@dataclass
class SetClock:
    """A clock that stands where it was set."""

    wall: int = 1_795_000_000_000_000_000
    monotonic: int = 5_000_000_000

    def wall_ns(self) -> int:
        return self.wall

    def monotonic_ns(self) -> int:
        return self.monotonic

    def pass_seconds(self, seconds: float) -> None:
        self.wall += int(seconds * 1e9)
        self.monotonic += int(seconds * 1e9)


@pytest.fixture
def subject():
    return Subject()


@pytest.fixture
def clock():
    return SetClock()


@pytest.fixture
def anyio_backend():
    return "asyncio"
