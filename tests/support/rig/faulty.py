"""Runs ``ssmd`` on a file system and a clock that fail when told to: ``python -m rig.faulty``.

The first argument is a folder. While it holds a file named after a call below, that call
fails with the errno written in the file for every file under the archive, or with ``HANG``
does not come back before the file is gone; a word behind it picks the paths that hold it.
``clock`` holds seconds that are added to the wall clock.
"""

import errno
import os
import sys
import time
from pathlib import Path

_HANG = "HANG"
_POLL_SECONDS = 0.01
_CALLS = ("write", "fdatasync", "fsync", "open", "ftruncate", "rename")


def _failing(control, name, call, archive):
    switch = control / name

    def wrapped(first, *args, **kwargs):
        fault, _, part = _said(switch).partition(" ")
        if fault and _is_ours(first, archive, part):
            if fault != _HANG:
                number = getattr(errno, fault)
                raise OSError(number, os.strerror(number))
            while _said(switch).startswith(_HANG):
                time.sleep(_POLL_SECONDS)
        return call(first, *args, **kwargs)

    return wrapped


def _said(switch):
    try:
        return switch.read_text().strip()
    except FileNotFoundError:
        return ""


def _is_ours(target, archive, part):
    path = (
        Path(f"/proc/self/fd/{target}").readlink() if isinstance(target, int) else os.fspath(target)
    )
    return str(path).startswith(archive) and part in str(path)


def _moved(control):
    switch, real = control / "clock", time.time_ns

    def moved():
        try:
            return real() + int(float(switch.read_text()) * 1e9)
        except (FileNotFoundError, ValueError):
            return real()

    return moved


def main():
    control, archive, *arguments = sys.argv[1:]
    for name in _CALLS:
        setattr(os, name, _failing(Path(control), name, getattr(os, name), archive))
    time.time_ns = _moved(Path(control))
    from ssmd_core.cli import entry  # noqa: PLC0415  after the calls were replaced

    sys.argv = ["ssmd", *arguments]
    entry()


if __name__ == "__main__":
    main()
