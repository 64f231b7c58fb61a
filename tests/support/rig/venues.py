"""What the loopback venue plays in fault scenarios."""

import time

from ssmd_core.testing import Recording
from ssmd_kalshi.venue import market_names, session


def now_ms():
    return time.time_ns() // 1_000_000


def live_recording(rate, *, markets=20, seed=1):
    """Return an endless session at so many frames a second, stamped with the present time."""
    return Recording(session(seed, market_names(markets), now_ms=now_ms), rate=rate)
