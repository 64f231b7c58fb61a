"""Decides what the frames of a wake-up say, whatever a feed makes of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ssmd_core.errors import ParseError
from ssmd_core.feed.contract import Feed, FrameKind, Parsed, WebSocketFeed, malformed
from ssmd_core.feed.validity import is_json, is_utf8

__all__ = ["read_fetched", "read_frames"]

_PARSED = frozenset({Parsed})
_MALFORMED = FrameKind.MALFORMED
_NOT_TEXT = Parsed(
    label="not_text", kind=FrameKind.MALFORMED, fault="a binary frame, or text that is not UTF-8"
)


def read_frames(
    feed: WebSocketFeed | Feed,
    frames: list[bytes],
    binary: frozenset[int],
    session: Any,
    *,
    skims: bool = False,
) -> tuple[list[Parsed], frozenset[int]]:
    """Read frames and decide which are not JSON. Total: whatever comes has an answer.

    Args:
        feed: who reads them.
        frames: those of one wake-up.
        binary: positions of binary ones.
        session: whose they are.
        skims: only an archive is fed, and records may be left out.

    Returns:
        One ``Parsed`` a frame, and the positions of the frames to archive as raw bytes.
    """
    unread = binary
    if not all(map(bytes.isascii, frames)):
        unread = binary.union(i for i, data in enumerate(frames) if not is_utf8(data))
    if unread:
        parsed = [
            _NOT_TEXT if i in unread else _read(feed, [data], session)[0]
            for i, data in enumerate(frames)
        ]
    else:
        parsed = _read(feed, frames, session, skims=skims)
    doubtful: Sequence[int] = range(len(frames))
    if feed.strict_json:
        doubtful = [i for i, said in enumerate(parsed) if said.kind is _MALFORMED]
    if doubtful:
        unread = unread.union([i for i in doubtful if i not in unread and not is_json(frames[i])])
    return parsed, unread


def read_fetched(
    feed: WebSocketFeed | Feed, bodies: list[bytes]
) -> tuple[list[Parsed], frozenset[int]]:
    """Read what was fetched over HTTP as ``read_frames`` does what a socket brought."""
    text = [is_utf8(data) for data in bodies]
    parsed = [
        _read_body(feed, data) if readable else _NOT_TEXT
        for data, readable in zip(bodies, text, strict=True)
    ]
    json = [readable and is_json(data) for data, readable in zip(bodies, text, strict=True)]
    return parsed, frozenset(i for i, valid in enumerate(json) if not valid)


def _read(
    feed: WebSocketFeed | Feed, frames: list[bytes], session: Any, *, skims: bool = False
) -> list[Parsed]:
    """Let the feed read text frames. What an override gets wrong is read one by one."""
    try:
        parsed = (feed.skim_batch if skims else feed.parse_batch)(frames, session)
        if len(parsed) == len(frames) and _PARSED.issuperset(map(type, parsed)):
            return parsed
    except Exception:  # noqa: BLE001, S110  said of each frame, below
        pass
    return [_read_one(feed, data, session) for data in frames]


def _read_one(feed: WebSocketFeed | Feed, data: bytes, session: Any) -> Parsed:
    try:
        said: Any = feed.parse(data, session)
    except Exception as error:  # noqa: BLE001  a feed's fault never costs a frame
        return malformed(error)
    return _checked(said, "parse")


def _read_body(feed: WebSocketFeed | Feed, data: bytes) -> Parsed:
    if not isinstance(feed, WebSocketFeed):
        # A feed that does its own I/O delivers what it fetches as frames.
        return malformed(ParseError("this feed fetches nothing through the host"))
    try:
        said: Any = feed.parse_fetched(data)
    except Exception as error:  # noqa: BLE001  a feed's fault never costs a body
        return malformed(error)
    return _checked(said, "parse_fetched")


def _checked(said: Any, method: str) -> Parsed:
    if isinstance(said, Parsed):
        return said
    return malformed(ParseError(f"`{method}` returned {type(said).__name__}, not a Parsed"))
