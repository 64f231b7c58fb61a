"""Decides how plugins are listed and shown."""

from __future__ import annotations

import contextlib
import difflib
import json
import sys
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import typer

from ssmd_core.errors import PluginError
from ssmd_core.plugins.index import Entry, Kind, PluginIndex, Status

__all__ = ["show_all", "show_one"]

_FINDINGS = {Status.BROKEN, Status.CONFLICT, Status.INCOMPATIBLE}
_COLUMNS = ("kind", "type", "distribution", "version", "status", "error")


def show_all(*, check: bool, as_json: bool) -> int:
    """Print what is installed; with ``check`` load each. Return 1 when that finds a fault."""
    index = PluginIndex.installed()
    entries = _checked(index) if check else list(index.entries)
    rows = [_row(entry) for entry in entries]
    if as_json:
        typer.echo(json.dumps(rows, indent=2))
    elif rows:
        table = [_COLUMNS, *(tuple(row[name] or "" for name in _COLUMNS) for row in rows)]
        typer.echo("\n".join(_aligned(table)))
    else:
        typer.echo("no plugins are installed")
    return int(check and any(entry.status in _FINDINGS for entry in entries))


def show_one(name: str) -> int:
    """Load what is installed under a type, a distribution, or ``distribution:type``.

    Raises:
        PluginError: there is none, or it is broken.
    """
    index = PluginIndex.installed()
    distribution, colon, type_ = name.rpartition(":")
    found = index.named(distribution if colon else name)
    if colon:
        found = [entry for entry in found if entry.type == type_]
    if not found:
        known = list(dict.fromkeys(entry.type for entry in index.entries))
        close = difflib.get_close_matches(name, known, n=1)
        hint = f"did you mean `{close[0]}`? " if close else ""
        raise PluginError(
            f"no plugin `{name}` is installed; {hint}installed: {', '.join(known) or 'none'}"
        )
    for position, entry in enumerate(found):
        typer.echo("\n" * bool(position) + "\n".join(_described(entry)))
    return 0


def _checked(index: PluginIndex) -> list[Entry]:
    from ssmd_core.plugins.registry import Registry  # noqa: PLC0415  loads plugins

    # What a plugin prints while it is imported is no part of our answer.
    with contextlib.redirect_stdout(sys.stderr):
        return Registry(index).entries(check=True)


def _row(entry: Entry) -> dict[str, str | None]:
    return {
        "kind": entry.kind.value,
        "type": entry.type,
        "distribution": entry.distribution,
        "version": entry.version,
        "status": entry.status.value,
        "error": entry.error,
    }


def _described(entry: Entry) -> Iterator[str]:
    from ssmd_core.plugins.loading import (  # noqa: PLC0415  loads plugins
        check_api_version,
        host_plugin,
        load_records,
    )

    yield f"{entry.kind.value} {entry.type}"
    yield f"  from        {entry.origin}"
    if entry.error:
        yield f"  {entry.status.value}: {entry.error}"
    if entry.kind is Kind.OBSERVER:
        manager = host_plugin(entry)
        records = {f"ssmd_{kind.value}s" for kind in Kind}
        hooks = [name for name in vars(manager.hook) if name[:1] != "_" and name not in records]
        watched = [name for name in hooks if getattr(manager.hook, name).get_hookimpls()]
        yield f"  observes    {', '.join(watched) or 'nothing'}"
        return
    for record in load_records(entry):
        if record.name != entry.type:
            continue
        check_api_version(entry, record)
        version = f" {getattr(record, 'version', '')}".rstrip()
        yield f"  what        {record.summary or 'no summary'}{version}"
        yield f"  stability   {record.stability}, api_version {record.api_version}"
        yield from _settings(getattr(record, "config", None))


def _settings(config: Any) -> Iterator[str]:
    fields = config.model_fields.items() if config is not None else ()
    rows = []
    for name, field in fields:
        default = "required" if field.is_required() else f"= {field.get_default()!r}"
        rows.append((f"    {name}", _type_name(field.annotation), default, field.description or ""))
    if rows:
        yield "  settings"
        yield from _aligned(rows)


def _type_name(annotation: Any) -> str:
    if isinstance(annotation, type):
        return annotation.__name__
    return str(annotation).replace("typing.", "").replace("NoneType", "None")


def _aligned(rows: Sequence[Iterable[str]]) -> list[str]:
    """Return rows as lines whose columns, the last apart, are aligned."""
    cells = [list(row) for row in rows]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    widths[-1] = 0
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in cells
    ]
