"""Decides where the text of a schema lies, and loads each one once."""

from __future__ import annotations

import re
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ssmd_core.errors import SchemaError

__all__ = ["find_schema", "load_schema"]

_PLACES = (
    Path(__file__).parent / "files",  # in the wheel
    Path(__file__).parents[2] / "schemas",  # in a checkout
)
_FILE_ID = re.compile(r"^\s*@0x[89a-f][0-9a-f]{15}\s*;", re.MULTILINE | re.IGNORECASE)

_loaded: dict[Path, Any] = {}
_loading = threading.Lock()


def find_schema(name: str, places: Sequence[Path] = _PLACES) -> Path:
    """Return the path of a schema file that comes with ssmd, such as ``trade.capnp``.

    Raises:
        SchemaError: it is in none of the places.
    """
    for place in places:
        path = place / name
        if path.is_file():
            return path
    looked = ", ".join(str(place) for place in places)
    raise SchemaError(f"{name}: no such schema file in {looked}; reinstall ssmd-core")


def load_schema(path: Path) -> Any:
    """Return the pycapnp module of a schema text: its structs are attributes.

    A path is read once per process; later changes of the file are not seen.

    Raises:
        SchemaError: the file is not readable or declares no file id.
    """
    path = path.resolve()
    with _loading:
        module = _loaded.get(path)
        if module is None:
            module = _loaded[path] = _load(path)
        return module


def _load(path: Path) -> Any:
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise SchemaError(f"{path}: cannot read the schema: {error}") from error
    # pycapnp aborts the whole process on this fault, so it is looked for first.
    if not _FILE_ID.search(text):
        raise SchemaError(f"{path}: no file id; make one with `capnp id` and keep it for ever")

    # Late, because importing it costs more than all the rest of a start.
    import capnp  # noqa: PLC0415  heavy, wanted only where a schema is opened

    # A parser of its own: two texts with one file id in the same parser, the global
    # one of the import hook included, abort the process too.
    try:
        return capnp.SchemaParser().load(str(path))
    except (OSError, capnp.KjException) as error:
        raise SchemaError(f"{path}: cannot load the schema: {error}") from error
