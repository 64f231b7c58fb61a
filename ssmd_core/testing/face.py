"""What a venue looks like from outside: the class its author writes, and what that is given."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

__all__ = ["Answer", "Client", "Face", "Handshake", "PlainFace", "Refusal"]


@dataclass(frozen=True, slots=True)
class Handshake:
    """What a client asks for when it connects."""

    path: str
    """Path and query, as sent."""
    headers: Mapping[str, str] = field(repr=False)
    """Upper and lower case of names is the same."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """An HTTP answer in place of a WebSocket."""

    status: int
    body: str = ""
    content_type: str = "application/json"


@dataclass(frozen=True, slots=True)
class Answer:
    """What a plain HTTP request gets."""

    body: bytes
    status: int = 200
    content_type: str = "application/json"


@dataclass(slots=True, eq=False)
class Client:
    """One connection as the venue sees it, kept after it ended.

    The lists hold messages only while the venue keeps them (``keep=True``); counts are
    always right. What was sent may not have arrived when the connection broke.
    """

    number: int
    """From 1, in order of connecting."""
    handshake: Handshake
    keep: bool = True
    state: Any = None
    """What the face's ``new_state`` returned: the face's own memory of this connection."""
    open: bool = True
    close_code: int | None = None
    """The close code that the client sent."""
    sent: list[bytes] = field(default_factory=list, repr=False)
    """Every message that went out, replies and injected ones included, in order."""
    data: list[bytes] = field(default_factory=list, repr=False)
    """Those of them that came from the recording."""
    withheld: list[bytes] = field(default_factory=list, repr=False)
    """What ``skip`` kept back after it had been numbered."""
    commands: list[bytes] = field(default_factory=list, repr=False)
    """What the client sent, in order."""
    pongs: list[bytes] = field(default_factory=list, repr=False)
    sent_count: int = 0
    data_count: int = 0
    sent_bytes: int = 0

    @property
    def digest(self) -> str:
        """SHA-256 of the kept messages sent, each followed by a newline."""
        digest = hashlib.sha256()
        for message in self.sent:
            digest.update(message + b"\n")
        return digest.hexdigest()

    def note_sent(self, messages: Sequence[bytes], *, data: bool) -> None:
        """Count messages that are being written."""
        self.sent_count += len(messages)
        self.sent_bytes += sum(map(len, messages))
        if data:
            self.data_count += len(messages)
        if self.keep:
            self.sent += messages
            if data:
                self.data += messages


class Face(ABC):
    """How one venue behaves. An author writes ``answer``, and what else the venue does.

    A frame of the recording passes ``prepare`` once, ``advance`` once when its time has
    come, and ``render`` once for every client that is listening.
    """

    path: str = "/"
    """Appended to the venue's address; part of ``LoopbackVenue.url``."""
    ping_body: bytes = b""
    subprotocols: Sequence[str] = ()

    def admit(self, handshake: Handshake) -> Refusal | None:  # noqa: ARG002  for overriders
        """Check path and credentials; None lets the client in."""
        return None

    def serve(self, request: Handshake) -> Answer | None:  # noqa: ARG002  for overriders
        """Answer a plain HTTP GET on the same port; None tells it to upgrade to a WebSocket."""
        return None

    def new_state(self) -> Any:
        """Return the memory of a new connection, such as its subscriptions."""
        return None

    @abstractmethod
    def answer(self, command: bytes, client: Client) -> Iterable[bytes]:
        """Return the replies to a message of the client, in order; may change its state."""

    def listening(self, client: Client) -> bool:  # noqa: ARG002  for overriders
        """Say whether the client subscribed to anything: the recording waits for one that did."""
        return True

    def prepare(self, frame: bytes) -> Any:
        """Return what ``render`` wants of a recorded frame; None leaves the frame out."""
        return frame

    def advance(self, item: Any) -> None:
        """Take note that the recording has reached this frame; keeps books, for example."""

    def render(self, item: Any, client: Client) -> bytes | None:  # noqa: ARG002  for overriders
        """Return the frame as this client gets it, numbered, or None if it did not subscribe."""
        frame: bytes = item
        return frame


class PlainFace(Face):
    """A venue that lets everyone in, answers nothing and sends every frame to everyone."""

    def answer(self, command: bytes, client: Client) -> Iterable[bytes]:  # noqa: ARG002  silent
        """Return nothing."""
        return ()
