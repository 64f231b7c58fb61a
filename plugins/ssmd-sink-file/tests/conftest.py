"""An archive on a real disk, and what it was told."""

from __future__ import annotations

import functools
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from ssmd_core.metrics import Metrics
from ssmd_core.records import Batch
from ssmd_core.sink import StorageContext
from ssmd_sink_file.config import LocalConfig
from ssmd_sink_file.local.sink import LocalStorage

NOON = 1_795_348_800_000_000_000
"""2026-11-22T12:00:00Z."""


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@dataclass
class Told:
    """What a storage said to its host."""

    events: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    lost: list[tuple[int, int, int, str]] = field(default_factory=list)
    """Frames that are gone, receipt times of the first and the last, and why."""
    metrics: Metrics = field(default_factory=Metrics)

    def report(self, event: str, **fields: Any) -> None:
        self.events.append((event, fields))

    def context(self, feed: str = "kalshi") -> StorageContext:
        return StorageContext(
            feed=feed,
            environment="prod",
            metrics=self.metrics,
            report=self.report,
            environ={},
            warn=self.warnings.append,
            on_lost=lambda *loss: self.lost.append(loss),
        )


@pytest.fixture
def told() -> Told:
    return Told()


@pytest.fixture
def noon() -> int:
    return NOON


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "archive"


def make_storage(root: Path, told: Told, feed: str = "kalshi", **options: Any) -> LocalStorage:
    options.setdefault("lock_seconds", 0.0)
    options.setdefault("wall_ns", lambda: NOON)
    settings = {name: options.pop(name) for name in LocalConfig.model_fields if name in options}
    config = LocalConfig.model_validate({"path": str(root), **settings})
    return LocalStorage(told.context(feed), config, **options)


@asynccontextmanager
async def opened(
    root: Path, told: Told, feed: str = "kalshi", **options: Any
) -> AsyncIterator[LocalStorage]:
    storage = make_storage(root, told, feed, **options)
    await storage.open()
    try:
        yield storage
    finally:
        await storage.aclose()


@pytest.fixture
def make(root: Path, told: Told) -> Callable[..., LocalStorage]:
    """Make a storage on the archive, not opened."""
    return functools.partial(make_storage, root, told)


@pytest.fixture
def archive(root: Path, told: Told) -> Callable[..., Any]:
    """Open a storage on the archive for the length of an ``async with``."""
    return functools.partial(opened, root, told)


@pytest.fixture
def archive_at(told: Told) -> Callable[..., Any]:
    """Open a storage on an archive elsewhere."""
    return functools.partial(opened, told=told)


@pytest.fixture
async def storage(root: Path, told: Told) -> AsyncIterator[LocalStorage]:
    async with opened(root, told) as storage:
        yield storage


@pytest.fixture
def batch(noon: int) -> Callable[..., Batch]:
    """Make a batch ``at`` nanoseconds after noon."""

    def make_batch(*frames: bytes, at: int = 0, **fields: Any) -> Batch:
        return Batch(noon + at, list(frames), **fields)

    return make_batch
