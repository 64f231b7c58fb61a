"""What of a secret must not be read in a text that somebody else wrote."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable

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
        for secret in self._secrets:
            text = _hide(text[: 4 * _LONGEST_TEXT], secret)
        return text if len(text) <= _LONGEST_TEXT else f"{text[:_LONGEST_TEXT]}…"


def _hide(text: str, secret: str) -> str:
    if len(secret) < _SHORTEST:
        return re.sub(rf"(?<!\w){re.escape(secret)}(?!\w)", _MASKED, text)
    pieces: list[str] = []
    at = 0
    while at < len(text):
        end = at + _SHORTEST
        if text[at:end] not in secret or end > len(text):
            pieces.append(text[at])
            at += 1
            continue
        while end < len(text) and text[at : end + 1] in secret:
            end += 1
        pieces.append(_MASKED)
        at = end
    return "".join(pieces)
