"""Decides how the book of an invented market moves, and that it stays a valid book."""

from __future__ import annotations

import random
import uuid
from dataclasses import dataclass

__all__ = ["CENT", "DOLLAR", "InventedMarket", "random_size", "random_uuid"]

DOLLAR = 10_000
CENT = 100
_CONTRACT = 100
_LEVELS = 8
_FEWEST_LEVELS = 3
_FRACTIONS_SHARE = 0.1
_CHANGES = ("improve", "withdraw", "deepen", "grow", "shrink")
_CHANGE_WEIGHTS = (10, 10, 10, 35, 35)


@dataclass(slots=True)
class InventedMarket:
    """One market. Prices in 1/10,000 dollar, sizes in 1/100 contract."""

    ticker: str
    market_id: str
    tick: int
    yes: dict[int, int]
    """Bids for yes, price → size. The ask is what bids for no leave of the dollar."""
    no: dict[int, int]
    last: int = 0
    last_size: int = 0
    volume: int = 0
    open_interest: int = 0

    @classmethod
    def invent(cls, ticker: str, rng: random.Random) -> InventedMarket:
        """Return a market with a book around a random price."""
        tick = rng.choice((CENT, CENT, CENT // 10))
        middle = rng.randrange(15, 85) * CENT
        bid, ask = middle - tick * rng.randint(1, 2), middle + tick
        yes = {bid - n * tick: random_size(rng) for n in range(_LEVELS)}
        no = {DOLLAR - ask - n * tick: random_size(rng) for n in range(_LEVELS)}
        return cls(ticker, random_uuid(rng), tick, yes, no)

    @property
    def bid(self) -> int:
        """Best bid for yes."""
        return max(self.yes)

    @property
    def ask(self) -> int:
        """Best offer of yes."""
        return DOLLAR - max(self.no)

    def change(self, rng: random.Random) -> tuple[str, int, int]:
        """Change one level; return side, price and signed size."""
        side = rng.choice(("yes", "no"))
        levels = self.yes if side == "yes" else self.no
        price = rng.choice(list(levels))
        change = random_size(rng)
        match rng.choices(_CHANGES, _CHANGE_WEIGHTS)[0]:
            case "improve" if self.bid + self.tick < self.ask:
                price = max(levels) + self.tick
            case "deepen" if min(levels) > self.tick and len(levels) < 2 * _LEVELS:
                price = min(levels) - self.tick
            case "withdraw" if len(levels) > _FEWEST_LEVELS:
                price = rng.choice((max(levels), min(levels)))
                change = -levels[price]
            case "shrink" if levels[price] > 1:
                change = -rng.randrange(1, levels[price])
            case _:
                pass
        levels[price] = levels.get(price, 0) + change
        if not levels[price]:
            del levels[price]
        return side, price, change


def random_size(rng: random.Random) -> int:
    """Return whole contracts mostly, a fraction now and then."""
    if rng.random() < _FRACTIONS_SHARE:
        return rng.randrange(1, 500 * _CONTRACT)
    return rng.randrange(1, 500) * _CONTRACT


def random_uuid(rng: random.Random) -> str:
    """Return a random UUID that the seed decides."""
    return str(uuid.UUID(int=rng.getrandbits(128), version=4))
