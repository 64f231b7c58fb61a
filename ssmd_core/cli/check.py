"""Decides what ``ssmd check`` tells: everything that would run, secrets apart."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import typer
from pydantic import BaseModel

from ssmd_core.config import ProcessSettings, load_files
from ssmd_core.errors import PluginError, SsmdError
from ssmd_core.feed import WebSocketFeed
from ssmd_core.metrics import Metrics
from ssmd_core.plugins.index import PluginIndex
from ssmd_core.plugins.registry import Registry
from ssmd_core.service.plan import RunPlan, resolve
from ssmd_core.service.redaction import redact, redact_text

__all__ = ["check", "describe"]

_WIDTH = 14


def check(
    feed_path: str, env_path: str, environ: Mapping[str, str], *, connect: bool = False
) -> int:
    """Print what would run; with ``connect`` open the venue and the sinks once. Return 0.

    Raises:
        StartError: a fault of files, plugins, credentials or sinks (exit 2).
        CredentialsRefused: the venue refused them (exit 3).
    """
    settings = ProcessSettings.read(environ)
    loaded = load_files(feed_path, env_path, environ)
    plan = resolve(loaded, Registry(PluginIndex.installed()), environ)
    for line in describe(plan):
        typer.echo(line)
    typer.echo(_line("health", settings.health_addr))
    for warning in plan.warnings:
        typer.echo(f"Warning: {warning}", err=True)
    _open_nothing(plan)
    if connect:
        _connect(plan)
    return 0


def describe(plan: RunPlan) -> Iterator[str]:
    """Yield what would run, one line a fact."""
    yield _line("feed", f"{plan.name}, version {plan.version} by {plan.origins['feed']}")
    yield _line("endpoint", _endpoint(plan))
    yield _line("environment", plan.environment)
    yield _line("transport", f"{plan.transport_type.name} by {plan.origins['transport']}")
    yield from _settings(plan.transport_config)
    if plan.storage_type is None:
        yield _line("storage", "none: nothing is archived")
    else:
        yield _line("storage", f"{plan.storage_type.name} by {plan.origins['storage']}")
        yield from _settings(plan.storage_config)
    yield from _published(plan)


def _published(plan: RunPlan) -> Iterator[str]:
    if plan.schema_type is None:
        yield _line("published", "nothing: the archive is the output")
        return
    encoder = plan.schema_type.open(Metrics())
    kinds = plan.feed.kinds
    shown = ", ".join(sorted(kinds & encoder.kinds)) or "none"
    yield _line("schema", f"{encoder.label} by {plan.origins['schema']}")
    yield _line("published", shown)
    left = ", ".join(sorted(kinds - encoder.kinds))
    if left:
        fate = "archived only" if plan.storage_type else "kept nowhere"
        yield _line("not published", f"{left}: no struct in {encoder.label}, {fate}")


def _endpoint(plan: RunPlan) -> str:
    """Return where the feed would connect, which may differ from what the file says."""
    if not isinstance(plan.feed, WebSocketFeed):
        return redact_text(plan.endpoint)
    try:
        connections = plan.feed.connections()
        url = plan.feed.endpoint(connections[0]).url
    except SsmdError:
        raise
    except Exception as error:
        kind = type(error).__name__
        raise PluginError(f"plugin {plan.origins['feed']}: `endpoint` raised {kind}") from error
    count = f" ({len(connections)} connections)" if len(connections) > 1 else ""
    return f"{redact_text(url)}{count}"


def _settings(config: Any) -> Iterator[str]:
    if isinstance(config, BaseModel):
        for key, value in redact(config.model_dump(mode="json", exclude_none=True)).items():
            yield f"  {key} = {value}"


def _line(name: str, value: str) -> str:
    return f"{name:<{_WIDTH}}{value}"


def _open_nothing(plan: RunPlan) -> None:
    """Make the sinks, so that their secrets and certificates are read."""
    import anyio  # noqa: PLC0415  late, as all that is heavy

    from ssmd_core.service.probe import rehearse  # noqa: PLC0415  heavy too

    async def inside_a_loop() -> None:
        rehearse(plan)

    anyio.run(inside_a_loop)


def _connect(plan: RunPlan) -> None:
    import anyio  # noqa: PLC0415  late, as all that is heavy

    from ssmd_core.service.probe import probe  # noqa: PLC0415  heavy too

    for finding in anyio.run(probe, plan):
        typer.echo(redact_text(finding))
