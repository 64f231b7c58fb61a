"""Where frames come in: contracts, sessions, sequence tracking, the WebSocket driver."""

from ssmd_core.feed.contract import *  # noqa: F403  the authors' surface
from ssmd_core.feed.contract import __all__ as __all__
