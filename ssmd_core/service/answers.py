"""What each path of the health port says: a status code and a body, from what is true now."""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, NamedTuple

import msgspec

from ssmd_core.service.monitored import Monitored
from ssmd_core.service.redaction import redact

__all__ = ["Answer", "fault", "liveness", "readiness", "status"]


class Answer(NamedTuple):
    """A status code and a JSON body."""

    code: HTTPStatus
    body: bytes


def liveness(subject: Monitored) -> Answer:
    """Answer ``/livez`` and ``/health``: 200 while the event loop turns, whatever else fails."""
    alive = subject.alive()
    body = {
        "status": "ok" if alive.ok else "wedged",
        "feed": subject.name,
        "connected": subject.connected(),
    }
    if alive.ok:
        return _answer(HTTPStatus.OK, body)
    return _answer(HTTPStatus.SERVICE_UNAVAILABLE, body | {"reason": alive.reason})


def readiness(subject: Monitored) -> Answer:
    """Answer ``/readyz`` and ``/ready``: 200 when data flows end to end."""
    now = subject.readiness()
    return _answer(
        HTTPStatus.OK if now.ready else HTTPStatus.SERVICE_UNAVAILABLE,
        {
            "status": "ready" if now.ready else "not_ready",
            "feed": subject.name,
            "connected": subject.connected(),
            "reasons": redact(now.reasons),
            "degraded": redact(now.degraded),
        },
    )


def status(subject: Monitored) -> Answer:
    """Answer ``/status``: everything the subject tells of itself, secrets masked."""
    return _answer(HTTPStatus.OK, redact(subject.status()))


def fault(code: int) -> Answer:
    """Answer a request that no path serves."""
    known = HTTPStatus(code)
    return _answer(known, {"status": "error", "reason": known.phrase.lower()})


def _answer(code: HTTPStatus, body: Mapping[str, Any]) -> Answer:
    return Answer(code, msgspec.json.encode(body, enc_hook=str))
