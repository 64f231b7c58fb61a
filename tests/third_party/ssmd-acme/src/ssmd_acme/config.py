"""What the ``settings`` section of an acme feed may say."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


class AcmeConfig(BaseModel):
    """Which channels, of which markets."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    channels: tuple[Literal["trades", "quotes"], ...] = ("trades", "quotes")
    markets: tuple[str, ...] = Field(default=(), description="empty: all markets")
