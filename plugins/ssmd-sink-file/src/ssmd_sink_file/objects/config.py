"""What the ``storage`` section of an archive in object storage may say."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, ClassVar, Literal, NamedTuple

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ModelWrapValidatorHandler,
    create_model,
    field_validator,
    model_validator,
)

from ssmd_sink_file.config import LocalConfig, Size

__all__ = ["AbfsConfig", "AnyConfig", "GsConfig", "ObjectConfig", "Place", "S3Config"]

_DIRECTORY_PROTOCOLS = frozenset({"file", "local"})
_ALIASES = {"s3a": "s3", "gcs": "gs", "abfss": "abfs", "az": "abfs"}
_ADDRESSED = {"s3": ("region", "endpoint_url"), "gs": ("endpoint_url",)}
"""What may be said of a store beside its bucket, by protocol."""
_SECRETS = ("key", "secret", "token", "username", "password", "account_key", "sas_token")
_PROTOCOL = re.compile(r"([a-z][a-z0-9+.-]*)://(.*)", re.DOTALL | re.IGNORECASE)
_BUCKET = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]*")
_MIB = 1024 * 1024


class Place(NamedTuple):
    """Where objects go."""

    protocol: str
    """As fsspec knows it, aliases resolved."""
    url: str
    """Of the folder that all names are relative to; without a slash at the end."""


class ObjectConfig(BaseModel):
    """A bucket or a URL, and the local directory where parts wait until they are there."""

    # A rejected section is printed: never with the values, a URL may hold a password.
    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    protocol: ClassVar[str] = ""
    """The protocol that a URL must have; empty: any."""

    path: str | None = Field(default=None, min_length=1)
    """A URL, such as ``s3://bucket/prefix``, in place of ``bucket`` and ``prefix``."""
    bucket: str | None = Field(default=None, min_length=1)
    """The bucket; for ``abfs`` the container."""
    prefix: str = ""
    """Folder within the bucket."""
    region: str | None = Field(default=None, min_length=1)
    endpoint_url: str | None = Field(default=None, min_length=1)
    """Address of a store that is not the cloud's own."""
    spool: str = Field(default="./spool", min_length=1)
    """Local directory of what is not uploaded yet; holds the lock, too. Feeds may share it."""
    part_bytes: Size = Field(default=64 * _MIB, ge=1, le=1024 * _MIB)
    """A part is closed when it has so many bytes, before compression."""
    part_seconds: float = Field(default=300.0, gt=0, allow_inf_nan=False)
    """A part is closed when it is so old."""
    compression: Literal["zstd", "gzip"] = "zstd"
    sync_seconds: float = Field(default=0.2, gt=0, allow_inf_nan=False)
    """How often the host calls ``sync``: what a power failure can cost."""
    max_spool_bytes: Size | None = Field(default=None, ge=1)
    """More than this the spool does not take, as if its disk were full; None: until it is."""

    @property
    def place(self) -> Place:
        """Where objects go."""
        if self.path is None:
            return _place(self.protocol or "s3", f"{self.bucket}/{self.prefix}")
        return _place(*_parts(self.path))

    @model_validator(mode="before")
    @classmethod
    def _keep_secrets_out(cls, section: Any) -> Any:
        if isinstance(section, Mapping):
            for key in _SECRETS:
                if key in section:
                    msg = (
                        f"`{key}`: credentials do not stand in this file; they come from the "
                        "store's own chain, such as AWS_ACCESS_KEY_ID, a role of the pod or "
                        "GOOGLE_APPLICATION_CREDENTIALS"
                    )
                    raise ValueError(msg)
        return section

    @field_validator("path")
    @classmethod
    def _is_url(cls, path: str | None) -> str | None:
        if path is None:
            return None
        match = _PROTOCOL.fullmatch(path)
        wanted = f"{cls.protocol or 's3'}://bucket/prefix"
        if match is None or match[1].lower() in _DIRECTORY_PROTOCOLS:
            msg = f"must be a URL, such as {wanted}; a directory goes with `storage_type: local`"
            raise ValueError(msg)
        protocol, rest = _parts(path)
        if cls.protocol not in {"", protocol}:
            msg = f"{protocol}:// does not go with this storage_type: give {wanted}"
            raise ValueError(msg)
        user, at, _ = rest.partition("/")[0].rpartition("@")
        if at and (protocol in _ADDRESSED or ":" in user):
            raise ValueError("credentials do not stand in a URL: take out what is before the `@`")
        if not rest.strip("/"):
            raise ValueError(f"names no bucket: give {wanted}")
        return path

    @field_validator("bucket")
    @classmethod
    def _is_bucket(cls, bucket: str | None) -> str | None:
        if bucket is not None and not _BUCKET.fullmatch(bucket):
            raise ValueError("must be the name of a bucket alone; folders go to `prefix`")
        return bucket

    @field_validator("prefix")
    @classmethod
    def _is_relative(cls, prefix: str) -> str:
        folders = prefix.strip("/")
        if "://" in prefix or any(part in {"", ".", ".."} for part in folders.split("/") if prefix):
            raise ValueError("must be folders within the bucket, such as raw/market-data")
        return folders

    @model_validator(mode="after")
    def _room_for_parts(self) -> ObjectConfig:
        if self.max_spool_bytes is not None and self.max_spool_bytes < 2 * self.part_bytes:
            raise ValueError("`max_spool_bytes` must leave room for two parts of `part_bytes`")
        return self

    @model_validator(mode="after")
    def _one_place(self) -> ObjectConfig:
        if self.path is None and self.bucket is None:
            raise ValueError("says not where to: give `bucket`, or a URL as `path`")
        if self.path is not None:
            for key, value in (("bucket", self.bucket), ("prefix", self.prefix)):
                if value:
                    raise ValueError(f"`{key}` stands in `path` already: keep one")
        allowed = _ADDRESSED.get(self.place.protocol, ())
        for key in ("region", "endpoint_url"):
            if getattr(self, key) is not None and key not in allowed:
                msg = f"`{key}` means nothing to {self.place.protocol}://: remove it"
                raise ValueError(msg)
        return self


class S3Config(ObjectConfig):
    """A bucket of S3 or of a store that speaks its language."""

    protocol: ClassVar[str] = "s3"


class GsConfig(ObjectConfig):
    """A bucket of Google Cloud Storage."""

    protocol: ClassVar[str] = "gs"


class AbfsConfig(ObjectConfig):
    """A container of Azure Blob Storage."""

    protocol: ClassVar[str] = "abfs"


class _Choice(BaseModel):
    """Validates as the section of a directory or of object storage, whichever it asks for."""

    model_config = ConfigDict(hide_input_in_errors=True)

    @model_validator(mode="wrap")
    @classmethod
    def _choose(cls, section: Any, _: ModelWrapValidatorHandler[Any]) -> Any:
        chosen = ObjectConfig if _asks_for_objects(section) else LocalConfig
        return chosen.model_validate(section)


_KEYS: dict[str, Any] = {
    name: (info.annotation, info)
    for model in (ObjectConfig, LocalConfig)
    for name, info in model.model_fields.items()
}
AnyConfig: type[BaseModel] = create_model("AnyConfig", __base__=_Choice, **_KEYS)
"""Every key of both, so that variables and messages know them."""


def _asks_for_objects(section: Any) -> bool:
    """Say whether a section names a bucket, or a URL that is no directory."""
    if not isinstance(section, Mapping):
        return False
    if section.get("bucket") is not None:
        return True
    match = _PROTOCOL.fullmatch(path) if isinstance(path := section.get("path"), str) else None
    return match is not None and match[1].lower() not in _DIRECTORY_PROTOCOLS


def _parts(url: str) -> tuple[str, str]:
    protocol, _, rest = url.partition("://")
    protocol = protocol.lower()
    return _ALIASES.get(protocol, protocol), rest


def _place(protocol: str, rest: str) -> Place:
    return Place(protocol, f"{protocol}://{rest.rstrip('/')}")
