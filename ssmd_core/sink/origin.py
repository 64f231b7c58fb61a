"""What the bus is told of a message that is not live."""

from __future__ import annotations

import enum

__all__ = ["Origin"]


class Origin(enum.StrEnum):
    """How a message came to be published, as the header ``Ssmd-Origin`` says; none if live."""

    LIVE = ""
    CATCHUP = "catchup"
    """Read from the log: live once, and published late."""
    BACKFILL = "backfill"
    """Fetched from the venue afterwards."""
    REPLAY = "replay"
    """Published from an archive on somebody's demand."""
