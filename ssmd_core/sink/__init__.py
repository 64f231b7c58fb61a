"""Where frames and records go out: contracts, and the memory transport."""

from ssmd_core.sink.contract import *  # noqa: F403  the authors' surface
from ssmd_core.sink.contract import __all__ as __all__
