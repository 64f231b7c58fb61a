"""The command line. Each command's module is imported when the command is used."""

from ssmd_core.cli.main import entry, main

__all__ = ["entry", "main"]
