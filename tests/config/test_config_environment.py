import pytest

from ssmd_core.config.environment import load_environment
from ssmd_core.errors import ConfigError

ENV = """\
name: prod
feed: kalshi
schema: "trade:v1"
transport:
  type: nats
  url: nats://bus:4222
"""


@pytest.fixture
def env_file(tmp_path):
    path = tmp_path / "env.yaml"
    path.write_text(ENV)
    return path


def test_an_environment_file_is_read_without_a_feed_file(env_file):
    loaded = load_environment(env_file, {})
    assert (loaded.env.name, loaded.env.feed) == ("prod", "kalshi")
    assert loaded.env.transport.transport_type == "nats"
    assert loaded.transport.data == {"url": "nats://bus:4222"}


def test_variables_stand_over_it(env_file):
    loaded = load_environment(env_file, {"SSMD_TRANSPORT__URL": "nats://other:4222"})
    assert [(item.tokens, item.value) for item in loaded.transport.overrides] == [
        (("url",), "nats://other:4222")
    ]


def test_a_fault_names_the_line(env_file):
    env_file.write_text(ENV + "storge: {}\n")
    with pytest.raises(ConfigError, match=r"env\.yaml:7: storge: unknown key"):
        load_environment(env_file, {})


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(ConfigError, match=r"nowhere\.yaml"):
        load_environment(tmp_path / "nowhere.yaml", {})
