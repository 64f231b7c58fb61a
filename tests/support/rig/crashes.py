"""Every state that a crash can leave on a disk, from the system calls of one recorded run.

A killed process leaves all it wrote. A power cut may take what was not synced: of a file
what follows its last fsync, all of it, some of it, or its content and not its length; of a
directory the names since its last fsync.
"""

import os
import threading
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import NamedTuple


class Call(NamedTuple):
    """One system call, or a ``mark`` that the test set between two."""

    name: str
    args: tuple


class State(NamedTuple):
    """What lies on the disk after a crash."""

    files: tuple
    """Pairs of relative path and content."""
    folders: tuple
    calls: int
    """How many calls had come before."""
    how: str

    def write(self, root):
        for folder in sorted(self.folders):
            (root / folder).mkdir()
        for name, data in self.files:
            (root / name).write_bytes(data)


class Recorder:
    """Notes the calls that change what lies under a folder, in order."""

    def __init__(self, root):
        self.root = root
        self.calls = []
        self.during_sync = None
        """Is called once, before the next fsync."""
        self._handles = {}
        self._numbers = count()
        self._lock = threading.RLock()

    def mark(self, name, *args):
        self.calls.append(Call(f"mark {name}", args))

    @contextmanager
    def installed(self):
        real = {name: getattr(os, name) for name in _WRAPPERS}
        for name, wrapper in _WRAPPERS.items():
            setattr(os, name, wrapper(self, real[name]))
        try:
            yield self
        finally:
            for name, call in real.items():
                setattr(os, name, call)

    def note(self, name, *args):
        self.calls.append(Call(name, args))

    def inside(self, path):
        """Return a path relative to the folder, None where it lies elsewhere."""
        if not isinstance(path, (str, os.PathLike)):
            return None
        path = Path(path)
        if not path.is_relative_to(self.root):
            return None
        return "" if path == self.root else str(path.relative_to(self.root))

    def opening(self, call, path, flags, *args, **kwargs):
        with self._lock:
            fd = call(path, flags, *args, **kwargs)
            name = self.inside(path)
            if name is not None:
                handle = self._handles[fd] = next(self._numbers)
                self.note("open", handle, name, flags)
            return fd

    def closing(self, call, fd):
        with self._lock:
            self._handles.pop(fd, None)
            return call(fd)

    def on_handle(self, name, call, fd, *args):
        if name == "sync" and self.during_sync is not None:
            meanwhile, self.during_sync = self.during_sync, None
            meanwhile()
        with self._lock:
            done = call(fd, *args)
            if (handle := self._handles.get(fd)) is not None:
                self.note(name, handle, *(bytes(a)[:done] if name == "write" else a for a in args))
            return done

    def on_paths(self, name, call, *args, **kwargs):
        with self._lock:
            done = call(*args, **kwargs)
            names = [self.inside(path) for path in args[: 2 if name == "rename" else 1]]
            if None not in names:
                self.note(name, *names)
            return done


def _by_handle(name):
    return lambda recorder, call: lambda fd, *args: recorder.on_handle(name, call, fd, *args)


def _by_paths(name):
    return lambda recorder, call: lambda *args, **kw: recorder.on_paths(name, call, *args, **kw)


_WRAPPERS = {
    "open": lambda recorder, call: lambda *args, **kw: recorder.opening(call, *args, **kw),
    "close": lambda recorder, call: lambda fd: recorder.closing(call, fd),
    "write": _by_handle("write"),
    "ftruncate": _by_handle("truncate"),
    "fsync": _by_handle("sync"),
    "fdatasync": _by_handle("sync"),
    "rename": _by_paths("rename"),
    "unlink": _by_paths("unlink"),
    "mkdir": _by_paths("mkdir"),
    "rmdir": _by_paths("rmdir"),
}


class _File:
    def __init__(self, data=b""):
        self.data = data
        self.synced = data

    @property
    def fresh(self):
        """Return what was appended since the last sync; None where it was cut meanwhile."""
        return self.data[len(self.synced) :] if self.data.startswith(self.synced) else None


class _Open:
    def __init__(self, target, flags):
        self.target = target
        self.append = bool(flags & os.O_APPEND)
        self.position = 0


class Disk:
    """Applies calls, and tells what a crash would leave behind each."""

    def __init__(self, state=None):
        self.names = {}
        """Relative path → file, None for a folder."""
        self.handles = {}
        for folder in state.folders if state else ():
            self.names[folder] = None
        for name, data in state.files if state else ():
            self.names[name] = _File(data)
        self.durable = dict(self.names)

    def apply(self, call):
        """Apply one call; say whether a crash behind it differs from one before."""
        match call:
            case Call("open", (handle, name, flags)):
                return self._open(handle, name, flags)
            case Call("write", (handle, data)):
                return self._write(self.handles[handle], data)
            case Call("truncate", (handle, size)):
                file = self.handles[handle].target
                changes = size != len(file.data)
                file.data = file.data[:size]
                return changes
            case Call("sync", (handle,)):
                self._sync(self.handles[handle].target)
            case Call("rename", (old, new)):
                self.names[new] = self.names.pop(old)
            case Call("mkdir", (name,)):
                if name:
                    self.names[name] = None
            case Call("unlink" | "rmdir", (name,)):
                del self.names[name]
            case _:
                return False
        return True

    def _open(self, handle, name, flags):
        fresh = bool(flags & os.O_CREAT and flags & os.O_EXCL)
        if fresh:
            self.names[name] = _File()
        target = name if flags & os.O_DIRECTORY else self.names[name]
        if flags & os.O_TRUNC:
            target.data = b""
        self.handles[handle] = _Open(target, flags)
        return fresh or bool(flags & os.O_TRUNC)

    def _write(self, opened, data):
        file = opened.target
        start = len(file.data) if opened.append else opened.position
        file.data = file.data[:start] + data + file.data[start + len(data) :]
        opened.position = start + len(data)
        return True

    def _sync(self, target):
        if isinstance(target, _File):
            target.synced = target.data
            return
        inside = f"{target}/" if target else ""
        for name in [each for each in self.durable if _parent(each) == target]:
            del self.durable[name]
        for name, file in self.names.items():
            if name.startswith(inside) and _parent(name) == target:
                self.durable[name] = file

    # ── what a crash leaves ──────────────────────────────────────────────────────

    def killed(self, calls, last, cuts):
        """Yield what a killed process leaves: all, or the last write cut short."""
        yield self._state(self.names, calls, "killed", {})
        if last.name == "write":
            file = self.handles[last.args[0]].target
            size = len(last.args[1])
            for n in cuts(last.args[1]):
                shorter = {file: file.data[: len(file.data) - size + n]}
                yield self._state(self.names, calls, f"killed at byte {n} of a write", shorter)

    def cut_off(self, calls, cuts):
        """Yield what a power cut leaves."""
        files = {file for file in self.names.values() if file is not None}
        files |= {file for file in self.durable.values() if file is not None}
        lost = {file: file.synced for file in files}
        yield self._state(self.names, calls, "power cut, nothing unsynced", lost)
        yield self._state(self.durable, calls, "power cut, no unsynced name", lost)
        for names in self._one_name_lost(files):
            yield self._state(names, calls, "power cut, one unsynced name lost", lost)
        for file in files:
            if file.data == file.synced:
                continue
            name = next((name for name, each in self.names.items() if each is file), "")
            yield self._state(
                self.names, calls, f"power cut, {name} alone lost", {file: file.synced}
            )
            kept = {**lost, file: file.data}
            yield self._state(self.names, calls, f"power cut, {name} alone kept", kept)
            if file.fresh:
                for n in cuts(file.fresh):
                    kept = {**lost, file: file.synced + file.fresh[:n]}
                    yield self._state(self.names, calls, f"power cut, {name} at byte {n}", kept)
                zeros = {**lost, file: file.synced + bytes(len(file.fresh))}
                yield self._state(self.names, calls, f"power cut, {name} all zeros", zeros)

    def _one_name_lost(self, files):
        """Yield the names where what became of one file's names alone is undone."""
        for file in files:
            now = {name for name, each in self.names.items() if each is file}
            then = {name for name, each in self.durable.items() if each is file}
            if now == then:
                continue
            names = {name: each for name, each in self.names.items() if name not in now}
            names |= {name: self.durable[name] for name in now if name in self.durable}
            yield names | dict.fromkeys(then, file)

    def _state(self, names, calls, how, contents):
        folders = {name for name, file in names.items() if file is None}
        there = {
            name: contents.get(file, file.data)
            for name, file in names.items()
            if file is not None and (not _parent(name) or _parent(name) in folders)
        }
        return State(tuple(sorted(there.items())), tuple(sorted(folders)), calls, how)


def _parent(name):
    return name.rpartition("/")[0]


def every_state(calls, cuts, unsynced, start=None):
    """Yield each distinct state that a crash behind each call may leave.

    Args:
        calls: those of one run, in order.
        cuts: says of what a call wrote at which bytes a kill cuts it.
        unsynced: says of what was not synced at which bytes a power cut cuts it.
        start: what lay there before the run.
    """
    disk, seen = Disk(start), set()
    for number, call in enumerate(calls, 1):
        if not disk.apply(call):
            continue
        states = [*disk.killed(number, call, cuts), *disk.cut_off(number, unsynced)]
        for state in states:
            key = state.files, state.folders, state.how.startswith("killed")
            if key not in seen:
                seen.add(key)
                yield state
