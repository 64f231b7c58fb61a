"""Decides what a Kalshi number is worth: exact integers of 1e-9 dollars or contracts."""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Any, Final

from msgspec import UNSET

from ssmd_core.errors import ParseError

__all__ = ["CENTS", "COUNTS", "DOLLARS", "NumberCache", "hundredths", "scaled"]

_PLACES = 9
_CENT_PLACES = 7
_PLAIN = re.compile(r"(-?)([0-9]{1,40})(?:\.([0-9]*))?")
_LARGEST = 10**40
"""Beyond any wire form, which saturates: a number that large is kept, not refused."""
_SMALLEST_EXPONENT = -40
_LARGEST_EXPONENT = 39
_WHOLE_DIGITS = 40
_POWERS: Final[tuple[int, ...]] = tuple(10**n for n in range(_PLACES + 1))
_KEPT = 8192
"""Few enough to stay in the processor's cache: looking up is what nearly all do."""
_LONGEST_KEPT = 40
_HUNDREDTH = _POWERS[_PLACES - 2]
_SHORTEST_HUNDREDTHS = len("0.01")


def scaled(value: Any, places: int = _PLACES) -> int:
    """Return a JSON scalar times ``10 ** places``, exactly.

    Strings hold plain decimals; numbers come as int or Decimal.

    Raises:
        ParseError: not a number, 10**40 or more, or finer than ``places`` decimals.
    """
    match value:
        case bool():
            pass
        case int() if -_LARGEST < value < _LARGEST:
            return value * _POWERS[places]
        case str():
            return _plain(value, places)
        case Decimal() if value.is_finite() and (
            _SMALLEST_EXPONENT < value.adjusted() <= _LARGEST_EXPONENT
        ):
            return _plain(f"{value:f}", places)
    raise ParseError(f"{_shown(value)} is not a number in range")


def hundredths(value: Any) -> int | None:
    """Return a text with two decimals times 1e9, as ``scaled`` does; None for all else.

    For totals: they grow without end, so that a cache would be filled with what never
    comes again.
    """
    if type(value) is str and _SHORTEST_HUNDREDTHS <= len(value) <= _LONGEST_KEPT:
        digits = value.replace(".", "")
        # One point went, and it stood before two digits.
        if (
            value[-3] == "."
            and len(value) - len(digits) == 1
            and digits.isdecimal()
            and value.isascii()
        ):
            return int(digits) * _HUNDREDTH
    return None


def _plain(text: str, places: int) -> int:
    whole, _, fraction = text.partition(".")
    if len(fraction) <= places and len(whole) <= _WHOLE_DIGITS and text.isascii():
        digits = whole + fraction
        if digits.isdecimal() and whole:
            return int(digits) * _POWERS[places - len(fraction)]
    return _unusual(text, places)


def _unusual(text: str, places: int) -> int:
    found = _PLAIN.fullmatch(text)
    if found is None:
        raise ParseError(f"{_shown(text)} is not a decimal number in range")
    sign, whole, fraction = found[1], found[2], found[3] or ""
    if len(fraction) > places:
        fraction = fraction.rstrip("0")
        if len(fraction) > places:
            raise ParseError(f"{_shown(text)} has more decimals than a record can carry")
    return int(f"{sign}{whole}{fraction:0<{places}}")


def _shown(value: Any) -> str:
    text = value if isinstance(value, str) else type(value).__name__
    return repr(text[:_LONGEST_KEPT])


class NumberCache(dict[Any, int | None]):
    """Scaled numbers by the text the venue sent; ``cache[value]`` reads any scalar.

    What the venue left out, or sent as null or empty, is None. Only short texts are
    kept, because equal numbers of other types (1, True) are not equal readings.
    """

    __slots__ = ("_places",)

    def __init__(self, places: int) -> None:
        super().__init__()
        self._places = places
        self._forget()

    def __missing__(self, value: Any) -> int:
        number = scaled(value, self._places)
        if type(value) is str and len(value) <= _LONGEST_KEPT:
            if len(self) >= _KEPT:
                self._forget()
            self[value] = number
        return number

    def _forget(self) -> None:
        self.clear()
        self.update({None: None, UNSET: None, "": None})


DOLLARS = NumberCache(_PLACES)
"""Prices of the present form."""
COUNTS = NumberCache(_PLACES)
"""Contracts, of any form. Apart from prices, whose few texts they would push out."""
CENTS = NumberCache(_CENT_PLACES)
"""Prices of the legacy form."""
