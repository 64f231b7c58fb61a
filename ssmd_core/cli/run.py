"""Decides how a run begins and ends: settings, logs, plan, event loop, exit code."""

from __future__ import annotations

import gc
import importlib.util
import logging
from collections.abc import Mapping
from typing import Any

import anyio

from ssmd_core.cli.signals import signals
from ssmd_core.config import ProcessSettings, load_files
from ssmd_core.errors import SsmdError
from ssmd_core.log import get_logger
from ssmd_core.pipeline.ledger import Observe
from ssmd_core.plugins.index import PluginIndex
from ssmd_core.plugins.observers import Observers
from ssmd_core.plugins.registry import Registry
from ssmd_core.service.connector import Connector
from ssmd_core.service.logs import configure
from ssmd_core.service.plan import RunPlan, resolve

__all__ = ["loop_options", "report", "run"]

_log = get_logger("ssmd")


def run(
    feed_path: str, env_path: str, environ: Mapping[str, str], *, health_addr: str | None = None
) -> int:
    """Run a connector until it is told to stop; return the exit code.

    Raises:
        ConfigError: an SSMD_ variable or ``health_addr``; later faults are logged.
    """
    settings = ProcessSettings.read(environ, health_addr=health_addr)
    configure(settings.log, settings.log_format)
    signals.say(lambda: _log.info("stopped before anything was received"))
    try:
        return _run(feed_path, env_path, environ, settings)
    except (Exception, SystemExit, BaseExceptionGroup) as error:  # noqa: BLE001  becomes the exit code
        return report(error)


def _run(
    feed_path: str, env_path: str, environ: Mapping[str, str], settings: ProcessSettings
) -> int:
    registry = Registry(PluginIndex.installed())
    plan = resolve(load_files(feed_path, env_path, environ), registry, environ)
    for warning in plan.warnings:
        _log.warning(warning)
    observers = registry.observers(_log.warning)
    observers.run_started(feed=plan.name, environment=plan.environment)
    failure: SsmdError | None = None
    try:
        return _capture(plan, settings, observers)
    except (SsmdError, BaseExceptionGroup) as error:
        failure = only_fault(error)
        raise
    finally:
        observers.run_stopped(feed=plan.name, environment=plan.environment, error=failure)
        observers.close()


def _capture(plan: RunPlan, settings: ProcessSettings, observers: Observers) -> int:
    connector = Connector(plan, settings, observe=_observing(plan.name, observers))

    async def run() -> int:
        # What is there now stays: no later collection needs to walk through it.
        gc.freeze()
        gc.enable()
        try:
            return await connector.run()
        finally:
            signals.ignore()

    return anyio.run(run, backend_options=loop_options(settings.event_loop))


def _observing(feed: str, observers: Observers) -> Observe:
    """Return what turns ledger events into the hooks of observers."""

    def observe(event: str, fields: Mapping[str, Any]) -> None:
        match event:
            case "gap":
                first, last = fields["first"], fields["last"]
                observers.gap_detected(feed=feed, channel=fields["channel"], first=first, last=last)
            case "sink_failed":
                observers.component_failed(
                    feed=feed, component=fields["sink"], reason=fields["reason"]
                )
            case "session_closed" if fields["cause"] != "stopped":
                reason = f"{fields['cause']}: {fields['detail']}"
                observers.component_failed(feed=feed, component="connection", reason=reason)

    return observe


def loop_options(asked: str | None = None) -> dict[str, Any]:
    """Return the options of the event loop: the one asked for, or uvloop where it is installed."""
    if asked is not None:
        return {"use_uvloop": asked == "uvloop"}
    return {"use_uvloop": importlib.util.find_spec("uvloop") is not None}


def only_fault(error: BaseException) -> SsmdError | None:
    """Return the fault of ours that an error or a group of errors stands for."""
    if isinstance(error, BaseExceptionGroup):
        faults = [only_fault(inner) for inner in error.exceptions]
        return faults[0] if all(faults) else None
    return error if isinstance(error, SsmdError) else None


def report(error: BaseException) -> int:
    """Log why the run ended, as its last lines, and return the exit code."""
    fault = only_fault(error)
    if fault is None:
        _log.error("internal failure", exc_info=error)
        _log.error(f"stopped by an internal failure: {type(error).__name__}: {error}", exit_code=1)
        return 1
    if logging.getLogger("ssmd").isEnabledFor(logging.DEBUG):
        _log.debug("where it was raised", exc_info=error)
    for line in str(fault).splitlines():
        _log.error(line, exit_code=fault.exit_code)
    return fault.exit_code
