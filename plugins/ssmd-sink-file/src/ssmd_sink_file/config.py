"""What the ``storage`` section of a local archive may say."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

__all__ = ["LocalConfig"]

_OBJECT_KEYS = ("bucket", "region", "prefix", "endpoint_url")
_LOCAL_ONLY = "this version archives to local disk only"


class LocalConfig(BaseModel):
    """A directory, and how often what is in it is made durable."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    path: str = Field(default="./data", min_length=1)
    """Root of the archive: a path, or a ``file://`` URL. Several feeds may share it."""
    sync_seconds: float = Field(default=0.2, gt=0, allow_inf_nan=False)
    """How often the host calls ``sync``: what a power failure can cost."""

    @model_validator(mode="before")
    @classmethod
    def _name_what_is_not_here(cls, section: Any) -> Any:
        if isinstance(section, Mapping):
            asked = [key for key in _OBJECT_KEYS if section.get(key) is not None]
            if asked:
                msg = f"`{asked[0]}` asks for object storage; {_LOCAL_ONLY}: give a `path`"
                raise ValueError(msg)
            if "compression" in section:
                msg = "the local archive is not compressed in this version: remove `compression`"
                raise ValueError(msg)
        return section

    @field_validator("path")
    @classmethod
    def _as_local_path(cls, path: str) -> str:
        if "://" not in path:
            return path
        protocol = path.partition("://")[0]
        if protocol not in {"file", "local"}:
            msg = f"`{protocol}://` is object storage; {_LOCAL_ONLY}: give a directory"
            raise ValueError(msg)
        from fsspec.core import url_to_fs  # noqa: PLC0415  heavy, and rarely needed

        return str(url_to_fs(path)[1])
