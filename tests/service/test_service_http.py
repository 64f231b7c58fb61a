from __future__ import annotations

import signal
import sys
from contextlib import asynccontextmanager

import anyio
import httpx
import pytest

from rig.loops import LOOPS
from ssmd_core.service import asgi
from ssmd_core.service.address import bind
from ssmd_core.service.http import serve
from ssmd_core.service.monitored import Readiness
from ssmd_core.sink.contract import Health
from ssmd_core.testing import until

pytestmark = pytest.mark.anyio
on_either_loop = pytest.mark.parametrize("anyio_backend", LOOPS)


PATHS = ["/health", "/livez", "/ready", "/readyz", "/metrics", "/status"]


@asynccontextmanager
async def serving(subject):
    async with anyio.create_task_group() as tasks:
        endpoint = await tasks.start(serve, bind("127.0.0.1", 0), subject)
        async with httpx.AsyncClient(base_url=f"http://{endpoint.address}", timeout=10) as client:
            yield client
        endpoint.stop()


@pytest.mark.parametrize("path", ["/health", "/livez"])
async def test_health_is_the_exact_body_of_the_contract(subject, path):
    async with serving(subject) as client:
        response = await client.get(path)
    assert response.status_code == 200
    assert response.headers["content-type"] == "application/json"
    assert response.text == '{"status":"ok","feed":"kalshi","connected":true}'


async def test_a_venue_that_is_gone_does_not_touch_liveness(subject):
    subject.is_connected = False
    subject.is_ready = Readiness(ready=False, reasons=("venue: not connected",))
    async with serving(subject) as client:
        response = await client.get("/health")
    assert response.status_code == 200
    assert response.text == '{"status":"ok","feed":"kalshi","connected":false}'


@pytest.mark.parametrize("path", ["/health", "/livez"])
async def test_a_wedged_process_is_503_with_the_reason(subject, path):
    subject.is_alive = Health(ok=False, reason="pipeline: no sign of life for 31 s")
    async with serving(subject) as client:
        response = await client.get(path)
    assert response.status_code == 503
    assert response.json() == {
        "status": "wedged",
        "feed": "kalshi",
        "connected": True,
        "reason": "pipeline: no sign of life for 31 s",
    }


@pytest.mark.parametrize("path", ["/ready", "/readyz"])
async def test_ready_is_the_exact_body_of_the_contract(subject, path):
    subject.is_ready = Readiness(ready=True, degraded=("quiet market",))
    async with serving(subject) as client:
        response = await client.get(path)
    assert response.status_code == 200
    assert response.text == (
        '{"status":"ready","feed":"kalshi","connected":true,'
        '"reasons":[],"degraded":["quiet market"]}'
    )


@pytest.mark.parametrize("path", ["/ready", "/readyz"])
async def test_not_ready_is_503_with_its_reasons(subject, path):
    subject.is_connected = False
    subject.is_ready = Readiness(ready=False, reasons=("bus is down", "venue is down"))
    async with serving(subject) as client:
        response = await client.get(path)
    assert response.status_code == 503
    assert response.text == (
        '{"status":"not_ready","feed":"kalshi","connected":false,'
        '"reasons":["bus is down","venue is down"],"degraded":[]}'
    )


async def test_no_reason_shows_the_credentials_in_a_url(subject):
    subject.is_ready = Readiness(ready=False, reasons=("nats://me:hunter2@bus:4222 is down",))
    async with serving(subject) as client:
        response = await client.get("/ready")
    assert response.json()["reasons"] == ["nats://***@bus:4222 is down"]


async def test_status_is_what_the_subject_tells_without_its_secrets(subject):
    subject.tells = {"sessions": [{"conn": 0, "state": "live"}], "bus": {"password": "hunter2"}}
    async with serving(subject) as client:
        response = await client.get("/status")
    assert response.status_code == 200
    assert response.json() == {
        "sessions": [{"conn": 0, "state": "live"}],
        "bus": {"password": "***"},
    }


async def test_metrics_are_prometheus_text(subject):
    subject.metrics.archived = 7
    async with serving(subject) as client:
        response = await client.get("/metrics")
    assert response.status_code == 200
    assert response.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    assert 'ssmd_connector_archived_total{feed="kalshi"} 7.0' in response.text


async def test_head_answers_like_get_without_a_body(subject):
    async with serving(subject) as client:
        answers = {path: await client.head(path) for path in PATHS}
    shown = {path: (made.status_code, made.content) for path, made in answers.items()}
    assert shown == dict.fromkeys(PATHS, (200, b""))


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS"])
async def test_any_other_method_is_405_and_names_what_is_allowed(subject, method):
    async with serving(subject) as client:
        answers = [await client.request(method, path) for path in PATHS]
    for made in answers:
        assert made.status_code == 405
        assert {word.strip() for word in made.headers["allow"].split(",")} == {"GET", "HEAD"}
        assert made.json() == {"status": "error", "reason": "method not allowed"}


@pytest.mark.parametrize("path", ["/", "/healthz", "/health/", "/metrics/x", "/%00"])
async def test_an_unknown_path_is_404_in_json(subject, path):
    async with serving(subject) as client:
        response = await client.get(path)
    assert response.status_code == 404
    assert response.headers["content-type"] == "application/json"
    assert response.json() == {"status": "error", "reason": "not found"}


@on_either_loop
async def test_a_fault_of_the_subject_is_500_and_the_server_goes_on(subject):
    subject.status = lambda: {}["missing"]
    async with serving(subject) as client:
        broken = await client.get("/status")
        healthy = await client.get("/health")
    assert broken.status_code == 500
    assert broken.json() == {"status": "error", "reason": "internal server error"}
    assert healthy.status_code == 200


@on_either_loop
async def test_a_request_made_before_the_server_stands_is_answered(subject):
    sock = bind("127.0.0.1", 0)
    host, port = sock.getsockname()
    async with await anyio.connect_tcp(host, port) as early:
        await early.send(b"GET /health HTTP/1.0\r\n\r\n")
        async with anyio.create_task_group() as tasks:
            endpoint = await tasks.start(serve, sock, subject)
            answer = await early.receive()
            endpoint.stop()
    assert b"200 OK" in answer


@on_either_loop
async def test_a_server_that_is_stopped_before_anybody_asked_returns_and_frees_the_port(subject):
    sock = bind("127.0.0.1", 0)
    port = sock.getsockname()[1]
    with anyio.fail_after(10):
        async with anyio.create_task_group() as tasks:
            endpoint = await tasks.start(serve, sock, subject)
            endpoint.stop()
    bind("127.0.0.1", port).close()


@on_either_loop
async def test_a_server_is_there_after_a_while_although_nobody_asked(subject, monkeypatch):
    monkeypatch.setattr("ssmd_core.service.http._HEAD_START_SECONDS", 0.01)
    made = []
    real = asgi.application
    monkeypatch.setattr(asgi, "application", lambda subject: made.append(subject) or real(subject))
    async with serving(subject):
        await until(lambda: made == [subject])


@on_either_loop
async def test_a_stopped_server_returns_and_frees_the_port(subject):
    sock = bind("127.0.0.1", 0)
    address = sock.getsockname()
    async with anyio.create_task_group() as tasks:
        endpoint = await tasks.start(serve, sock, subject)
        endpoint.stop()
    bind(*address).close()


@on_either_loop
async def test_a_cancelled_server_frees_the_port_although_a_client_stays(subject):
    sock = bind("127.0.0.1", 0)
    address = sock.getsockname()
    async with (
        httpx.AsyncClient(base_url=f"http://127.0.0.1:{address[1]}") as client,
        anyio.create_task_group() as tasks,
    ):
        await tasks.start(serve, sock, subject)
        assert (await client.get("/health")).status_code == 200
        tasks.cancel_scope.cancel()
    bind(*address).close()


@on_either_loop
async def test_the_server_leaves_the_signals_to_the_connector(subject):
    before = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
    async with serving(subject):
        during = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
    assert during == before


async def test_the_web_server_is_imported_only_where_something_serves():
    loaded = (
        "import sys, ssmd_core.service.http; print({'uvicorn', 'starlette'} & set(sys.modules))"
    )
    done = await anyio.run_process([sys.executable, "-c", loaded])
    assert done.stdout == b"set()\n"
