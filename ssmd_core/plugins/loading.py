"""Decides whether a plugin is sound: imports the one module that is named, and checks it."""

from __future__ import annotations

import difflib
import importlib
import inspect
import itertools
from collections.abc import Mapping
from typing import Any

import pluggy
from pydantic import BaseModel

from ssmd_core.errors import PluginError
from ssmd_core.plugins import hookspecs
from ssmd_core.plugins.index import Entry, Kind
from ssmd_core.plugins.records import (
    FeedType,
    PluginRecord,
    SchemaType,
    StorageType,
    TransportType,
)

__all__ = ["check_api_version", "host_plugin", "load_records"]

_API_VERSIONS = frozenset({1})
"""Contracts that this core speaks. Private: a plugin states its own number."""
_RECORDS: Mapping[Kind, tuple[str, type[PluginRecord]]] = {
    Kind.FEED: ("ssmd_feeds", FeedType),
    Kind.TRANSPORT: ("ssmd_transports", TransportType),
    Kind.STORAGE: ("ssmd_storages", StorageType),
    Kind.SCHEMA: ("ssmd_schemas", SchemaType),
}
_MAX_RECORDS = 1000


def load_records(entry: Entry) -> list[PluginRecord]:
    """Import the plugin of ``entry`` and return the records it registers for the kind.

    Raises:
        PluginError: incompatible, not importable, no hook, a bad hook, or bad records.
            Names distribution, version and module; the cause is chained.
    """
    hook, record_type = _RECORDS[entry.kind]
    manager = host_plugin(entry)
    caller = getattr(manager.hook, hook)
    if not caller.get_hookimpls():
        raise _broken(entry, f"has no hook `{hook}`{_undecorated(manager, hook)}")
    records = _collect(entry, caller, hook)
    for record in records:
        if not isinstance(record, record_type):
            wanted = record_type.__name__
            kind = type(record).__name__
            raise _broken(entry, f"`{hook}` yields {kind}, must be {wanted}")
        _check_fields(entry, record)
    if entry.type not in {record.name for record in records}:
        names = ", ".join(record.name for record in records) or "nothing"
        raise _broken(
            entry,
            f"`{hook}` yields {names}, but the entry point is named {entry.type}: "
            "the record's name must be the entry point's",
        )
    return records


def host_plugin(entry: Entry) -> pluggy.PluginManager:
    """Import a plugin into a manager of its own, so that equal names cannot collide.

    Raises:
        PluginError: incompatible, not importable, or with a hook that ssmd does not have.
    """
    if entry.incompatibility:
        raise PluginError(f"plugin {entry.origin} {entry.incompatibility}; install ones that fit")
    plugin = _imported(entry)
    manager = pluggy.PluginManager("ssmd")
    manager.add_hookspecs(hookspecs)
    try:
        manager.register(plugin, name=entry.origin)
        _check_spelling(entry, manager)
        manager.check_pending()
    except PluginError:
        raise
    except pluggy.PluginValidationError as error:
        raise _broken(entry, f"has a hook that does not fit: {error}") from error
    except Exception as error:
        raise _broken(entry, f"cannot be registered: {_named(error)}") from error
    for caller in manager.get_hookcallers(plugin) or ():
        for implementation in caller.get_hookimpls():
            if _is_async(implementation.function):
                raise _broken(entry, f"hook `{caller.name}` is async; write `def {caller.name}()`")
    return manager


def check_api_version(entry: Entry, record: PluginRecord) -> None:
    """Check that the record was written for a contract that this core speaks.

    Raises:
        PluginError: it was not; names both versions.
    """
    version = record.api_version
    if type(version) is not int or version not in _API_VERSIONS:
        spoken = ", ".join(map(str, sorted(_API_VERSIONS)))
        raise PluginError(
            f"plugin {entry.origin}: {record.name} speaks api_version {version!r}, "
            f"this ssmd-core speaks {spoken}; install versions that fit"
        )


def _imported(entry: Entry) -> Any:
    module, _, attributes = entry.module.partition(":")
    try:
        found: Any = importlib.import_module(module)
        for name in attributes.split(".") if attributes else ():
            found = getattr(found, name)
    # A module that exits while it is imported must not end us with its own code.
    except (Exception, SystemExit) as error:
        raise _broken(entry, f"cannot be imported: {_named(error)}") from error
    return found


def _collect(entry: Entry, caller: pluggy.HookCaller, hook: str) -> list[Any]:
    try:
        records: list[Any] = []
        for result in caller():
            records += itertools.islice(result, _MAX_RECORDS)
    except (Exception, SystemExit) as error:
        raise _broken(entry, f"`{hook}` raised {_named(error)}") from error
    return records


def _check_fields(entry: Entry, record: PluginRecord) -> None:
    if not callable(getattr(record, "open", None)):
        raise _broken(entry, f"record {record.name!r}: `open` is not callable")
    if isinstance(record, SchemaType):
        return
    config = getattr(record, "config", None)
    # pydantic refuses to make an instance of BaseModel itself.
    if not isinstance(config, type) or not issubclass(config, BaseModel) or config is BaseModel:
        raise _broken(entry, f"record {record.name!r}: `config` is no subclass of BaseModel")


def _check_spelling(entry: Entry, manager: pluggy.PluginManager) -> None:
    callers = [getattr(manager.hook, name) for name in vars(manager.hook) if name[:1] != "_"]
    known = [caller.name for caller in callers if caller.has_spec()]
    for caller in callers:
        pending = [item for item in caller.get_hookimpls() if not item.optionalhook]
        if caller.has_spec() or not pending:
            continue
        close = difflib.get_close_matches(caller.name, known, n=1)
        hint = f"; did you mean `{close[0]}`?" if close else ""
        raise _broken(entry, f"hook `{caller.name}` is none of ssmd's{hint}")


def _undecorated(manager: pluggy.PluginManager, hook: str) -> str:
    for plugin in manager.get_plugins():
        if callable(getattr(plugin, hook, None)):
            return "; the function lacks the decorator @hookimpl"
    return ""


def _is_async(function: Any) -> bool:
    return inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function)


def _broken(entry: Entry, reason: str) -> PluginError:
    return PluginError(f"plugin {entry.origin}: {reason}")


def _named(error: BaseException) -> str:
    text = str(error).strip()
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
