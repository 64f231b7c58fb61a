"""Where cryptofeed runs: in an environment of its own, made by uv for the time of a run.

It stays out of the project's environment, because what it brings along changes how other
libraries there behave.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

__all__ = ["make_environment"]

_SECONDS = 300.0
_PINNED = "cryptofeed==2.4.1"


def make_environment(folder: Path) -> Path | None:
    """Return an interpreter in ``folder`` that can import cryptofeed; None where none can be had.

    The first time it is compiled, which takes half a minute and a C compiler.
    """
    uv, python = shutil.which("uv"), folder / "bin" / "python"
    if uv is None:
        return None
    for command in (
        [uv, "venv", "--quiet", "--python", sys.executable, str(folder)],
        [uv, "pip", "install", "--quiet", "--python", str(python), _PINNED],
    ):
        try:
            subprocess.run(command, capture_output=True, check=True, timeout=_SECONDS)
        except (subprocess.SubprocessError, OSError):
            return None
    return python
