"""The bus opened for reading afterwards: what it holds of a feed, in its own order."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Iterator, Sequence

import msgspec

from ssmd_core.errors import TransportUnusable
from ssmd_core.sink.bus import BusReader, StoredMessage
from ssmd_sink_nats.cluster import Cluster, explain
from ssmd_sink_nats.config import NatsConfig
from ssmd_sink_nats.connection import Connection, Ending
from ssmd_sink_nats.exchange import Listening
from ssmd_sink_nats.protocol import Acks, ApiError, Info, Nack, Reply
from ssmd_sink_nats.reading import Selection, Unreadable, read
from ssmd_sink_nats.streams import Plan, StreamInfo, add_command, find_streams
from ssmd_sink_nats.subjects import Subjects

__all__ = ["NatsReader", "browse"]

_DIAL_SECONDS = 5.0
_REQUEST_SECONDS = 10.0
_LIMIT_BYTES = 65 * 1024 * 1024
"""More than the largest message that any server takes."""
_PLACE_BITS = 48
"""Of a sequence; above them stands which of several streams it is."""


@contextlib.asynccontextmanager
async def browse(config: NatsConfig) -> AsyncIterator[NatsReader]:
    """Open the bus for reading for as long as it is entered.

    Raises:
        TransportUnusable: it cannot be reached, or refuses us.
        CredentialError: a secret or a certificate is missing or unreadable.
    """
    cluster = Cluster(config, "ssmd reader", limit_bytes=_LIMIT_BYTES)
    try:
        connection = await cluster.connect(_Deaf(), seconds=_DIAL_SECONDS)
    except OSError as error:
        raise TransportUnusable(f"transport.url: {explain(error)}") from error
    try:
        yield NatsReader(connection, config)
    finally:
        await connection.aclose()


class NatsReader(BusReader):
    """Reads whichever streams hold a feed's subjects; where several do, one after the other."""

    def __init__(self, connection: Connection, config: NatsConfig) -> None:
        self._connection = connection
        self._config = config
        self._source = _Patient(connection)
        self._subjects: dict[tuple[str, str], Subjects] = {}

    def subject(self, environment: str, feed: str, kind: str, ticker: str) -> str:
        """Return the subject of a record."""
        root = environment, feed
        if root not in self._subjects:
            self._subjects[root] = Subjects(environment, feed)
        return self._subjects[root].subject(kind, ticker)

    async def environments(self, feed: str) -> Sequence[str]:
        """Return the environments that have messages of a feed, in alphabetical order.

        Raises:
            TransportUnusable: the bus does not say.
        """
        plan = self._plan("*", feed)
        found: set[str] = set()
        with self._told():
            for info in await self._streams(plan):
                found.update([env async for env in self._environments_in(info, plan)])
        return sorted(found)

    async def messages(
        self, environment: str, feed: str, *, after: int = 0, payloads: bool = False
    ) -> AsyncIterator[Sequence[StoredMessage]]:
        """Yield what is held of ``{environment}.{feed}.>`` at the time of the call.

        ``place`` is the stream's sequence. Where several streams hold the subjects, the
        bits above the 48th are the number of the stream among them, by name, from 0.

        Raises:
            TransportUnusable: no stream takes these subjects, or the bus does not let us.
        """
        plan = self._plan(environment, feed)
        with self._told():
            streams = await self._streams(plan)
            if not streams:
                url = self._connection.server.url
                command = add_command(plan.name, [plan.everything], url)
                raise TransportUnusable(
                    f"no stream at {url} takes {plan.everything}; make one: {command}"
                )
            for number, info in enumerate(streams):
                base = number << _PLACE_BITS
                wanted = Selection(
                    api=plan.api,
                    stream=info.name,
                    subjects=plan.everything,
                    after=max(0, after - base),
                    upto=info.state.last_seq,
                    payloads=payloads,
                )
                if wanted.after >= wanted.upto:
                    continue
                async with contextlib.aclosing(read(self._source, wanted)) as pages:
                    async for page in pages:
                        yield [m._replace(place=base + m.place) for m in page] if base else page

    def _plan(self, environment: str, feed: str) -> Plan:
        root = f"{environment}.{feed}"
        return Plan(root=root, wanted=(), only=self._config.stream, domain=self._config.domain)

    async def _streams(self, plan: Plan) -> list[StreamInfo]:
        found = await find_streams(self._source.request, plan)
        if isinstance(found, ApiError):
            raise Unreadable(f"{found.description} ({found.err_code})")
        return found

    async def _environments_in(self, info: StreamInfo, plan: Plan) -> AsyncIterator[str]:
        """Yield the first tokens of the subjects that a stream holds, each as often as it comes."""
        seen = 0
        while True:
            body = msgspec.json.encode({"subjects_filter": plan.everything, "offset": seen})
            reply = await self._source.request(f"{plan.api}.STREAM.INFO.{info.name}", body)
            told = msgspec.json.decode(reply.payload, type=StreamInfo)
            subjects = told.state.subjects or {}
            for subject in subjects:
                yield subject.partition(".")[0]
            seen += len(subjects)
            if not subjects or seen >= told.total:
                return

    @contextlib.contextmanager
    def _told(self) -> Iterator[None]:
        """Let everything that goes wrong be one exception, with a reason for the operator."""
        url = self._connection.server.url
        try:
            yield
        except PermissionError as error:
            raise TransportUnusable(
                f"transport.user: this user may not read the streams of {url}: {error}; allow "
                "$JS.API.STREAM.NAMES, $JS.API.STREAM.INFO.* and $JS.API.CONSUMER.>"
            ) from error
        except Unreadable as error:
            raise TransportUnusable(f"JetStream at {url} refused: {error}") from error
        except (OSError, ValueError) as error:
            why = explain(error) if isinstance(error, OSError) else str(error)
            raise TransportUnusable(f"JetStream at {url} does not answer: {why}") from error


class _Patient:
    """A connection whose requests may take longer: nothing else waits here."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    @property
    def info(self) -> Info:
        return self._connection.info

    async def request(self, subject: str, payload: bytes) -> Reply:
        return await self._connection.request(subject, payload, seconds=_REQUEST_SECONDS)

    def listen(self) -> Listening:
        return self._connection.listen()


class _Deaf:
    """Publishes nothing, so there is nothing to be told."""

    def on_acks(self, connection: Connection, acks: Acks) -> None:
        pass

    def on_nack(self, connection: Connection, nack: Nack) -> None:
        pass

    def on_forbidden(self, connection: Connection, subject: str) -> bool:  # noqa: ARG002  nor is it
        return True

    def on_writable(self, connection: Connection) -> None:
        pass

    def on_tick(self, connection: Connection) -> None:
        pass

    def on_closed(self, connection: Connection, ending: Ending) -> None:
        pass
