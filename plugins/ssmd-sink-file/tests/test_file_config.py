"""The ``storage`` section, and what registers it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from pydantic import ValidationError

from ssmd_sink_file import plugin
from ssmd_sink_file.config import LocalConfig
from ssmd_sink_file.local.sink import LocalStorage


def test_a_path_is_taken_as_it_is():
    assert LocalConfig(path="/data").path == "/data"


def test_without_a_path_it_is_the_data_directory_here(told):
    assert LocalConfig() == LocalConfig(path="./data", sync_seconds=0.2)
    assert LocalStorage(told.context(), LocalConfig()).root == Path.cwd() / "data"


@pytest.mark.parametrize("url", ["file:///data/raw", "local:///data/raw"])
def test_a_file_url_is_its_path(url):
    assert LocalConfig(path=url).path == "/data/raw"


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ({"path": "s3://bucket/x"}, "`s3://` is object storage, this is a directory: give a path"),
        ({"path": "gs://bucket"}, "`gs://` is object storage"),
        ({"bucket": "b", "region": "r"}, "`bucket` asks for object storage, this is a directory"),
        ({"compression": "lz4"}, "should be 'none', 'zstd' or 'gzip'"),
        ({"part_bytes": 0}, "greater than or equal to 1"),
        ({"part_bytes": "64 elephants"}, "such as 10GiB or 500MB"),
        ({"keep_days": 0}, "greater than or equal to 1"),
        ({"min_free_bytes": "-1"}, "such as 10GiB or 500MB"),
        ({"min_free_bytes": "1iB"}, "such as 10GiB or 500MB"),
        ({"path": ""}, "at least 1 character"),
        ({"sync_seconds": 0}, "greater than 0"),
        ({"sync_seconds": float("inf")}, "finite"),
        ({"pth": "/data"}, "Extra inputs are not permitted"),
    ],
)
def test_a_section_that_cannot_be_served_says_why(section, message):
    with pytest.raises(ValidationError) as refusal:
        LocalConfig.model_validate(section)
    assert message in str(refusal.value)


@pytest.mark.parametrize(
    ("written", "meant"),
    [(7, 7), ("7", 7), ("7B", 7), ("10GiB", 10 * 2**30), ("1.5 mb", 1_500_000), ("2T", 2 * 10**12)],
)
def test_a_size_is_a_number_or_has_a_unit(written, meant):
    config = LocalConfig.model_validate({"min_free_bytes": written, "part_bytes": written})
    assert (config.min_free_bytes, config.part_bytes) == (meant, meant)


def test_a_config_cannot_be_changed():
    with pytest.raises(ValidationError, match="frozen"):
        LocalConfig().path = "/elsewhere"


def test_the_plugin_registers_local_storage(told, tmp_path):
    registered = next(kind for kind in plugin.ssmd_storages() if kind.name == "local")
    assert registered.api_version == 1
    config = registered.config.model_validate({"path": str(tmp_path / "new")})
    assert isinstance(registered.open(told.context(), config), LocalStorage)
    assert not (tmp_path / "new").exists(), "opening a plugin opens nothing"


def test_the_plugin_module_is_light():
    script = (
        "import sys, ssmd_sink_file.plugin;"
        "print([m for m in ('fsspec', 'anyio', 'asyncio') if m in sys.modules])"
    )
    run = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True)
    assert run.stdout == "[]\n"
