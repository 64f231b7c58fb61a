"""``on_archive_failure``: a key of the storage section that is the host's."""

import pytest
from pydantic import BaseModel

from ssmd_core.errors import ConfigError

ENV = """\
name: prod
feed: kalshi
schema: "trade:v1"
transport: {transport_type: memory}
storage:
  storage_type: local
  path: /data
"""


class Disk(BaseModel, extra="forbid"):
    path: str


def test_frames_are_published_on_unless_told_otherwise(load):
    assert load(env=ENV).env.storage.on_archive_failure == "publish"


def test_the_plugin_does_not_see_the_key(load):
    loaded = load(env=f"{ENV}  on_archive_failure: pause\n")
    assert loaded.env.storage.on_archive_failure == "pause"
    assert loaded.storage.validate(Disk, pytest.fail).path == "/data"


@pytest.mark.parametrize("env", [ENV, ENV[: ENV.index("storage:")]])
def test_a_variable_sets_it_and_the_plugin_does_not_see_it(load, env):
    loaded = load(env=env, SSMD_STORAGE__ON_ARCHIVE_FAILURE="pause")
    assert loaded.env.storage.on_archive_failure == "pause"
    assert not loaded.storage.has("on_archive_failure")
    assert loaded.warnings == ()


def test_an_unknown_value_names_the_place_and_what_is_allowed(load):
    with pytest.raises(ConfigError) as caught:
        load(env=f"{ENV}  on_archive_failure: ignore\n")
    assert str(caught.value) == (
        "env.yaml:8: storage.on_archive_failure: `ignore` is not known; allowed: publish, pause"
    )
