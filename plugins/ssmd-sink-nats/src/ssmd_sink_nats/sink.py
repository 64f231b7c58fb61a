"""The NATS transport: keeps a connection up and every message in its window until acknowledged."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence

from ssmd_core.errors import CredentialError, TransportUnusable
from ssmd_core.sink import Health, Message, Transport, TransportContext
from ssmd_sink_nats.cluster import Cluster, backoff_seconds, explain
from ssmd_sink_nats.config import NatsConfig
from ssmd_sink_nats.connection import Connection, Ending
from ssmd_sink_nats.envelope import Envelope, Rejected
from ssmd_sink_nats.protocol import Acks, Nack
from ssmd_sink_nats.streams import Finding, Plan, Verdict, look
from ssmd_sink_nats.subjects import Subjects, wanted_subjects
from ssmd_sink_nats.window import Stage, Window

__all__ = ["NatsTransport"]

_OPEN_SECONDS = 3.0
_DIAL_SECONDS = 5.0
_ACK_SECONDS = 5.0
"""A connection whose oldest message waits so long for its answer is dead."""
_STREAM_CHECK_SECONDS = 60.0
_STREAM_RETRY_SECONDS = 2.0
_CALM_SECONDS = 5.0
"""A connection that lived so long starts the backoff anew."""
_SLOW_ATTEMPT = 32
"""Far enough along to wait the longest time at once."""
_CHUNK = 4_096
_CHUNK_BYTES = 1024 * 1024
_WINDOW_BYTES = 32 * 1024 * 1024
_OVERLOADED = 10167
"""The server's queue for the stream is full: slow, not broken."""
_PATIENT_RETRIES = 5
"""So often in a row an overloaded server may say no before it counts as a fault."""
_NEVER = frozenset({10054, 10097})
"""The message or its headers are larger than the stream takes."""
_NO_RESPONDERS = 503


class NatsTransport(Transport):
    """Publishes to JetStream over one connection at a time.

    A new connection first sends the whole window again, in order and with the same
    message ids; the server drops what it has. So nothing taken is lost or stored twice.
    """

    def __init__(self, context: TransportContext, config: NatsConfig) -> None:
        """Read the secrets; open nothing.

        Raises:
            CredentialError: a secret or a certificate is missing or unreadable.
        """
        self._context = context
        self._config = config
        self._cluster = Cluster(config, f"ssmd {context.environment}.{context.feed}")
        self._window = Window(config.window, _WINDOW_BYTES)
        self._envelope = Envelope(Subjects(context.environment, context.feed))
        self._plan = Plan(
            root=f"{context.environment}.{context.feed}",
            wanted=wanted_subjects(context.environment, context.feed, context.kinds),
            only=config.stream,
            create=config.create_stream,
            domain=config.domain,
        )
        self._connection: Connection | None = None
        self._closed = False
        self._fault = "not connected yet"
        """Why the bus cannot be reached; empty while connected."""
        self._stream_fault = ""
        self._nack = ""
        """Why messages are turned down; empty while they are taken."""
        self._overloaded = False
        """The reason for that is load: the bus is slow, not broken."""
        self._short = False
        self._connected_at = 0.0
        self._moved_at = 0.0
        self._attempt = 0
        self._retries = 0
        self._check_at = 0.0
        self._warned_unseen = False
        self._linger: asyncio.TimerHandle | None = None
        self._retry: asyncio.TimerHandle | None = None
        self._wake = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()

    # ── the host's calls ─────────────────────────────────────────────────────────

    async def open(self) -> None:
        """Connect once and look for the stream, within seconds. An unreachable bus is no fault.

        Raises:
            TransportUnusable: the bus refuses us, has no JetStream, or (without an
                archive) no stream for what would be published.
            CredentialError: a secret or a certificate became unreadable.
        """
        try:
            async with asyncio.timeout(_OPEN_SECONDS):
                seconds = _OPEN_SECONDS / len(self._cluster.candidates())
                self._adopt(await self._cluster.connect(self, seconds=seconds))
        except OSError as error:
            self._fault, self._short = explain(error), True
            return
        finding = await self._check_stream()
        unusable = finding.verdict is Verdict.UNUSABLE
        if unusable or (finding.verdict is Verdict.UNCOVERED and not self._context.archived):
            await self.aclose()
            raise TransportUnusable(finding.reason)

    async def run(self) -> None:
        """Keep the connection up and the stream checked until cancelled."""
        while not self._closed:
            self._wake.clear()
            if self._connection is None:
                await self._reconnect()
                continue
            wait = self._check_at - self._now()
            if wait <= 0:
                await self._check_stream()
                continue
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(wait):
                    await self._wake.wait()

    def room(self) -> int:
        """Return how many messages ``publish`` will take now; 0 while the bus is away."""
        room = self._room()
        self._short = self._short or not room
        return room

    def publish(self, messages: Sequence[Message]) -> None:
        """Take messages in order, and write them at once unless told to linger.

        Raises:
            ValueError: more messages than ``window`` may hold.
        """
        if len(messages) > self._config.window - len(self._window):
            raise ValueError(
                f"{len(messages)} messages given, the window has room for {self._window.room}"
            )
        if not messages:
            return
        self._window.take(messages, self._now())
        self._idle.clear()
        if not self._config.linger_ms:
            self._send()
        elif self._linger is None:
            loop = asyncio.get_running_loop()
            self._linger = loop.call_later(self._config.linger_ms / 1_000, self._send)
        self._context.metrics.unacked = len(self._window)
        self._short = self._short or not self._room()

    def oldest_unacked(self) -> int | None:
        """Return the least ``ts`` not acknowledged, None when there is none."""
        return self._window.oldest_ts

    def connected(self) -> bool:
        """Say whether the bus takes messages, be it slowly."""
        return (
            self._connection is not None
            and not self._stream_fault
            and (not self._nack or self._overloaded)
        )

    def health(self) -> Health:
        """Say whether messages are taken and acknowledged, and where and why they are not."""
        fault = self._fault or self._stream_fault
        if not (self._overloaded and self._retries <= _PATIENT_RETRIES):
            fault = fault or self._nack
        if not fault:
            return Health(ok=True)
        told = fault if "://" in fault else f"bus at {self._cluster}: {fault}"
        return Health(ok=False, reason=f"{told}; {len(self._window)} messages unacknowledged")

    async def flush(self) -> None:
        """Return when everything taken is acknowledged. The host bounds the wait."""
        self._send()
        await self._idle.wait()

    async def aclose(self) -> None:
        """Close the connection; what is unacknowledged stays so."""
        self._closed = True
        self._wake.set()
        for timer in (self._linger, self._retry):
            if timer is not None:
                timer.cancel()
        connection, self._connection = self._connection, None
        if connection is not None:
            self._fault = "closed"
            await connection.aclose()

    # ── what a connection tells ──────────────────────────────────────────────────

    def on_acks(self, connection: Connection, acks: Acks) -> None:
        """Take acknowledged messages out of the window."""
        if connection is not self._connection:
            return
        metrics, window = self._context.metrics, self._window
        now, head, accepted = self._now(), window.head, window.oldest_accepted
        stored = window.answered(acks.numbers)
        metrics.published += stored
        metrics.duplicates += acks.duplicates
        if stored and accepted is not None:
            metrics.publish_duration.observe(now - accepted, stored)
        if window.head != head or window.stage is not Stage.FLOWING:
            self._moved_at = now
        self._settle()

    def on_nack(self, connection: Connection, nack: Nack) -> None:
        """Keep a message that was turned down for another turn, or give it up."""
        if connection is not self._connection or self._window.find(nack.number) is None:
            return
        self._moved_at = self._now()
        if nack.err_code in _NEVER:
            self._give_up(nack)
            self._settle()
            return
        self._window.turned_down(nack.number)
        self._short = True
        self._overloaded = nack.err_code == _OVERLOADED
        code = nack.err_code or nack.code
        self._nack = f"it turns messages down: {nack.description} ({code})"
        if nack.code == _NO_RESPONDERS and not nack.err_code:
            self._check_at = 0.0
            self._wake.set()
        self._settle()

    def on_writable(self, connection: Connection) -> None:
        """Go on where the socket was full."""
        if connection is self._connection:
            self._send()
            self._tell_room()

    def on_tick(self, connection: Connection) -> None:
        """Give a connection up that answers nothing."""
        waited = self._now() - self._moved_at
        if connection is self._connection and self._window.in_flight and waited > _ACK_SECONDS:
            connection.end(f"no acknowledgement for {_ACK_SECONDS:g} s")

    def on_closed(self, connection: Connection, ending: Ending) -> None:
        """Note why, and wake ``run`` to connect anew."""
        if connection is not self._connection:
            return
        self._connection, self._short = None, True
        self._cluster.learn(connection)
        self._fault = f"{connection.server.url} is lost: {ending.reason}"
        self._nack = ending.reason if ending.refused else ""
        self._overloaded = False
        if ending.refused:
            self._attempt = _SLOW_ATTEMPT
        elif self._now() - self._connected_at > _CALM_SECONDS:
            self._attempt = 0
        if self._retry is not None:
            self._retry.cancel()
        self._wake.set()

    # ── sending ──────────────────────────────────────────────────────────────────

    def _send(self) -> None:
        """Write what is due, as far as the socket takes it."""
        if self._linger is not None:
            self._linger.cancel()
            self._linger = None
        connection, window = self._connection, self._window
        if connection is None or self._stream_fault:
            return
        rejected: list[Rejected] = []
        while connection.writable and (due := window.next_unsent(_CHUNK, _CHUNK_BYTES)):
            packed = self._envelope.pack(
                due, inbox=connection.inbox, max_payload=connection.info.max_payload
            )
            for lost in packed.rejected:
                window.drop(lost.number)
            if not window.in_flight:
                self._moved_at = self._now()
            out = {lost.number for lost in packed.rejected}
            again = window.sent([number for number, _ in due if number not in out])
            self._context.metrics.publish_retries += again
            if packed.data:
                connection.write(packed.data)
            rejected += packed.rejected
        if rejected:
            self._tell_rejected(rejected)

    def _settle(self) -> None:
        """After answers: time a retry, go on sending, and tell who waits."""
        window = self._window
        stage = window.stage
        if window.settle():
            self._retries += 1
            delay = backoff_seconds(self._retries - 1, least=0.05, most=5.0)
            if self._retry is not None:
                self._retry.cancel()
            self._retry = asyncio.get_running_loop().call_later(delay, self._probe)
        elif stage is Stage.PROBING and window.stage is Stage.FLOWING:
            self._nack, self._retries = "", 0
            self._send()
        self._context.metrics.unacked = len(window)
        if not window:
            self._idle.set()
        self._tell_room()

    def _probe(self) -> None:
        """Try the oldest message again, once the stream is there."""
        if self._window.stage is not Stage.WAITING or self._stream_fault:
            return
        self._window.probe()
        self._send()
        self._settle()  # the message may just have been found too large

    def _give_up(self, nack: Nack) -> None:
        message = self._window.find(nack.number)
        if message is not None:
            self._window.answered((nack.number,))
            reason = f"the stream refused it: {nack.description} ({nack.err_code})"
            self._tell_rejected([Rejected(nack.number, message, "too_large", reason)])

    def _tell_rejected(self, rejected: Sequence[Rejected]) -> None:
        self._context.metrics.unacked = len(self._window)
        if not self._window:
            self._idle.set()
        for lost in rejected:
            self._context.metrics.dropped.add(lost.label)
            self._context.on_rejected(lost.message, lost.reason)

    def _room(self) -> int:
        connection = self._connection
        if connection is None or not connection.writable or self._stream_fault:
            return 0
        return self._window.room if self._window.stage is Stage.FLOWING else 0

    def _tell_room(self) -> None:
        # Told at the first free place, the host would publish single messages: a quarter
        # of the window makes batches, and the rest keeps the server busy meanwhile.
        if self._short and self._room() >= max(1, self._config.window // 4):
            self._short = False
            self._context.on_room()

    # ── connecting ───────────────────────────────────────────────────────────────

    async def _reconnect(self) -> None:
        """Wait as long as failures so far ask, then try every server once."""
        if self._attempt:
            await asyncio.sleep(backoff_seconds(self._attempt - 1, least=0.25, most=10.0))
        self._attempt += 1
        try:
            self._adopt(await self._cluster.connect(self, seconds=_DIAL_SECONDS))
        except (TransportUnusable, CredentialError) as error:
            self._fault, self._attempt = str(error), _SLOW_ATTEMPT
        except OSError as error:
            self._fault = explain(error)

    def _adopt(self, connection: Connection) -> None:
        """Make this the connection, and send the window again, oldest first."""
        self._connection = connection
        self._connected_at = self._moved_at = self._now()
        self._fault = ""
        self._retries = 0
        self._check_at = 0.0
        if self._nack and self._window:
            self._window.probe()  # the last one was cut for what we sent: no hurry
        else:
            self._nack = ""
            self._window.restart()
        self._send()
        self._settle()

    async def _check_stream(self) -> Finding:
        """Look whether a stream takes what is published, and act on what is found."""
        connection = self._connection
        if connection is None:
            return Finding(Verdict.UNAVAILABLE, self._fault)
        self._check_at = self._now() + _STREAM_CHECK_SECONDS
        finding = await look(connection.request, self._plan, connection.server.url)
        if connection is self._connection:
            self._apply(finding)
        return finding

    def _apply(self, finding: Finding) -> None:
        match finding.verdict:
            case Verdict.UNCOVERED | Verdict.UNUSABLE:
                self._stream_fault, self._short = finding.reason, True
                self._check_at = self._now() + _STREAM_RETRY_SECONDS
                return
            case Verdict.UNAVAILABLE:
                # Whoever acknowledges needs no permission from the API to go on.
                self._check_at = self._now() + _STREAM_RETRY_SECONDS
                return
            case Verdict.UNSEEN if not self._warned_unseen:
                self._warned_unseen = True
                self._context.warn(f"{finding.reason}; a missing stream will show only later")
        was_faulty, self._stream_fault = bool(self._stream_fault), ""
        if was_faulty:
            self._send()
            self._probe()
            self._tell_room()

    def _now(self) -> float:
        return asyncio.get_running_loop().time()
