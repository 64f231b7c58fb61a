"""The event loops that a run may have: ``pytest.fixture(params=LOOPS)`` as ``anyio_backend``."""

import importlib.util

import pytest

__all__ = ["LOOPS", "LOOP_NAMES"]

_NO_UVLOOP = importlib.util.find_spec("uvloop") is None
LOOPS = [
    pytest.param(("asyncio", {"use_uvloop": False}), id="asyncio"),
    pytest.param(
        ("asyncio", {"use_uvloop": True}),
        id="uvloop",
        marks=pytest.mark.skipif(_NO_UVLOOP, reason="uvloop is not installed"),
    ),
]
LOOP_NAMES = [pytest.param(each.id, marks=each.marks) for each in LOOPS]
"""The same as ``SSMD_EVENT_LOOP`` spells them."""
