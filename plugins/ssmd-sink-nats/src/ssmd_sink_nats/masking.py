"""What of a secret must not be read in a text that somebody else wrote."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Iterable, Iterator

__all__ = ["Mask"]

_MASKED = "***"
_SHORTEST = 6
"""A run of a secret that is so long gives it away; shorter secrets count as a whole."""
_LONGEST_TEXT = 512


class Mask:
    """Hides secrets, and long enough pieces of them, in a text that a peer wrote."""

    __slots__ = ("_secrets",)

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        """Take the secrets as they are; what was sent may also be echoed as JSON."""
        plain = [secret for secret in secrets if secret]
        quoted = [json.dumps(secret)[1:-1] for secret in plain]
        self._secrets = tuple(dict.fromkeys(plain + quoted))

    def __repr__(self) -> str:
        return "Mask()"

    def __call__(self, text: str) -> str:
        """Return the text without them, cut at 512 characters."""
        # Cut last: a cut may leave a piece that is too short to be recognised.
        text = text[: 4 * _LONGEST_TEXT]
        hidden = [False] * len(text)
        for secret in self._secrets:
            for start, end in _pieces(text, secret):
                hidden[start:end] = [True] * (end - start)
        shown = itertools.groupby(range(len(text)), hidden.__getitem__)
        text = "".join(
            _MASKED if masked else "".join(text[at] for at in run) for masked, run in shown
        )
        return text if len(text) <= _LONGEST_TEXT else f"{text[:_LONGEST_TEXT]}…"


def _pieces(text: str, secret: str) -> Iterator[tuple[int, int]]:
    """Yield where a secret stands in a text, or a long enough run of it."""
    if len(secret) < _SHORTEST:
        for match in re.finditer(rf"(?<!\w){re.escape(secret)}(?!\w)", text):
            yield match.span()
        return
    for start in range(len(text) - _SHORTEST + 1):
        if text[start : start + _SHORTEST] in secret:
            yield start, start + _SHORTEST
