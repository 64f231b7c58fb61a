"""The NATS transport: keeps a connection up and the stream checked, and says how it stands."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence

from ssmd_core.errors import CredentialError, TransportUnusable
from ssmd_core.sink import Health, Message, Stored, Transport, TransportContext
from ssmd_sink_nats.cluster import Cluster, backoff_seconds, explain
from ssmd_sink_nats.config import NatsConfig
from ssmd_sink_nats.connection import Connection, Ending
from ssmd_sink_nats.held import stored_above, stored_among
from ssmd_sink_nats.outage import Outage
from ssmd_sink_nats.protocol import Acks, Nack
from ssmd_sink_nats.reading import Unreadable
from ssmd_sink_nats.sender import Sender
from ssmd_sink_nats.streams import Finding, Plan, Verdict, look
from ssmd_sink_nats.subjects import wanted_subjects

__all__ = ["NatsTransport"]

_OPEN_SECONDS = 3.0
_DIAL_SECONDS = 5.0
_ACK_SECONDS = 5.0
"""A connection whose oldest message waits so long for its answer is dead."""
_ASK_AGAIN_SECONDS = 1.0
_STREAM_CHECK_SECONDS = 60.0
_STREAM_RETRY_SECONDS = 2.0
_CALM_SECONDS = 5.0
"""A connection that lived so long starts the backoff anew."""
_SLOW_ATTEMPT = 32
"""Far enough along to wait the longest time at once."""
_NO_RESPONDERS = 503


class NatsTransport(Transport):
    """Publishes to JetStream over one connection at a time."""

    def __init__(self, context: TransportContext, config: NatsConfig) -> None:
        """Read the secrets; open nothing.

        Raises:
            CredentialError: a secret or a certificate is missing or unreadable.
        """
        self._context = context
        self._config = config
        self._cluster = Cluster(config, f"ssmd {context.environment}.{context.feed}")
        self._sender = Sender(context, config)
        self._plan = Plan(
            root=f"{context.environment}.{context.feed}",
            wanted=wanted_subjects(context.environment, context.feed, context.kinds),
            only=config.stream,
            create=config.create_stream,
            domain=config.domain,
        )
        self._connection: Connection | None = None
        self._closed = False
        self._outage = Outage("not connected yet")
        self._stream_fault = ""
        self._connected_at = 0.0
        self._attempt = 0
        self._check_at = 0.0
        self._warned_unseen = self._warned_unreadable = False
        self._dedupe_seconds = Finding(Verdict.UNSEEN).dedupe_seconds
        self._wake = asyncio.Event()

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
            self._outage.find(explain(error))
            self._sender.detach()
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
            wait = self._check_at - _now()
            if wait <= 0:
                await self._check_stream()
                continue
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(wait):
                    await self._wake.wait()

    def room(self) -> int:
        """Return how many messages ``publish`` will take now; 0 while the bus is away."""
        return self._sender.room()

    def publish(self, messages: Sequence[Message]) -> None:
        """Take messages in order, and write them at once unless told to linger.

        Raises:
            ValueError: more messages than ``window`` may hold.
        """
        self._sender.take(messages)

    def oldest_unacked(self) -> int | None:
        """Return the least ``ts`` not acknowledged, None when there is none."""
        return self._sender.oldest_ts

    def connected(self) -> bool:
        """Say whether the bus takes messages, be it slowly."""
        return not (self._outage or self._stream_fault or self._sender.refused)

    def health(self) -> Health:
        """Say whether messages are taken and acknowledged, and where and why they are not."""
        away = self._outage.told(str(self._cluster)) if self._outage else ""
        fault = away or self._stream_fault or self._sender.fault
        if not fault:
            return Health(ok=True)
        told = fault if "://" in fault else f"bus at {self._cluster}: {fault}"
        return Health(ok=False, reason=f"{told}; {len(self._sender)} messages unacknowledged")

    async def stored(self, after: int | None) -> Stored | None:
        """Look at what the streams hold above a ``ts``, over the connection there is.

        Bounded in memory; None, with a warning, where this user may not read them.
        """
        connection = self._connection
        if connection is None:
            return None
        try:
            return await stored_above(connection, self._plan, after)
        except (PermissionError, Unreadable, ValueError) as error:
            self._warn_unreadable(connection, error)
        except OSError:
            pass  # lost or slow: the connection's own watch says so
        return None

    async def flush(self) -> None:
        """Return when everything taken is acknowledged. The host bounds the wait."""
        await self._sender.flush()

    async def aclose(self) -> None:
        """Close the connection; what is unacknowledged stays so."""
        self._closed = True
        self._wake.set()
        self._sender.close()
        connection, self._connection = self._connection, None
        if connection is not None:
            self._outage.find("closed")
            await connection.aclose()

    # ── what a connection tells; one that was left has no say ────────────────────

    def on_acks(self, connection: Connection, acks: Acks) -> None:
        """Take acknowledged messages out of the window."""
        if connection is self._connection:
            self._sender.acknowledged(acks)

    def on_nack(self, connection: Connection, nack: Nack) -> None:
        """Keep a message that was turned down; where no stream took it, look at once."""
        if connection is not self._connection:
            return
        if nack.code == _NO_RESPONDERS and not nack.err_code:
            self._check_at = 0.0
            self._wake.set()
        self._sender.turned_down(nack)

    def on_forbidden(self, connection: Connection, subject: str) -> bool:
        """Go on without the ledger where only that is forbidden."""
        return connection is self._connection and self._sender.forbidden(subject)

    def on_writable(self, connection: Connection) -> None:
        """Go on where the socket was full."""
        if connection is self._connection:
            self._sender.proceed()

    def on_tick(self, connection: Connection) -> None:
        """Give a connection up that answers nothing."""
        if connection is not self._connection:
            return
        if self._sender.silent_seconds > _ACK_SECONDS:
            connection.end(f"no acknowledgement for {_ACK_SECONDS:g} s")
        elif self._sender.doubts(self._dedupe_seconds):
            connection.end("messages waited so long that they may be stored and forgotten")

    def on_closed(self, connection: Connection, ending: Ending) -> None:
        """Note why, and wake ``run`` to connect anew."""
        if connection is not self._connection:
            return
        self._connection = None
        self._cluster.learn(connection)
        self._outage.find(f"{connection.server.url} is lost: {ending.reason}")
        self._sender.detach(ending.reason if ending.refused else "")
        if ending.refused:
            self._attempt = _SLOW_ATTEMPT
        elif _now() - self._connected_at > _CALM_SECONDS:
            self._attempt = 0
        self._wake.set()

    # ── connecting ───────────────────────────────────────────────────────────────

    async def _reconnect(self) -> None:
        """Wait as long as failures so far ask, then try every server once."""
        if self._attempt:
            seconds = backoff_seconds(self._attempt - 1, least=0.25, most=10.0)
            self._outage.wait(seconds)
            await asyncio.sleep(seconds)
        self._attempt += 1
        self._outage.dial()
        try:
            connection = await self._cluster.connect(self, seconds=_DIAL_SECONDS)
            self._connection, self._connected_at = connection, _now()
            asked = await self._take_out_stored(connection)
            if connection is self._connection:
                self._adopt(connection, asked=asked)
        except (TransportUnusable, CredentialError) as error:
            self._outage.find(str(error))
            self._attempt = _SLOW_ATTEMPT
        except OSError as error:
            self._outage.find(explain(error))

    async def _take_out_stored(self, connection: Connection) -> bool:
        """Take out of the window what the bus stored so long ago that it forgot the ids.

        It drops a message that comes again only for a while; past it, whoever sends again
        without asking stores twice. Asks until it is answered, or may not ask. Return
        whether there was anything to ask.
        """
        doubt = self._sender.doubt(self._dedupe_seconds)
        while doubt is not None and connection is self._connection:
            self._outage.find("connected, and asking what it has stored already")
            try:
                stored = await stored_among(
                    connection, self._plan, doubt.numbers.keys(), doubt.age_seconds
                )
            except (PermissionError, Unreadable, ValueError) as error:
                self._warn_unreadable(connection, error)
                return True
            except OSError:
                await asyncio.sleep(_ASK_AGAIN_SECONDS)
                doubt = self._sender.doubt(self._dedupe_seconds)
            except BaseException:
                connection.end("left while asking what is stored")
                raise
            else:
                self._sender.already_stored(doubt, stored)
                return True
        return False

    def _warn_unreadable(self, connection: Connection, error: Exception) -> None:
        if not self._warned_unreadable:
            self._warned_unreadable = True
            self._context.warn(
                f"this user may not read the streams of {connection.server.url} ({error}); after "
                "an outage longer than a stream's duplicate_window messages may be stored twice: "
                "allow $JS.API.STREAM.NAMES, $JS.API.STREAM.INFO.* and $JS.API.CONSUMER.>"
            )

    def _adopt(self, connection: Connection, *, asked: bool = False) -> None:
        """Make this the connection that is published on."""
        self._connection = connection
        self._connected_at = _now()
        self._outage.find("")
        self._check_at = 0.0
        self._sender.attach(connection, asked=asked)

    async def _check_stream(self) -> Finding:
        """Look whether a stream takes what is published, and act on what is found."""
        connection = self._connection
        if connection is None:
            return Finding(Verdict.UNAVAILABLE, self._outage.fault)
        self._check_at = _now() + _STREAM_CHECK_SECONDS
        finding = await look(connection.request, self._plan, connection.server.url)
        if connection is self._connection:
            self._apply(finding)
        return finding

    def _apply(self, finding: Finding) -> None:
        match finding.verdict:
            case Verdict.UNCOVERED | Verdict.UNUSABLE:
                self._stream_fault = finding.reason
                self._sender.hold()
                self._check_at = _now() + _STREAM_RETRY_SECONDS
                return
            case Verdict.UNAVAILABLE:
                # Whoever acknowledges needs no permission from the API to go on.
                self._check_at = _now() + _STREAM_RETRY_SECONDS
                return
            case Verdict.UNSEEN if not self._warned_unseen:
                self._warned_unseen = True
                self._context.warn(f"{finding.reason}; a missing stream will show only later")
        self._stream_fault = ""
        self._dedupe_seconds = finding.dedupe_seconds
        self._sender.release()


def _now() -> float:
    return asyncio.get_running_loop().time()
