"""Which subject a message goes to, and whether a stream's subjects cover it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from urllib.parse import unquote_to_bytes

__all__ = ["STATUS", "Subjects", "covers", "decode_ticker", "encode_ticker", "wanted_subjects"]

STATUS = "status"
"""The kind of the coverage ledger; without a ticker it has no fourth token."""

_EMPTY_TICKER = "%"
_ORDINARY = re.compile(r"[\w-]+(?:\.[\w-]+)*", re.ASCII)
"""Stands verbatim, as nearly all do; one look instead of two."""
_ILLEGAL = re.compile("[ *>%\x00-\x1f\x7f-\x9f\ud800-\udfff]")
"""What cannot stand in a token, or would be read back as something else."""
_MAX_PLAIN_TAIL = 256
_EMPTY_TOKEN_DOT = re.compile(r"^\.|(?<=\.)\.|\.$")


def encode_ticker(ticker: str) -> str:
    """Return the tail of a subject for a ticker; no two tickers share one.

    A legal tail stands verbatim, dots included. Characters that NATS gives a meaning,
    control characters and ``%`` are percent-encoded, and so is every dot that would
    make an empty token. An empty ticker is a lone ``%``.
    """
    if not ticker:
        return _EMPTY_TICKER
    if _ORDINARY.fullmatch(ticker):
        return ticker
    return _close_empty_tokens(_ILLEGAL.sub(_percent, ticker))


def decode_ticker(tail: str) -> str:
    """Return the ticker that ``encode_ticker`` made ``tail`` from."""
    if tail == _EMPTY_TICKER:
        return ""
    return unquote_to_bytes(tail.encode()).decode("utf-8", "surrogatepass")


def _percent(match: re.Match[str]) -> str:
    return "".join(f"%{byte:02X}" for byte in match[0].encode("utf-8", "surrogatepass"))


def _close_empty_tokens(tail: str) -> str:
    # A dot that was just encoded fills its token, so the rule is applied left to right
    # until nothing is empty: "A..B" becomes "A.%2EB", and "..A" becomes "%2E.A".
    while match := _EMPTY_TOKEN_DOT.search(tail):
        tail = f"{tail[: match.start()]}%2E{tail[match.end() :]}"
    return tail


class Subjects:
    """The subjects of one feed in one environment; remembers how tickers stand in them."""

    __slots__ = ("_limit", "_prefix", "plain_tails")

    def __init__(self, environment: str, feed: str, *, limit: int = 131_072) -> None:
        """Remember at most ``limit`` tickers; a venue may list them without end."""
        self._prefix = f"{environment}.{feed}"
        self._limit = limit
        self.plain_tails: dict[str, str] = {}
        """Ticker to tail, for what came lately and is ASCII and short. ``tail`` fills it."""

    def subject(self, kind: str, ticker: str) -> str:
        """Return the subject of a message."""
        if not ticker and kind == STATUS:
            return f"{self._prefix}.{STATUS}"
        return f"{self.lead(kind)}{self.plain_tails.get(ticker) or self.tail(ticker)}"

    def lead(self, kind: str) -> str:
        """Return what stands before the tail in the subjects of a kind."""
        return f"{self._prefix}.{encode_ticker(kind).replace('.', '%2E')}."

    def tail(self, ticker: str) -> str:
        """Return how a ticker stands in a subject."""
        tail = encode_ticker(ticker)
        # Nothing is remembered for the empty ticker: for a status it makes no tail.
        if ticker and tail.isascii() and len(tail) <= _MAX_PLAIN_TAIL:
            if len(self.plain_tails) >= self._limit:
                self.plain_tails.clear()
            self.plain_tails[ticker] = tail
        return tail


def wanted_subjects(environment: str, feed: str, kinds: Iterable[str]) -> tuple[str, ...]:
    """Return the patterns of everything that will be published, ``status`` last."""
    prefix = f"{environment}.{feed}"
    patterns = [f"{prefix}.{kind}.>" for kind in sorted(set(kinds) - {STATUS})]
    return (*patterns, f"{prefix}.{STATUS}")


def covers(stream_subjects: Iterable[str], wanted: str) -> bool:
    """Say whether every subject that ``wanted`` matches is matched by one of the others.

    Both sides may hold the wildcards ``*`` (one token) and a final ``>`` (one or more).
    The subjects of several streams may be given together.
    """
    return _covers([tuple(subject.split(".")) for subject in stream_subjects], wanted.split("."))


def _covers(patterns: Sequence[tuple[str, ...]], wanted: Sequence[str]) -> bool:
    if not wanted:
        return any(not pattern for pattern in patterns)
    if any(pattern == (">",) for pattern in patterns):
        return True
    if not patterns:
        return False
    first, rest = wanted[0], wanted[1:]
    # A wildcard stands for tokens that no pattern names, so only patterns with a
    # wildcard in this place help; for a token that one does name, more would.
    fits = {"*"} if first in {"*", ">"} else {"*", first}
    tails = [pattern[1:] for pattern in patterns if pattern and pattern[0] in fits]
    if first == ">":
        return _covers(tails, ()) and _covers(tails, (">",))
    return _covers(tails, rest)
