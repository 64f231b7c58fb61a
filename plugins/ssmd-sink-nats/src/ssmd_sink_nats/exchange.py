"""What is asked of the bus beside publishing, and who gets the answers."""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import Callable
from typing import Any

from ssmd_sink_nats.protocol import (
    Delivery,
    Reply,
    listen_line,
    publish_line,
    request_line,
    unlisten_line,
)

__all__ = ["Exchange", "Listening", "forbidden_subject"]

_STALL_SECONDS = 5.0
"""Several answers may take longer in all, as long as they keep coming."""
_FORBIDDEN = re.compile(r'permissions violation for publish to "([^"]*)"', re.IGNORECASE)
_API = re.compile(r"\$JS\.([^.]+\.)?API\.")


def forbidden_subject(text: str) -> str:
    """Return the subject that a server's complaint says we may not publish to, or nothing."""
    found = _FORBIDDEN.search(text)
    return found[1] if found else ""


class Listening:
    """A subscription of its own, for what has many answers. To be closed."""

    __slots__ = ("_asked", "_done", "_exchange", "_got", "_most", "number", "subject")

    def __init__(self, exchange: Exchange, number: int, subject: str) -> None:
        self._exchange = exchange
        self.number = number
        self.subject = subject
        """Where answers come to."""
        self._asked = ""
        self._got: list[Delivery] = []
        self._most = 0
        self._done: asyncio.Future[None] | None = None

    async def ask(self, subject: str, payload: bytes, *, most: int) -> list[Delivery]:
        """Ask once and return the answers: ``most`` of them, or fewer and a status at their end.

        Raises:
            TimeoutError: for five seconds nothing came.
            PermissionError: this user may not ask that, or not hear the answers.
            ConnectionError: the connection ended.
        """
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._asked, self._got, self._most, self._done = subject, [], most, done
        self._exchange.send(publish_line(subject, self.subject, payload))
        while not done.done():
            before = len(self._got)
            await asyncio.wait((done,), timeout=_STALL_SECONDS)
            if not done.done() and len(self._got) == before:
                raise TimeoutError
        done.result()
        return self._got

    def close(self, farewell: str) -> None:
        """Hear no more, and send an empty message to the subject ``farewell``."""
        self._exchange.unlisten(self, farewell)

    def take(self, delivery: Delivery) -> None:
        """Keep one answer."""
        self._got.append(delivery)
        if delivery.status or len(self._got) >= self._most:
            self.finish(None)

    def concerns(self, complaint: str) -> bool:
        """Say whether a server's complaint, in lower case, is about this."""
        asked = f'publish to "{self._asked}"'.lower()
        return asked in complaint or f'subscription to "{self.subject}"'.lower() in complaint

    def finish(self, error: Exception | None) -> None:
        """Wake who waits, with the answers or an error."""
        if self._done is not None and not self._done.done():
            _finish(self._done, error)


class Exchange:
    """The requests open on one connection."""

    __slots__ = ("_inbox", "_last", "_listenings", "_requests", "send")

    def __init__(self, inbox: str, send: Callable[[bytes], None]) -> None:
        self._inbox = inbox
        self.send = send
        """Writes to the connection; raises ConnectionError once it ended."""
        self._requests: dict[int, tuple[str, asyncio.Future[Reply]]] = {}
        self._listenings: dict[int, Listening] = {}
        self._last = 1
        """The last number given out; 1 is the subscription of the inbox."""

    async def request(self, subject: str, payload: bytes, seconds: float) -> Reply:
        """Ask what has one answer, and wait for it.

        Raises:
            TimeoutError: no answer.
            PermissionError: this user may not ask that.
            ConnectionError: the connection ended.
        """
        self._last = number = self._last + 1
        answer: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
        self.send(request_line(subject, self._inbox, number, payload))
        self._requests[number] = subject, answer
        try:
            async with asyncio.timeout(seconds):
                return await answer
        finally:
            del self._requests[number]

    def listen(self) -> Listening:
        """Open a subscription for what has many answers.

        Raises:
            ConnectionError: the connection ended.
        """
        self._last = number = self._last + 1
        # Two tokens below the inbox, where the subscription for acknowledgements hears one.
        listening = Listening(self, number, f"{self._inbox}.{number}.many")
        self.send(listen_line(listening.subject, number))
        self._listenings[number] = listening
        return listening

    def unlisten(self, listening: Listening, farewell: str) -> None:
        """Close such a subscription."""
        if self._listenings.pop(listening.number, None) is not None:
            with contextlib.suppress(ConnectionError):
                self.send(unlisten_line(listening.number) + publish_line(farewell, "", b""))

    def take(self, answer: Reply | Delivery) -> None:
        """Hand an answer to who waits for it; a late one is for nobody."""
        if isinstance(answer, Delivery):
            if (listening := self._listenings.get(answer.sid)) is not None:
                listening.take(answer)
            return
        _, waiting = self._requests.get(answer.number, ("", None))
        if waiting is not None and not waiting.done():
            waiting.set_result(answer)

    def denied(self, text: str, told: str) -> bool:
        """Say whether a server's complaint is about something asked here, and pass ``told`` on."""
        complaint = text.lower()
        for subject, answer in self._requests.values():
            if f'publish to "{subject}"'.lower() in complaint and not answer.done():
                answer.set_exception(PermissionError(told))
                return True
        for listening in self._listenings.values():
            if listening.concerns(complaint):
                listening.finish(PermissionError(told))
                return True
        # What nobody waits for, such as the end of a consumer, costs no connection.
        return _API.match(forbidden_subject(text)) is not None

    def end(self, reason: str) -> None:
        """Tell everybody who waits that the connection ended."""
        for _, answer in self._requests.values():
            if not answer.done():
                _finish(answer, ConnectionError(reason))
        for listening in self._listenings.values():
            listening.finish(ConnectionError(reason))


def _finish(future: asyncio.Future[Any], error: Exception | None) -> None:
    if error is None:
        future.set_result(None)
        return
    future.set_exception(error)
    future.exception()  # nobody may be waiting, and that is no fault
