"""What the ``storage`` section of a local archive may say."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, field_validator, model_validator

from ssmd_sink_file.frames.compress import Compression

__all__ = ["LocalConfig", "Size"]

_OBJECT_KEYS = ("bucket", "region", "prefix", "endpoint_url")
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([KMGT]?)(i?)B?", re.IGNORECASE)
_POWERS = ("", "K", "M", "G", "T")


def _bytes_of(value: Any) -> Any:
    """Read ``10GiB`` or ``500MB``; leave a number as it is."""
    if not isinstance(value, str):
        return value
    match = _SIZE.fullmatch(value.strip())
    if match is None or (match[3] and not match[2]):
        raise ValueError("not a size: give bytes, or a number with a unit such as 10GiB or 500MB")
    base = 1024 if match[3] else 1000
    return int(float(match[1]) * base ** _POWERS.index(match[2].upper()))


Size = Annotated[int, BeforeValidator(_bytes_of)]
"""Bytes, as a number or with a unit."""


class LocalConfig(BaseModel):
    """A directory, how often what is in it is made durable, and how long it is kept."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    path: str = Field(default="./data", min_length=1)
    """Root of the archive: a path, or a ``file://`` URL. Several feeds may share it."""
    sync_seconds: float = Field(default=0.2, gt=0, allow_inf_nan=False)
    """How often the host calls ``sync``: what a power failure can cost."""
    compression: Compression = Compression.NONE
    """Form of what is closed: ``zstd``, ``gzip`` or ``none``. What is open stays plain."""
    part_bytes: Size = Field(default=64 * 1024 * 1024, ge=1)
    """With compression: the plain file is closed when it is so large."""
    keep_days: int | None = Field(default=None, ge=1)
    """So many days before today are kept; None for all."""
    min_free_bytes: Size | None = Field(default=None, ge=1)
    """The oldest days go while the volume has less room than this."""

    @model_validator(mode="before")
    @classmethod
    def _name_what_is_not_here(cls, section: Any) -> Any:
        if isinstance(section, Mapping):
            asked = [key for key in _OBJECT_KEYS if section.get(key) is not None]
            if asked:
                msg = f"`{asked[0]}` asks for object storage, this is a directory: give a `path`"
                raise ValueError(msg)
        return section

    @field_validator("path")
    @classmethod
    def _as_local_path(cls, path: str) -> str:
        if "://" not in path:
            return path
        protocol = path.partition("://")[0]
        if protocol not in {"file", "local"}:
            msg = f"`{protocol}://` is object storage, this is a directory: give a path"
            raise ValueError(msg)
        from fsspec.core import url_to_fs  # noqa: PLC0415  heavy, and rarely needed

        return str(url_to_fs(path)[1])
