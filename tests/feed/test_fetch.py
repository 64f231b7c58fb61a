"""One GET over real sockets: what comes back, and every way in which it does not."""

import asyncio
import ipaddress
import ssl
import threading
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta

import anyio
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ed25519
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from ssmd_core.errors import FetchFailed
from ssmd_core.feed.fetch import get
from ssmd_core.feed.repair import Fetch
from ssmd_core.testing import Answer, LoopbackVenue, PlainFace, until

pytestmark = pytest.mark.anyio

BODY = b'{"trades":[%b]}' % b",".join(b"%d" % n for n in range(5_000))


class Library(PlainFace):
    """Answers every path with one body."""

    answer_with = Answer(BODY)

    def serve(self, request):
        return self.answer_with


def fetch_of(venue, **options):
    return Fetch(url=f"http://127.0.0.1:{venue.port}/past?key=s3cr3t", **options)


@pytest.fixture
async def venue():
    async with LoopbackVenue([], Library()) as serving:
        yield serving


async def failure_of(fetch):
    with pytest.raises(FetchFailed) as failed:
        await get(fetch)
    assert "s3cr3t" not in str(failed.value)
    return failed.value


@asynccontextmanager
async def raw_server(write, context=None):
    """A server that reads a request and writes what it likes."""

    async def serve(reader, writer):
        try:
            await reader.readuntil(b"\r\n\r\n")
            await write(writer)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()


async def test_the_body_comes_back_byte_for_byte(venue):
    assert await get(fetch_of(venue)) == BODY


async def test_the_headers_of_the_feed_are_sent_and_we_say_who_asks(venue):
    await get(fetch_of(venue, headers={"X-Asked-By": "feed"}))
    (request,) = venue.requests
    assert request.path == "/past?key=s3cr3t"
    assert request.headers["X-Asked-By"] == "feed"
    assert request.headers["User-Agent"].startswith("ssmd/")


@pytest.mark.parametrize(
    ("status", "lasting"),
    [(400, True), (401, True), (404, True), (410, True), (429, False), (500, False), (503, False)],
)
async def test_a_status_says_whether_asking_again_helps(venue, status, lasting):
    venue.fail_requests(status)
    failure = await failure_of(fetch_of(venue))
    assert str(status) in str(failure)
    assert failure.lasting is lasting
    assert await get(fetch_of(venue)) == BODY


async def test_a_redirect_is_not_followed():
    visited = []

    async def elsewhere(writer):
        visited.append(True)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")

    async with raw_server(elsewhere) as target:

        async def redirect(writer):
            writer.write(b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:%d/\r\n\r\n" % target)

        async with raw_server(redirect) as port:
            failure = await failure_of(Fetch(url=f"http://127.0.0.1:{port}/"))
    assert "redirect" in str(failure)
    assert failure.lasting
    assert visited == []


async def test_a_body_beyond_its_bound_is_not_taken(venue):
    assert await get(fetch_of(venue, max_bytes=len(BODY))) == BODY
    failure = await failure_of(fetch_of(venue, max_bytes=len(BODY) - 1))
    assert failure.lasting


async def test_a_body_that_is_cut_off_is_told_from_a_whole_one(venue):
    venue.cut_requests(1)
    assert not (await failure_of(fetch_of(venue))).lasting


async def test_a_body_that_ends_early_in_good_order_is_told_from_a_whole_one():
    async def write(writer):
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{}")

    async with raw_server(write) as port:
        failure = await failure_of(Fetch(url=f"http://127.0.0.1:{port}/"))
    assert "2 of 100" in str(failure)


async def test_a_silent_venue_is_given_up_in_time(venue):
    venue.delay_requests(30)
    with anyio.fail_after(10):
        failure = await failure_of(fetch_of(venue, timeout_seconds=0.2))
    assert not failure.lasting


async def test_a_body_that_trickles_is_given_up_in_time():
    async def trickle(writer):
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
        while True:
            writer.write(b" ")
            await writer.drain()
            await anyio.sleep(0.02)

    async with raw_server(trickle) as port:
        with anyio.fail_after(10):
            await failure_of(Fetch(url=f"http://127.0.0.1:{port}/", timeout_seconds=0.3))
        # The thread that was left alone sees for itself that its time is up.
        await until(lambda: not fetching())


def fetching():
    return [thread for thread in threading.enumerate() if thread.name == "ssmd-fetch"]


async def test_who_is_cancelled_does_not_wait_for_the_thread(venue):
    venue.delay_requests(30)
    with anyio.fail_after(10), anyio.move_on_after(0.1) as scope:
        await get(fetch_of(venue, timeout_seconds=60))
    assert scope.cancelled_caught
    assert all(thread.daemon for thread in fetching())


async def test_a_port_where_nobody_listens_may_be_asked_again(venue):
    fetch = fetch_of(venue)
    venue.go_down()
    assert not (await failure_of(fetch)).lasting


@pytest.mark.parametrize(
    "url",
    [
        "file:///etc/hostname?s3cr3t",
        "ftp://127.0.0.1/s3cr3t",
        "http://user:s3cr3t@127.0.0.1/",
        "http://127.0.0.1:1/s3cr3t and spaces",
        "nowhere/s3cr3t",
        "",
    ],
)
async def test_what_is_no_address_of_a_venue_is_refused_without_being_repeated(url):
    assert (await failure_of(Fetch(url=url))).lasting


async def test_a_header_that_would_break_the_request_is_refused_without_being_repeated(venue):
    fetch = fetch_of(venue, headers={"X-Key": "s3cr3t\r\nX-Other: 1"})
    assert (await failure_of(fetch)).lasting
    assert len(venue.requests) == 0


async def test_a_certificate_of_nobody_is_not_accepted(tmp_path):
    seen = []

    async def write(writer):
        seen.append(True)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(self_signed(tmp_path))
    async with raw_server(write, context) as port:
        failure = await failure_of(Fetch(url=f"https://127.0.0.1:{port}/"))
    assert "CERTIFICATE_VERIFY_FAILED" in str(failure) or "certificate" in str(failure)
    assert seen == []


def self_signed(folder):
    key = ed25519.Ed25519PrivateKey.generate()
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]),
            critical=False,
        )
        .sign(key, None)
    )
    path = folder / "server.pem"
    path.write_bytes(
        key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        + certificate.public_bytes(Encoding.PEM)
    )
    return path
