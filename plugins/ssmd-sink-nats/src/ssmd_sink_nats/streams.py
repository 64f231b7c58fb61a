"""Whether a stream will take what is going to be published, and what to do when none does."""

from __future__ import annotations

import enum
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import datetime

import msgspec

from ssmd_sink_nats.protocol import ApiError, Reply
from ssmd_sink_nats.subjects import covers

__all__ = [
    "Ask",
    "Finding",
    "Plan",
    "Stream",
    "StreamInfo",
    "StreamState",
    "Verdict",
    "add_command",
    "find_streams",
    "judge",
    "look",
]

Ask = Callable[[str, bytes], Awaitable[Reply]]
"""Puts one request to the JetStream API. Raises TimeoutError, PermissionError, ConnectionError."""

_NOT_ENABLED = frozenset({10039, 10076})
"""JetStream is not enabled for the account, or on the server."""
_NOT_FOUND = 10059
_NO_RESPONDERS = 503
_SERVER_FAULT = 500
_MAX_STREAMS = 64
_MAX_LISTED = 4
_NS = 10**9
_USUAL_WINDOW_SECONDS = 120.0
"""What the server takes for ``duplicate_window`` where nobody says otherwise."""


class Verdict(enum.Enum):
    """What was found."""

    COVERED = "covered"
    UNCOVERED = "uncovered"
    """Something that will be published has no stream: the operator's to mend."""
    UNUSABLE = "unusable"
    """The bus has no JetStream for us."""
    UNSEEN = "unseen"
    """We may not look; acknowledgements will tell."""
    UNAVAILABLE = "unavailable"
    """No answer now; ask again."""


@dataclass(frozen=True, slots=True)
class Finding:
    """What was found, and one sentence on it."""

    verdict: Verdict
    reason: str = ""
    dedupe_seconds: float = _USUAL_WINDOW_SECONDS
    """How long every stream in question remembers message ids."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What is going to be published, and where to."""

    root: str
    """``{env}.{feed}``."""
    wanted: tuple[str, ...]
    """Patterns of subjects, all below ``root``."""
    only: str | None = None
    """The one stream that is to take it all."""
    create: bool = False
    domain: str | None = None

    @property
    def everything(self) -> str:
        """The subject that a stream for this feed has."""
        return f"{self.root}.>"

    @property
    def name(self) -> str:
        """What a new stream is called: the one configured, or the guide's ``{ENV}_{FEED}``."""
        return self.only or self.root.replace(".", "_").upper()

    @property
    def api(self) -> str:
        """The subject that API requests start with."""
        return f"$JS.{self.domain}.API" if self.domain else "$JS.API"


class Stream(msgspec.Struct, frozen=True):
    """The part of a stream's configuration that decides whether it serves us."""

    name: str
    subjects: tuple[str, ...] = ()
    no_ack: bool = False
    sealed: bool = False
    duplicate_window: int = 0
    """How long it remembers message ids, in nanoseconds."""


class StreamState(msgspec.Struct, frozen=True):
    """What a stream holds."""

    messages: int = 0
    first_seq: int = 0
    last_seq: int = 0
    subjects: dict[str, int] | None = None
    """How many messages each subject has, a page of it and where asked for."""


class StreamInfo(msgspec.Struct, frozen=True):
    """A stream as the bus tells of it."""

    error: ApiError | None = None
    config: Stream | None = None
    state: StreamState = StreamState()
    ts: datetime | None = None
    """The time at the server; not told before 2.10."""
    total: int = 0
    """How many subjects there are, where asked for."""

    @property
    def name(self) -> str:
        """The stream's name."""
        return self.config.name if self.config is not None else ""


class _Names(msgspec.Struct, frozen=True):
    error: ApiError | None = None
    streams: tuple[str, ...] | None = None


# ── decisions ────────────────────────────────────────────────────────────────────


def judge(plan: Plan, streams: Sequence[Stream], url: str) -> Finding:
    """Say whether ``streams``, those that touch our subjects, take everything wanted."""
    serving = [stream for stream in streams if plan.only in {None, stream.name}]
    for stream in serving:
        if stream.no_ack or stream.sealed:
            why = "acknowledges nothing (no_ack)" if stream.no_ack else "is sealed"
            return Finding(
                Verdict.UNCOVERED,
                f"stream {stream.name} at {url} {why}, and only what is acknowledged counts; "
                "edit the stream or make another",
            )
    subjects = [subject for stream in serving for subject in stream.subjects]
    missing = tuple(wanted for wanted in plan.wanted if not covers(subjects, wanted))
    if not missing:
        names = ", ".join(stream.name for stream in serving)
        windows = [stream.duplicate_window / _NS for stream in serving]
        return Finding(Verdict.COVERED, names, min(windows, default=_USUAL_WINDOW_SECONDS))
    return Finding(Verdict.UNCOVERED, _mend(plan, streams, missing, url))


def add_command(name: str, subjects: Sequence[str], url: str) -> str:
    """Return the command that makes a stream as the deployment guide does."""
    return (
        f'nats stream add {name} --subjects "{",".join(subjects)}" --retention limits '
        f"--max-age 1h --storage file --replicas 1 --discard old --defaults -s {url}"
    )


def _mend(plan: Plan, streams: Sequence[Stream], missing: tuple[str, ...], url: str) -> str:
    lacking = ", ".join(missing)
    fault = (
        f"no stream at {url} takes {lacking}"
        if plan.only is None
        else f"stream {plan.only} (transport.stream) at {url} does not take {lacking}"
    )
    if not streams:
        return f"{fault}; make one: {add_command(plan.name, [plan.everything], url)}"
    there = "; ".join(f"{s.name} takes {', '.join(s.subjects)}" for s in streams[:_MAX_LISTED])
    if plan.only is not None and plan.only not in {stream.name for stream in streams}:
        return f"{fault}: there is no such stream, but {there}; correct transport.stream"
    # Two streams may not share a subject: one for everything would be refused.
    taken = {stream.name for stream in streams}
    name = f"{plan.name}_MORE" if plan.name in taken else plan.name
    widened = plan.only or streams[0].name
    edit = f'nats stream edit {widened} --subjects "{plan.everything}" -s {url}'
    if plan.only is not None:
        return f"{fault} ({there}); widen it: {edit}"
    return f"{fault} ({there}); widen it: {edit}; or: {add_command(name, missing, url)}"


def _from_error(error: ApiError, url: str) -> Finding:
    text = f"{error.description} ({error.err_code})"
    if error.err_code in _NOT_ENABLED:
        return Finding(
            Verdict.UNUSABLE,
            f"JetStream at {url} is not enabled for this account: {text}; enable it at the bus",
        )
    if error.code >= _SERVER_FAULT:
        return Finding(Verdict.UNAVAILABLE, f"JetStream at {url} is not ready: {text}")
    return Finding(Verdict.UNCOVERED, f"JetStream at {url} refused: {text}")


# ── effects ──────────────────────────────────────────────────────────────────────


async def look(ask: Ask, plan: Plan, url: str) -> Finding:
    """Ask the bus for its streams, create ours where that is wanted, and judge them.

    What the bus says, or fails to say, is a finding and never raised.
    """
    try:
        infos = await find_streams(ask, plan)
        if isinstance(infos, ApiError):
            return _from_error(infos, url)
        found = [info.config for info in infos if info.config is not None]
        if plan.create and not found:
            created = await _create(ask, plan)
            if isinstance(created, ApiError):
                return _from_error(created, url)
            found = [created]
    except PermissionError as error:
        return Finding(Verdict.UNSEEN, f"this user may not look at the streams of {url}: {error}")
    except (OSError, ValueError) as error:
        why = "no answer in time" if isinstance(error, TimeoutError) else str(error)
        return Finding(Verdict.UNAVAILABLE, f"JetStream at {url} does not answer: {why}")
    return judge(plan, found, url)


async def find_streams(ask: Ask, plan: Plan) -> list[StreamInfo] | ApiError:
    """Return every stream that touches our subjects, and the one configured, by name."""
    names = {plan.only} if plan.only else set()
    body = msgspec.json.encode({"subject": plan.everything})
    reply = await ask(f"{plan.api}.STREAM.NAMES", body)
    if reply.status == _NO_RESPONDERS:
        where = f" in domain {plan.domain} (transport.domain)" if plan.domain else ""
        return ApiError(err_code=10076, description=f"nothing answers{where}; nats-server -js")
    listed = msgspec.json.decode(reply.payload, type=_Names)
    if listed.error is not None:
        return listed.error
    names.update(listed.streams or ())
    streams: list[StreamInfo] = []
    for name in sorted(names)[:_MAX_STREAMS]:
        reply = await ask(f"{plan.api}.STREAM.INFO.{name}", b"")
        info = msgspec.json.decode(reply.payload, type=StreamInfo)
        if info.config is not None:
            streams.append(info)
        elif info.error is not None and info.error.err_code != _NOT_FOUND:
            return info.error
    return streams


async def _create(ask: Ask, plan: Plan) -> Stream | ApiError:
    config = {
        "name": plan.name,
        "subjects": [plan.everything],
        "retention": "limits",
        "max_age": 3600 * _NS,
        "storage": "file",
        "num_replicas": 1,
        "discard": "old",
        "max_consumers": -1,
        "max_msgs": -1,
        "max_bytes": -1,
    }
    reply = await ask(f"{plan.api}.STREAM.CREATE.{plan.name}", msgspec.json.encode(config))
    info = msgspec.json.decode(reply.payload, type=StreamInfo)
    if info.config is not None:
        return info.config
    return info.error or ApiError(code=_SERVER_FAULT, description="an answer without a stream")
