"""Decides what the command line means: options, commands, exit codes."""

from __future__ import annotations

import gc
import os
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from ssmd_core import __version__
from ssmd_core.cli.signals import signals
from ssmd_core.errors import SsmdError, UsageError

__all__ = ["app", "entry", "main", "say"]

app = typer.Typer(
    name="ssmd",
    help="Capture live market data: raw archive, normalised bus, and a record of what is missing.",
    add_completion=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
plugins_app = typer.Typer(rich_markup_mode=None)
app.add_typer(plugins_app, name="plugins")

FeedOption = Annotated[
    str, typer.Option("--feed", "-f", metavar="FILE", help="Feed file: which venue.")
]
EnvOption = Annotated[
    str, typer.Option("--env", "-e", metavar="FILE", help="Environment file: what runs, where to.")
]


def entry() -> NoReturn:
    """Be the program ``ssmd``."""
    signals.end_at_once()
    sys.exit(main())


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit code."""
    try:
        app(args=None if argv is None else list(argv), prog_name="ssmd")
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    except SsmdError as error:
        say(error)
        return error.exit_code
    except Exception as error:  # noqa: BLE001  the last line says so, not a traceback
        _print_traceback(error)
        typer.echo(f"Error: internal failure: {type(error).__name__}: {error}", err=True)
        return 1
    return 0


def say(error: SsmdError) -> None:
    """Tell a fault on standard error; with a traceback at the log level ``debug`` only."""
    if any(level in _log_level() for level in ("debug", "trace")):
        _print_traceback(error)
    from ssmd_core.service.redaction import redact_text  # noqa: PLC0415  only where it is needed

    # A venue or a bus may have written part of it.
    for line in redact_text(str(error)).splitlines():
        typer.echo(f"Error: {line}", err=True)


def _log_level() -> str:
    return (os.environ.get("SSMD_LOG") or os.environ.get("RUST_LOG") or "").lower()


def _print_traceback(error: BaseException) -> None:
    traceback.print_exception(error)


def _show_version(asked: bool) -> None:  # noqa: FBT001  typer's callback
    if asked:
        typer.echo(f"ssmd {__version__}")
        raise typer.Exit


@app.callback(invoke_without_command=True)
def _run(
    context: typer.Context,
    *,
    feed: Annotated[
        str | None, typer.Option("--feed", "-f", metavar="FILE", help="Feed file: which venue.")
    ] = None,
    env: Annotated[
        str | None,
        typer.Option("--env", "-e", metavar="FILE", help="Environment file: what, and where to."),
    ] = None,
    health_addr: Annotated[
        str | None,
        typer.Option(
            metavar="HOST:PORT",
            help="Where health and metrics answer. [default: SSMD_HEALTH_ADDR or 0.0.0.0:8080]",
        ),
    ] = None,
    _version: Annotated[
        bool,
        typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version."),
    ] = False,
) -> None:
    """Capture live market data until SIGTERM or SIGINT."""
    if context.invoked_subcommand is not None:
        if feed or env or health_addr:
            command = context.invoked_subcommand
            raise UsageError(f"options of a command stand after it: ssmd {command} …")
        return
    if not (feed or env or health_addr):
        typer.echo(context.get_help(), err=True)
        raise typer.Exit(2)
    if not feed or not env:
        missing = "--feed" if not feed else "--env"
        raise UsageError(f"missing option {missing}: both --feed and --env are needed")
    # A start makes much and drops little: looking for garbage is a tenth of its time. The
    # capture itself begins with the collector on.
    gc.disable()
    try:
        from ssmd_core.cli.run import run  # noqa: PLC0415  imported when used

        code = run(feed, env, os.environ, health_addr=health_addr)
    finally:
        gc.enable()
    raise typer.Exit(code)


@app.command("check")
def _check(
    *,
    feed: FeedOption,
    env: EnvOption,
    connect: Annotated[
        bool, typer.Option("--connect", help="Open the venue and the sinks, too.")
    ] = False,
) -> None:
    """Say what would run, or what is wrong with it."""
    from ssmd_core.cli.check import check  # noqa: PLC0415  imported when used

    raise typer.Exit(check(feed, env, os.environ, connect=connect))


@app.command("replay")
def _replay(
    *,
    path: Annotated[str, typer.Argument(metavar="PATH", help="An archive: a directory or a URL.")],
    feed: FeedOption,
    env: EnvOption,
    speed: Annotated[
        str, typer.Option(metavar="1x|max|Nx", help="As fast as it was received, or faster.")
    ] = "1x",
    from_: Annotated[
        str | None,
        typer.Option("--from", metavar="TIME", help="First receipt time: a date or a time, UTC."),
    ] = None,
    to: Annotated[
        str | None,
        typer.Option("--to", metavar="TIME", help="A date to its end, or the first time left out."),
    ] = None,
    diff: Annotated[
        bool, typer.Option("--diff", help="Publish nothing: compare with what the bus holds.")
    ] = False,
    into_live: Annotated[
        bool, typer.Option("--into-live", help="Also where live records stand.")
    ] = False,
) -> None:
    """Publish archived frames again: same records, same subjects, same message ids."""
    from ssmd_core.cli.replay import ReplayOptions, replay  # noqa: PLC0415  imported when used

    options = ReplayOptions(
        speed=speed, from_text=from_, to_text=to, diff=diff, into_live=into_live
    )
    raise typer.Exit(replay(path, feed, env, os.environ, options))


@plugins_app.callback(invoke_without_command=True)
def _plugins(
    context: typer.Context,
    *,
    check: Annotated[
        bool, typer.Option("--check", help="Load each; exit 1 if one is not sound.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """List the plugins that are installed."""
    if context.invoked_subcommand is None:
        from ssmd_core.cli.plugins import show_all  # noqa: PLC0415  imported when used

        raise typer.Exit(show_all(check=check, as_json=as_json))


@plugins_app.command("show")
def _plugins_show(
    name: Annotated[
        str, typer.Argument(metavar="NAME", help="A type, a distribution, or distribution:type.")
    ],
) -> None:
    """Load what is installed under a name and show its settings."""
    from ssmd_core.cli.plugins import show_one  # noqa: PLC0415  imported when used

    raise typer.Exit(show_one(name))


@app.command("demo")
def _demo(
    *,
    nats: Annotated[
        bool, typer.Option("--nats", help="Publish to a NATS server started for the demo, too.")
    ] = False,
    seconds: Annotated[float, typer.Option(min=0.1, help="How long to capture.")] = 30.0,
    path: Annotated[
        Path | None,
        typer.Option(metavar="DIRECTORY", help="Where the files go. [default: ./ssmd-demo]"),
    ] = None,
) -> None:
    """Capture a recorded session, without network."""
    from ssmd_core.cli.demo import run_demo  # noqa: PLC0415  imported when used

    signals.interrupt()
    try:
        code = run_demo(nats, seconds, path)
    except KeyboardInterrupt:
        code = 0  # told to stop before there was anything to capture
    raise typer.Exit(code)


PlaceArgument = Annotated[
    str, typer.Argument(metavar="PATH", help="An archive: a directory, or a URL such as s3://….")
]
FeedNameOption = Annotated[
    str | None, typer.Option("--feed", metavar="NAME", help="One feed only. [default: all]")
]
DateOption = Annotated[
    str | None, typer.Option("--date", metavar="YYYY-MM-DD", help="One UTC day. [default: all]")
]


@app.command("verify")
def _verify(
    place: PlaceArgument,
    *,
    bus: Annotated[
        str | None,
        typer.Option("--bus", metavar="URL", help="Compare with what this bus holds, too."),
    ] = None,
    env: Annotated[
        str | None,
        typer.Option("--env", "-e", metavar="FILE", help="Compare with the bus of this file."),
    ] = None,
    feed: FeedNameOption = None,
    date: DateOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Check that an archive holds what was received, less what is declared as lost."""
    from ssmd_core.cli.verify import verify  # noqa: PLC0415  imported when used

    raise typer.Exit(
        verify(place, os.environ, bus=bus, env=env, feed=feed, date=date, as_json=as_json)
    )


@app.command("coverage")
def _coverage(
    place: PlaceArgument,
    *,
    date: DateOption = None,
    feed: FeedNameOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Say when each channel was captured: a quiet market, or a hole?"""
    from ssmd_core.cli.coverage import coverage  # noqa: PLC0415  imported when used

    raise typer.Exit(coverage(place, os.environ, feed=feed, date=date, as_json=as_json))
