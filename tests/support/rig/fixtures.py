"""Fixtures of the tests that run the program as its users do."""

import pytest

from rig.programs import Archive, Bus, Files, Program, Verbatim
from ssmd_kalshi.venue import KalshiFace, new_key

__all__ = ["anyio_backend", "archive", "bus", "face", "key", "program", "verbatim", "yaml"]


@pytest.fixture
def anyio_backend():
    return "asyncio"


@pytest.fixture(scope="session")
def key():
    return new_key()


@pytest.fixture
def face(key):
    return KalshiFace.for_key(key)


@pytest.fixture
def verbatim(key):
    return Verbatim.for_key(key)


@pytest.fixture
def program(tmp_path, key):
    """Make programs; all are gone after the test."""
    made = []

    def make(**environ):
        folder = tmp_path / f"run{len(made)}"
        folder.mkdir()
        made.append(Program(folder, {**key.environ, **environ}))
        return made[-1]

    yield make
    for each in made:
        each.kill()


@pytest.fixture
def archive(tmp_path):
    return Archive(tmp_path / "data")


@pytest.fixture
def bus(tmp_path):
    with Bus(tmp_path / "nats") as bus:
        yield bus


@pytest.fixture
def yaml():
    return Files
