"""Decides who comes in, and hands commands to the face: now, later, or without a reply."""

from __future__ import annotations

from collections.abc import Sequence

import anyio
import anyio.abc

from ssmd_core.testing.face import Answer, Client, Face, Handshake, Refusal
from ssmd_core.testing.http_faults import RequestFaults
from ssmd_core.testing.peer import Peer
from ssmd_core.testing.pulse import Pulse

__all__ = ["Front"]


class Front:
    """The venue as its connections see it. A fault of the face ends the venue loudly."""

    def __init__(self, face: Face, pulse: Pulse, *, compression: bool, keep: bool) -> None:
        self.compression = compression
        self.subprotocols: Sequence[str] = face.subprotocols
        self.clients: list[Client] = []
        self.attempts: list[Handshake] = []
        self.requests: list[Handshake] = []
        self.request_faults = RequestFaults()
        self.peers: list[Peer] = []
        """Connections that were let in and are not over."""
        self.connecting: list[Peer] = []
        self.refusal: Refusal | None = None
        self.reply_delay_seconds = 0.0
        self.replies_to_lose = 0
        self._face = face
        self._pulse = pulse
        self._keep = keep
        self._fault: Exception | None = None
        self._tasks: anyio.abc.TaskGroup | None = None

    async def run(self) -> None:
        """Answer what has to wait, until cancelled.

        Raises:
            Exception: whatever the face raised.
        """
        async with anyio.create_task_group() as self._tasks:
            await self._pulse.until(lambda: self._fault is not None)
            if self._fault is not None:
                raise self._fault

    # ── what peers tell ──────────────────────────────────────────────────────────

    def on_made(self, peer: Peer) -> None:
        """Take note of a TCP connection."""
        self.connecting.append(peer)

    def on_handshake(self, handshake: Handshake) -> Refusal | None:
        """Decide whether the client comes in."""
        self.attempts.append(handshake)
        self._pulse.beat()
        if self.refusal is not None:
            return self.refusal
        try:
            return self._face.admit(handshake)
        except Exception as fault:  # noqa: BLE001  raised again by ``run``
            return self._blame(fault)

    def on_request(self, peer: Peer, request: Handshake) -> bool:
        """Take a plain HTTP request; say whether it gets an answer of its own."""
        faults = self.request_faults
        answer = faults.failure()
        cut = False
        if answer is None:
            answer = self._serve(request)
            if answer is None:
                return False
            answer, cut = faults.spoil(answer)
        self.requests.append(request)
        if faults.delay_seconds and self._tasks is not None:
            self._tasks.start_soon(self._reply_later, peer, answer, cut)
        else:
            peer.reply(answer, cut=cut)
        self._pulse.beat()
        return True

    def on_open(self, peer: Peer, handshake: Handshake) -> Client:
        """Take note of a client that came in, and return its record."""
        client = Client(len(self.clients) + 1, handshake, keep=self._keep)
        client.state = self._face.new_state()
        self.clients.append(client)
        self.connecting.remove(peer)
        self.peers.append(peer)
        self._pulse.beat()
        return client

    def on_message(self, peer: Peer, message: bytes) -> None:
        """Take a whole message of the client."""
        peer.client.commands.append(message)
        if self.reply_delay_seconds and self._tasks is not None:
            self._tasks.start_soon(self._answer_later, peer, message)
        else:
            self._answer(peer, message)
        self._pulse.beat()

    def on_change(self) -> None:
        """Take note that a peer has room again, or answered a ping."""
        self._pulse.beat()

    def on_lost(self, peer: Peer) -> None:
        """Take note that the connection is over."""
        if peer in self.peers:
            self.peers.remove(peer)
            peer.client.open = False
        else:
            self.connecting.remove(peer)
        self._pulse.beat()

    # ── inside ───────────────────────────────────────────────────────────────────

    def _serve(self, request: Handshake) -> Answer | None:
        try:
            return self._face.serve(request)
        except Exception as fault:  # noqa: BLE001  raised again by ``run``
            refusal = self._blame(fault)
            return Answer(refusal.body.encode(), status=refusal.status)

    async def _answer_later(self, peer: Peer, message: bytes) -> None:
        await anyio.sleep(self.reply_delay_seconds)
        self._answer(peer, message)
        self._pulse.beat()

    async def _reply_later(self, peer: Peer, answer: Answer, cut: bool) -> None:  # noqa: FBT001  start_soon takes no keywords
        await anyio.sleep(self.request_faults.delay_seconds)
        peer.reply(answer, cut=cut)

    def _answer(self, peer: Peer, message: bytes) -> None:
        try:
            replies = list(self._face.answer(message, peer.client))
        except Exception as fault:  # noqa: BLE001  raised again by ``run``
            self._blame(fault)
            return
        if self.replies_to_lose:
            self.replies_to_lose -= 1
        else:
            peer.send(replies)

    def _blame(self, fault: Exception) -> Refusal:
        self._fault = fault
        self._pulse.beat()
        return Refusal(500, "the face of the loopback venue failed")
