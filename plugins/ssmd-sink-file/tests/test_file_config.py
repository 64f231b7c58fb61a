"""The ``storage`` section, and what registers it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from pydantic import ValidationError

from ssmd_sink_file import plugin
from ssmd_sink_file.config import LocalConfig
from ssmd_sink_file.sink import LocalStorage


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
        ({"path": "s3://bucket/x"}, "`s3://` is object storage; this version archives to local"),
        ({"path": "gs://bucket"}, "`gs://` is object storage"),
        ({"bucket": "b", "region": "r"}, "`bucket` asks for object storage; this version"),
        ({"compression": "zstd"}, "not compressed in this version: remove `compression`"),
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


def test_a_config_cannot_be_changed():
    with pytest.raises(ValidationError, match="frozen"):
        LocalConfig().path = "/elsewhere"


def test_the_plugin_registers_local_storage(told, tmp_path):
    (registered,) = plugin.ssmd_storages()
    assert (registered.name, registered.api_version) == ("local", 1)
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
