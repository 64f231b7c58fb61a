"""Who takes part: each contender, what it keeps, and how many frames saturate it."""

from __future__ import annotations

import enum
from dataclasses import dataclass

__all__ = [
    "BARE_FILE",
    "BARE_NATS",
    "CEILING",
    "CRYPTOFEED",
    "NAIVE_FILE",
    "NAIVE_NATS",
    "SATURATED",
    "SSMD_BOTH",
    "SSMD_FILE",
    "SSMD_FILE_PACED",
    "SSMD_FILE_PLAIN",
    "SSMD_NATS",
    "SSMD_NATS_PACED",
    "SSMD_SMALL",
    "Contender",
    "Keeps",
]


class Keeps(enum.Flag):
    """Where a contender's frames end."""

    NOTHING = 0
    FILE = enum.auto()
    BUS = enum.auto()


@dataclass(frozen=True, slots=True)
class Contender:
    """A program that is measured."""

    name: str
    keeps: Keeps
    frames: int
    """Of a saturated run, so that it lasts about two seconds on a usual core."""
    module: str = ""
    """What ``python -m`` runs; empty for the ssmd command."""
    variables: tuple[tuple[str, str], ...] = ()
    """What ssmd's environment holds beside credentials."""
    settings: str = ""
    """More lines of ssmd's transport section."""

    @property
    def is_ssmd(self) -> bool:
        """Whether it is the program that this project is about."""
        return not self.module

    @property
    def is_fed(self) -> bool:
        """Whether the venue sends its frames; the ceiling brings its own."""
        return self.name != CEILING.name


_ROOM = "benchmarks.contenders"
NAIVE_FILE = Contender("naive file", Keeps.FILE, 150_000, f"{_ROOM}.naive_file")
CRYPTOFEED = Contender("cryptofeed", Keeps.NOTHING, 150_000, f"{_ROOM}.cryptofeed_receive")
BARE_FILE = Contender("bare loop, file", Keeps.FILE, 1_000_000, f"{_ROOM}.bare_loop")
BARE_NATS = Contender("bare loop, NATS", Keeps.BUS, 300_000, f"{_ROOM}.bare_loop")
SSMD_FILE_PLAIN = Contender(
    "ssmd file, asyncio", Keeps.FILE, 800_000, variables=(("SSMD_EVENT_LOOP", "asyncio"),)
)
SSMD_FILE = Contender("ssmd file", Keeps.FILE, 800_000)
CEILING = Contender("server ceiling", Keeps.BUS, 300_000, f"{_ROOM}.server_ceiling")
NAIVE_NATS = Contender("naive NATS", Keeps.BUS, 80_000, f"{_ROOM}.naive_nats")
SSMD_NATS = Contender("ssmd NATS", Keeps.BUS, 300_000)
SSMD_BOTH = Contender("ssmd both", Keeps.FILE | Keeps.BUS, 300_000)
_EVERY_MS = (("SSMD_READ_EVERY_MS", "1"),)
SSMD_FILE_PACED = Contender("ssmd file, every ms", Keeps.FILE, 800_000, variables=_EVERY_MS)
SSMD_NATS_PACED = Contender("ssmd NATS, every ms", Keeps.BUS, 300_000, variables=_EVERY_MS)
SSMD_SMALL = Contender(
    "ssmd both, small container",
    Keeps.FILE | Keeps.BUS,
    300_000,
    settings="\n  linger_ms: 10",
    variables=(("SSMD_READ_EVERY_MS", "10"),),
)
SATURATED = (
    NAIVE_FILE,
    CRYPTOFEED,
    BARE_FILE,
    SSMD_FILE_PLAIN,
    SSMD_FILE,
    NAIVE_NATS,
    SSMD_NATS,
    SSMD_BOTH,
    CEILING,
)
