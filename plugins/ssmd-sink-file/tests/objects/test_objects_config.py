"""The ``storage`` section of object storage, and what registers it."""

from __future__ import annotations

import importlib.util
import subprocess
import sys

import pytest
from pydantic import ValidationError

from ssmd_sink_file import plugin
from ssmd_sink_file.config import LocalConfig
from ssmd_sink_file.local.sink import LocalStorage
from ssmd_sink_file.objects.config import (
    AbfsConfig,
    AnyConfig,
    GsConfig,
    ObjectConfig,
    Place,
    S3Config,
)
from ssmd_sink_file.objects.sink import ObjectStorage


@pytest.mark.parametrize(
    ("model", "section", "place"),
    [
        (S3Config, {"bucket": "market"}, Place("s3", "s3://market")),
        (S3Config, {"bucket": "market", "prefix": "/a/b/"}, Place("s3", "s3://market/a/b")),
        (S3Config, {"path": "s3://market/a/"}, Place("s3", "s3://market/a")),
        (S3Config, {"path": "s3a://market"}, Place("s3", "s3://market")),
        (GsConfig, {"bucket": "market"}, Place("gs", "gs://market")),
        (GsConfig, {"path": "gcs://market/a"}, Place("gs", "gs://market/a")),
        (AbfsConfig, {"bucket": "box"}, Place("abfs", "abfs://box")),
        (AbfsConfig, {"path": "az://box/a"}, Place("abfs", "abfs://box/a")),
        (
            AbfsConfig,
            {"path": "abfss://box@account.dfs.core.windows.net/a"},
            Place("abfs", "abfs://box@account.dfs.core.windows.net/a"),
        ),
        (ObjectConfig, {"path": "memory://x/y"}, Place("memory", "memory://x/y")),
    ],
)
def test_a_section_names_one_place(model, section, place):
    assert model.model_validate(section).place == place


def test_what_is_not_said_has_a_default():
    config = S3Config(bucket="market")
    assert (config.spool, config.part_bytes, config.part_seconds) == ("./spool", 67_108_864, 300.0)
    assert (config.compression, config.sync_seconds) == ("zstd", 0.2)


def test_sizes_may_have_units():
    config = S3Config.model_validate(
        {"bucket": "market", "part_bytes": "1MiB", "max_spool_bytes": "2 GB"}
    )
    assert (config.part_bytes, config.max_spool_bytes) == (1_048_576, 2_000_000_000)


@pytest.mark.parametrize(
    ("model", "section", "message"),
    [
        (S3Config, {}, "says not where to: give `bucket`, or a URL as `path`"),
        (S3Config, {"path": "/data"}, "must be a URL, such as s3://bucket/prefix"),
        (S3Config, {"path": "file:///data"}, "goes with `storage_type: local`"),
        (S3Config, {"path": "gs://market"}, "gs:// does not go with this storage_type"),
        (GsConfig, {"path": "s3://market"}, "give gs://bucket/prefix"),
        (S3Config, {"path": "s3://"}, "names no bucket"),
        (S3Config, {"path": "s3://market", "bucket": "b"}, "`bucket` stands in `path` already"),
        (S3Config, {"path": "s3://market", "prefix": "b"}, "`prefix` stands in `path` already"),
        (S3Config, {"bucket": "market/raw"}, "folders go to `prefix`"),
        (S3Config, {"bucket": "s3://market"}, "name of a bucket alone"),
        (S3Config, {"bucket": "market", "prefix": "a//b"}, "folders within the bucket"),
        (S3Config, {"bucket": "market", "prefix": "../b"}, "folders within the bucket"),
        (S3Config, {"bucket": "market", "compression": "none"}, "'zstd' or 'gzip'"),
        (S3Config, {"bucket": "market", "part_seconds": 0}, "greater than 0"),
        (S3Config, {"bucket": "market", "part_seconds": float("inf")}, "finite"),
        (S3Config, {"bucket": "market", "part_bytes": "2GiB"}, "less than or equal to"),
        (S3Config, {"bucket": "market", "max_spool_bytes": 1}, "room for two parts"),
        (S3Config, {"bucket": "market", "buckt": "x"}, "Extra inputs are not permitted"),
        (GsConfig, {"bucket": "market", "region": "eu"}, "`region` means nothing to gs://"),
        (AbfsConfig, {"bucket": "box", "endpoint_url": "u"}, "`endpoint_url` means nothing to ab"),
        (ObjectConfig, {"path": "memory://x", "region": "eu"}, "`region` means nothing to memory"),
    ],
)
def test_a_section_that_cannot_be_served_says_why(model, section, message):
    with pytest.raises(ValidationError) as refusal:
        model.model_validate(section)
    assert message in str(refusal.value)


@pytest.mark.parametrize(
    "section",
    [
        {"bucket": "market", "secret": "hush-hush"},
        {"bucket": "market", "key": "hush-hush"},
        {"path": "s3://me:hush-hush@market/x"},
        {"path": "s3://hush-hush@market/x"},
        {"path": "sftp://me:hush-hush@host/x"},
    ],
)
def test_a_secret_in_the_section_is_refused_and_not_repeated(section):
    with pytest.raises(ValidationError) as refusal:
        ObjectConfig.model_validate(section)
    assert "credentials do not stand in" in str(refusal.value)
    assert "hush-hush" not in str(refusal.value)


# ── local, or not ────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("section", "made"),
    [
        ({}, LocalConfig()),
        ({"path": "/data", "sync_seconds": 1}, LocalConfig(path="/data", sync_seconds=1)),
        ({"path": "file:///data"}, LocalConfig(path="/data")),
        ({"path": "s3://market/a"}, ObjectConfig(path="s3://market/a")),
        ({"path": "memory://x", "spool": "/s"}, ObjectConfig(path="memory://x", spool="/s")),
        ({"bucket": "market", "region": "eu"}, ObjectConfig(bucket="market", region="eu")),
    ],
)
def test_local_with_a_bucket_or_a_url_is_object_storage(section, made):
    assert AnyConfig.model_validate(section) == made


def test_a_bucket_without_a_type_is_of_s3():
    assert AnyConfig.model_validate({"bucket": "market"}).place == Place("s3", "s3://market")


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ({"path": "/data", "region": "eu"}, "`region` asks for object storage"),
        ({"path": "/data", "spool": "/s"}, "Extra inputs are not permitted"),
        ({"path": "s3://market", "keep_days": 3}, "Extra inputs are not permitted"),
        ({"path": "s3://market", "bucket": "b"}, "`bucket` stands in `path` already"),
        ("text", "valid dictionary"),
    ],
)
def test_keys_of_the_other_kind_are_refused(section, message):
    with pytest.raises(ValidationError) as refusal:
        AnyConfig.model_validate(section)
    assert message in str(refusal.value)


def test_the_keys_of_both_are_known():
    assert set(AnyConfig.model_fields) == {*ObjectConfig.model_fields, *LocalConfig.model_fields}


# ── the plugin ───────────────────────────────────────────────────────────────────


def test_the_plugin_registers_a_type_for_each_entry_point():
    assert [kind.name for kind in plugin.ssmd_storages()] == ["local", "s3", "gs", "abfs"]
    assert {kind.api_version for kind in plugin.ssmd_storages()} == {1}


@pytest.mark.parametrize("type_", ["s3", "gs", "abfs"])
def test_each_type_opens_object_storage(told, tmp_path, type_, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: object())
    kind = next(kind for kind in plugin.ssmd_storages() if kind.name == type_)
    config = kind.config.model_validate({"bucket": "market", "spool": str(tmp_path / "spool")})
    assert isinstance(kind.open(told.context(), config), ObjectStorage)


def test_local_opens_what_its_section_asks_for(told, tmp_path):
    local = next(kind for kind in plugin.ssmd_storages() if kind.name == "local")
    directory = local.config.model_validate({"path": str(tmp_path)})
    bucket = local.config.model_validate({"path": "s3://market"})
    assert isinstance(local.open(told.context(), directory), LocalStorage)
    assert isinstance(local.open(told.context(), bucket), ObjectStorage)


def test_validating_a_section_imports_no_store():
    script = (
        "import sys\n"
        "from ssmd_sink_file.plugin import ssmd_storages\n"
        "for kind in ssmd_storages():\n"
        "    kind.config.model_validate({'bucket': 'market'})\n"
        "print([m for m in ('fsspec', 's3fs', 'anyio', 'asyncio') if m in sys.modules])"
    )
    run = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True)
    assert run.stdout == "[]\n"
