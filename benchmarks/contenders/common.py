"""What the contenders that are not ssmd have in common: the command they subscribe with."""

from __future__ import annotations

import json

__all__ = ["STREAM", "SUBSCRIBE"]

SUBSCRIBE = json.dumps({"id": 1, "cmd": "subscribe", "params": {"channels": ["ticker", "trade"]}})
STREAM = "PROD_KALSHI"
