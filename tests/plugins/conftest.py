import sys
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Protocol

import pytest

from ssmd_core.plugins.index import PluginIndex
from ssmd_core.plugins.registry import Registry


class MakePlugin(Protocol):
    def __call__(
        self,
        distribution: str,
        points: Mapping[str, str],
        code: str | None = None,
        *,
        version: str = "1.0",
        requires: Sequence[str] = (),
        module: str | None = None,
    ) -> None: ...


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A directory on sys.path that plugins can be installed into."""
    site = tmp_path / "site"
    site.mkdir()
    monkeypatch.syspath_prepend(str(site))
    yield site
    for name, module in list(sys.modules.items()):
        if str(getattr(module, "__file__", None) or "").startswith(str(site)):
            del sys.modules[name]


@pytest.fixture
def install(site: Path) -> MakePlugin:
    """Write a distribution as an installer would: metadata, entry points, a module.

    ``points`` maps ``kind:type`` (such as ``feed:acme``) to an object reference.
    """

    def make(
        distribution: str,
        points: Mapping[str, str],
        code: str | None = None,
        *,
        version: str = "1.0",
        requires: Sequence[str] = (),
        module: str | None = None,
    ) -> None:
        info = site / f"{distribution.replace('-', '_')}-{version}.dist-info"
        info.mkdir()
        lines = ["Metadata-Version: 2.1", f"Name: {distribution}", f"Version: {version}"]
        lines += [f"Requires-Dist: {requirement}" for requirement in requires]
        (info / "METADATA").write_text("\n".join(lines) + "\n")
        sections: dict[str, list[str]] = {}
        for key, value in points.items():
            kind, _, type_ = key.partition(":")
            sections.setdefault(f"ssmd.{kind}s", []).append(f"{type_} = {value}")
        text = "\n".join(f"[{group}]\n" + "\n".join(rows) for group, rows in sections.items())
        (info / "entry_points.txt").write_text(text + "\n")
        if code is not None:
            name = module or distribution.replace("-", "_")
            (site / f"{name}.py").write_text(textwrap.dedent(code))

    return make


@pytest.fixture
def registry(site: Path):
    """Read what is installed in ``site``, and only that, when called."""
    return lambda: Registry(PluginIndex.installed([str(site)]))


@pytest.fixture
def feed_code():
    """Return the source of a plugin module with one sound feed, as a stranger writes it."""

    def code(name: str, *, api_version: object = 1, record: str = "FeedType") -> str:
        return f"""
from pydantic import BaseModel
from ssmd_core.feed import Endpoint, Parsed, WebSocketFeed
from ssmd_core.plugins import FeedType, StorageType, TransportType, hookimpl

class Config(BaseModel):
    model_config = {{"extra": "forbid"}}
    depth: int = 5

class Venue(WebSocketFeed):
    kinds = frozenset({{"trade"}})
    def __init__(self, context, config):
        self.context, self.config = context, config
    def endpoint(self, plan):
        return Endpoint(url=self.context.endpoint)
    def on_open(self, session):
        return ()
    def parse(self, data, session):
        return Parsed(label="x")

@hookimpl
def ssmd_feeds():
    yield {record}(name={name!r}, api_version={api_version!r}, config=Config, open=Venue)
"""

    return code
