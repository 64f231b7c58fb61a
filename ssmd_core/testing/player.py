"""Decides when the next frames of a recording are due, and hands them to who listens."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from typing import Any

import anyio.lowlevel

from ssmd_core.testing.face import Face
from ssmd_core.testing.peer import Peer
from ssmd_core.testing.pulse import Pulse
from ssmd_core.testing.recording import Recording

__all__ = ["Pace", "Player"]

_CHUNK = 512
"""Frames between two looks at the event loop."""
_TICK_SECONDS = 0.01
_LONGEST_BURST_SECONDS = 0.25
_ERRORS_RATE = 100.0
"""Frames a second sent in place of a recording without a rate."""


class Pace:
    """How many frames are due, at ``rate`` a second; None is as many as possible.

    Time during which nothing was asked for is made up for by 0.25 s at most.
    """

    def __init__(self, rate: float | None, now: Callable[[], float] = time.monotonic) -> None:
        self._rate = rate
        self._now = now
        self._last = now()
        self._credit = 0.0
        self._extra = 0

    def hurry(self, count: int) -> None:
        """Make ``count`` frames due at once."""
        self._extra += count

    def due(self) -> int:
        """Take the frames that are due, at most 512."""
        if self._extra:
            count = min(self._extra, _CHUNK)
            self._extra -= count
            return count
        if self._rate is None:
            return _CHUNK
        now = self._now()
        most = max(1.0, self._rate * _LONGEST_BURST_SECONDS)
        self._credit = min(self._credit + (now - self._last) * self._rate, most)
        self._last = now
        count = min(int(self._credit), _CHUNK)
        self._credit -= count
        return count


class Player:
    """Plays one recording to all clients at once, as a venue does.

    The recording stands still while nobody listens, and goes no faster than the slowest
    client reads: what was played went out to somebody. With ``waits`` False it goes on
    without listeners once it began.
    """

    def __init__(
        self,
        recording: Recording,
        face: Face,
        peers: Sequence[Peer],
        pulse: Pulse,
    ) -> None:
        self.silent = False
        self.waits = True
        self.instead: bytes | None = None
        self.ended = False
        self.played = 0
        self._items: Iterator[Any] = recording.items(face.prepare)
        self._face = face
        self._peers = peers
        self._pulse = pulse
        self._pace = Pace(recording.rate)
        self._errors_pace = Pace(recording.rate or _ERRORS_RATE)

    def flood(self, count: int) -> None:
        """Make the next ``count`` frames due at once."""
        self._pace.hurry(count)
        self._pulse.beat()

    async def run(self) -> None:
        """Play until cancelled."""
        while True:
            await self._pulse.until(self._may_play)
            if self.instead is not None:
                count = self._errors_pace.due()
                for peer in self._listeners():
                    peer.send([self.instead] * count)
            else:
                count = self._pace.due()
                self._play(list(islice(self._items, count)), count)
            if count:
                await self._pulse.until(self._drained)
                await anyio.lowlevel.checkpoint()
            else:
                await self._pulse.wait(_TICK_SECONDS)

    def _play(self, items: Sequence[Any], wanted: int) -> None:
        face, listeners = self._face, self._listeners()
        outgoing: list[tuple[Peer, list[bytes]]] = [(peer, []) for peer in listeners]
        for item in items:
            face.advance(item)
            for peer, messages in outgoing:
                message = face.render(item, peer.client)
                if message is not None:
                    messages.append(message)
        for peer, messages in outgoing:
            peer.send(messages, data=True)
        self.played += len(items)
        if len(items) < wanted:
            self.ended = True
            self._pulse.beat()

    def _listeners(self) -> list[Peer]:
        listening = self._face.listening
        return [
            peer for peer in self._peers if peer.open and not peer.mute and listening(peer.client)
        ]

    def _may_play(self) -> bool:
        return (
            not self.silent
            and (self.instead is not None or not self.ended)
            and (bool(self._listeners()) or self._may_play_alone())
        )

    def _may_play_alone(self) -> bool:
        return not self.waits and self.played > 0 and self.instead is None

    def _drained(self) -> bool:
        return all(peer.drained for peer in self._peers)
