"""What the first look at the bus finds: reachable or not, allowed or not, a stream or none."""

from __future__ import annotations

import base64
import datetime as dt
import hashlib
import ipaddress
import json
import os
import threading

import nkeys
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from ssmd_core.errors import StartError, TransportUnusable
from ssmd_core.testing import until
from ssmd_sink_nats.auth import load_tls

pytestmark = pytest.mark.anyio

GUIDE = (
    'nats stream add PROD_KALSHI --subjects "prod.kalshi.>" --retention limits '
    "--max-age 1h --storage file --replicas 1 --discard old --defaults -s "
)


async def refusal(run) -> str:
    with pytest.raises(TransportUnusable) as caught:
        await run.transport.open()
    assert caught.value.exit_code == 2
    assert isinstance(caught.value, StartError)
    return str(caught.value)


async def publishes(run, make_trades) -> bool:
    async with run:
        run.transport.publish(make_trades(3))
        await run.flush()
        return run.metrics.published == 3 and run.transport.health().ok


# ── the stream ───────────────────────────────────────────────────────────────────


async def test_without_a_stream_and_an_archive_the_start_fails_with_the_command(server, bench):
    run = bench(url=server.url)
    assert GUIDE + server.url in await refusal(run)
    assert not run.transport.connected()


async def test_with_an_archive_the_missing_stream_is_waited_for(
    server, consumer, bench, make_trades
):
    async with bench(url=server.url, archived=True) as run:
        assert GUIDE + server.url in run.transport.health().reason
        assert run.transport.room() == 0
        assert not run.transport.connected()
        async with consumer(server.url) as bus:
            await bus.add_stream()
        await until(lambda: run.transport.health().ok)
        assert run.rooms.is_set()
        await run.feed(make_trades(3))
        await run.flush()


async def test_a_shared_stream_of_any_name_serves(server, consumer, bench, make_trades):
    async with consumer(server.url) as bus:
        await bus.add_stream("ANYTHING", ["prod.>"])
    assert await publishes(bench(url=server.url), make_trades)


async def test_a_stream_for_some_kinds_only_is_a_fault(server, consumer, bench):
    async with consumer(server.url) as bus:
        await bus.add_stream("T", ["prod.kalshi.trade.>"])
    reason = await refusal(bench(url=server.url))
    assert "prod.kalshi.ticker.>, prod.kalshi.status" in reason
    assert "nats stream add PROD_KALSHI" in reason


async def test_a_stream_that_is_named_but_absent_is_a_fault(server, consumer, bench):
    assert "nats stream add MINE" in await refusal(bench(url=server.url, stream="MINE"))
    async with consumer(server.url) as bus:
        await bus.add_stream("OTHER", ["prod.>"])
    assert "OTHER takes prod.>" in await refusal(bench(url=server.url, stream="MINE"))


async def test_the_stream_is_created_as_the_guide_does_when_asked(
    server, consumer, bench, make_trades
):
    assert await publishes(bench(url=server.url, create_stream=True), make_trades)
    async with consumer(server.url) as bus:
        config = (await bus.jetstream.stream_info("PROD_KALSHI")).config
    assert config.subjects == ["prod.kalshi.>"]
    assert (config.retention, config.storage, config.discard) == ("limits", "file", "old")
    assert (config.max_age, config.num_replicas) == (3600, 1)


async def test_a_bus_without_jetstream_is_unusable_even_with_an_archive(make_server, bench):
    server = make_server(jetstream=False)
    reason = await refusal(bench(url=server.url, archived=True))
    assert "JetStream" in reason
    assert server.url in reason


async def test_a_user_who_may_not_look_publishes_all_the_same(
    make_server, consumer, bench, make_trades
):
    server = make_server(
        "authorization { users: [ { user: a, password: b }, { user: u, password: p, permissions: "
        '{ publish: ["prod.>"], subscribe: "_INBOX.ssmd.>" } } ] }'
    )
    async with consumer(server.url, user="a", password="b") as bus:
        await bus.add_stream()
    run = bench(url=server.url, user="u", password="p", inbox_prefix="_INBOX.ssmd")
    assert await publishes(run, make_trades)
    assert "may not look at the streams" in run.warnings[0]
    refused = await refusal(bench(url=server.url, user="u", password="p"))
    assert "transport.inbox_prefix" in refused


# ── reachability ─────────────────────────────────────────────────────────────────


async def test_an_unreachable_bus_is_no_fault(make_server, bench):
    server = make_server(start=False)
    run = bench(url=server.url)
    await run.transport.open()
    assert run.transport.room() == 0
    assert not run.transport.connected()
    assert server.url in run.transport.health().reason
    assert "0 messages unacknowledged" in run.transport.health().reason


async def test_a_bus_that_accepts_and_says_nothing_is_given_up_for_now(bench, peer, monkeypatch):
    monkeypatch.setattr("ssmd_sink_nats.sink._OPEN_SECONDS", 0.2)

    async def serve(reader, writer):
        await reader.read()

    async with peer(serve) as url:
        run = bench(url=url)
        await run.transport.open()
        assert "no answer in time" in run.transport.health().reason


async def test_something_else_than_nats_is_named(bench, peer):
    async def serve(reader, writer):
        writer.write(b"SSH-2.0-OpenSSH_9.2\r\n")
        await reader.read()

    async with peer(serve) as url:
        run = bench(url=url)
        await run.transport.open()
        assert "does not speak the NATS protocol" in run.transport.health().reason


async def test_a_cluster_is_reached_through_whichever_server_lives(
    make_server, consumer, bench, make_trades
):
    dead, alive = make_server(start=False), make_server()
    async with consumer(alive.url) as bus:
        await bus.add_stream()
    assert await publishes(bench(url=[dead.url, alive.url]), make_trades)


# ── logging in ───────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("section", "right", "wrong", "key"),
    [
        (
            "authorization { user: me, password: hunter2 }",
            {"user": "me", "password": "hunter2"},
            {"user": "me", "password": "hunter3"},
            "transport.password",
        ),
        (
            "authorization { token: hunter2 }",
            {"token": "hunter2"},
            {"token": "hunter3"},
            "transport.token",
        ),
    ],
)
async def test_a_wrong_secret_fails_the_start_and_names_the_key_not_the_secret(
    make_server, bench, make_trades, section, right, wrong, key
):
    server = make_server(section)
    assert await publishes(bench(url=server.url, create_stream=True, **right), make_trades)
    reason = await refusal(bench(url=server.url, **wrong))
    assert key in reason
    assert server.url in reason
    assert "hunter" not in reason
    assert "transport.user" in await refusal(bench(url=server.url))


async def test_a_login_in_the_url_works_and_shows_nowhere(make_server, bench, make_trades):
    server = make_server("authorization { user: me, password: hunter2 }")
    url = server.url.replace("//", "//me:hunter2@")
    run = bench(url=url, create_stream=True)
    assert await publishes(run, make_trades)
    server.kill()
    run = bench(url=url)
    await run.transport.open()
    assert "hunter2" not in run.transport.health().reason + repr(run.transport._config)


async def test_credentials_that_go_bad_later_are_tried_again(
    make_server, bench, make_trades, monkeypatch
):
    monkeypatch.setattr("ssmd_sink_nats.sink._SLOW_ATTEMPT", 1)
    server = make_server("authorization { token: one }")
    async with bench(url=server.url, create_stream=True, token="one") as run:
        text = server.config.read_text()
        server.kill()
        server.config.write_text(text.replace("token: one", "token: two"))
        server.start()
        await until(lambda: "transport.token" in run.transport.health().reason)
        server.kill()
        server.config.write_text(text)
        server.start()
        await until(lambda: run.transport.health().ok)
        await run.feed(make_trades(3))
        await run.flush()


def new_seed(prefix: int) -> bytes:
    return bytes(nkeys.encode_seed(os.urandom(32), prefix))


def public(seed: bytes) -> str:
    return nkeys.from_seed(bytearray(seed)).public_key.decode().rstrip("=")


async def test_an_nkey_logs_in(make_server, bench, make_trades, tmp_path):
    seed = new_seed(nkeys.PREFIX_BYTE_USER)
    file = tmp_path / "user.nk"
    file.write_bytes(seed)
    server = make_server(f"authorization {{ users: [ {{ nkey: {public(seed)} }} ] }}")
    run = bench(url=server.url, create_stream=True, nkey_seed_path=file)
    assert await publishes(run, make_trades)
    file.write_bytes(new_seed(nkeys.PREFIX_BYTE_USER))
    assert "transport.nkey_seed_path" in await refusal(bench(url=server.url, nkey_seed_path=file))


def jwt(issuer: bytes, subject: str, name: str, claims: dict) -> str:
    """Sign claims as `nsc` does."""

    def encoded(value: dict) -> str:
        text = json.dumps(value, separators=(",", ":")).encode()
        return base64.urlsafe_b64encode(text).rstrip(b"=").decode()

    body = {"iat": 1_700_000_000, "iss": public(issuer), "name": name, "sub": subject}
    body["jti"] = base64.b32encode(hashlib.sha256(repr(claims).encode()).digest()).decode()
    body["nats"] = claims | {"version": 2}
    signed = f"{encoded({'typ': 'JWT', 'alg': 'ed25519-nkey'})}.{encoded(body)}"
    signature = nkeys.from_seed(bytearray(issuer)).sign(signed.encode())
    return f"{signed}.{base64.urlsafe_b64encode(signature).rstrip(b'=').decode()}"


async def test_a_creds_file_logs_in_to_an_operators_account(
    make_server, bench, make_trades, tmp_path
):
    operator = new_seed(nkeys.PREFIX_BYTE_OPERATOR)
    system, account = (new_seed(nkeys.PREFIX_BYTE_ACCOUNT) for _ in range(2))
    user = new_seed(nkeys.PREFIX_BYTE_USER)
    basic = dict.fromkeys(["subs", "conn", "leaf", "imports", "exports", "data", "payload"], -1)
    stored = dict.fromkeys(["mem_storage", "disk_storage", "streams", "consumer"], -1)
    limits = {"type": "account", "limits": basic | stored | {"wildcards": True}}
    plain = {"type": "account", "limits": basic | {"wildcards": True}}
    operator_jwt = jwt(
        operator, public(operator), "OP", {"type": "operator", "system_account": public(system)}
    )
    server = make_server(
        f"operator: {operator_jwt}\nresolver: MEMORY\nresolver_preload: {{\n"
        f"{public(system)}: {jwt(operator, public(system), 'SYS', plain)}\n"
        f"{public(account)}: {jwt(operator, public(account), 'APP', limits)}\n}}"
    )
    permissions = {"pub": {}, "sub": {}, "subs": -1, "data": -1, "payload": -1, "type": "user"}
    file = tmp_path / "user.creds"
    file.write_text(
        "-----BEGIN NATS USER JWT-----\n"
        f"{jwt(account, public(user), 'ssmd', permissions)}\n------END NATS USER JWT------\n\n"
        f"-----BEGIN USER NKEY SEED-----\n{user.decode()}\n------END USER NKEY SEED------\n"
    )
    run = bench(url=server.url, create_stream=True, credentials=file)
    assert await publishes(run, make_trades)
    text = file.read_text().replace(user.decode(), new_seed(nkeys.PREFIX_BYTE_USER).decode())
    file.write_text(text)
    assert "transport.credentials" in await refusal(bench(url=server.url, credentials=file))


# ── TLS ──────────────────────────────────────────────────────────────────────────


class Authority:
    """A CA of our own, and what it signs."""

    def __init__(self, folder) -> None:
        self.folder = folder
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test CA")])
        self.file = self._write("ca", self._sign("test CA", self.key, ca=True))

    def issue(self, name: str) -> tuple[str, str]:
        key = ec.generate_private_key(ec.SECP256R1())
        cert = self._write(name, self._sign(name, key))
        key_file = self.folder / f"{name}.key"
        key_file.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
        )
        return str(cert), str(key_file)

    def _sign(self, name: str, key, *, ca: bool = False):
        now = dt.datetime.now(dt.UTC)
        address = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
        skid = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
        akid = x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key())
        usage = x509.KeyUsage(
            digital_signature=True, key_cert_sign=ca, crl_sign=ca, content_commitment=False,
            key_encipherment=False, data_encipherment=False, key_agreement=False,
            encipher_only=False, decipher_only=False,
        )  # fmt: skip
        return (
            x509.CertificateBuilder()
            .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]))
            .issuer_name(self.name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - dt.timedelta(days=1))
            .not_valid_after(now + dt.timedelta(days=1))
            .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
            .add_extension(usage, critical=True)
            .add_extension(skid, critical=False)
            .add_extension(akid, critical=False)
            .add_extension(x509.SubjectAlternativeName([address]), critical=False)
            .sign(self.key, hashes.SHA256())
        )

    def _write(self, name: str, certificate):
        file = self.folder / f"{name}.pem"
        file.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        return file


@pytest.fixture
def authority(tmp_path):
    return Authority(tmp_path)


@pytest.mark.parametrize("early", [False, True])
async def test_a_bus_is_trusted_through_its_ca(make_server, bench, make_trades, authority, early):
    cert, key = authority.issue("server")
    first = "handshake_first: true" if early else ""
    server = make_server(f'tls {{ cert_file: "{cert}", key_file: "{key}", {first} }}')
    tls = {"ca": authority.file, "handshake_first": early}
    assert await publishes(bench(url=server.url, create_stream=True, tls=tls), make_trades)
    secure = server.url.replace("nats:", "tls:")
    untrusted = await refusal(bench(url=secure, tls={"handshake_first": early}))
    assert "transport.tls.ca" in untrusted
    assert "not trusted" in untrusted


async def test_a_lost_connection_with_tls_is_made_anew(make_server, bench, make_trades, authority):
    cert, key = authority.issue("server")
    server = make_server(f'tls {{ cert_file: "{cert}", key_file: "{key}" }}')
    async with bench(url=server.url, create_stream=True, tls={"ca": authority.file}) as run:
        await run.feed(make_trades(10_000))
        await run.flush()
        server.kill()
        await until(lambda: not run.transport.connected())
        server.start()
        await until(lambda: run.transport.health().ok)
        await run.feed(make_trades(10_000, first=10_000))
        await run.flush()
        assert run.metrics.published == 20_000
        assert run.metrics.duplicates == 0


async def test_a_bus_that_wants_a_client_certificate_gets_it(
    make_server, bench, make_trades, authority
):
    cert, key = authority.issue("server")
    server = make_server(
        f'tls {{ cert_file: "{cert}", key_file: "{key}", ca_file: "{authority.file}", '
        "verify: true }"
    )
    mine, my_key = authority.issue("client")
    tls = {"ca": authority.file, "cert": mine, "key": my_key}
    assert await publishes(bench(url=server.url, create_stream=True, tls=tls), make_trades)
    reason = await refusal(bench(url=server.url, tls={"ca": authority.file}))
    assert "transport.tls.cert" in reason
    assert "set cert and key" in reason


@pytest.mark.parametrize("cut", [5, 120, 400])
async def test_what_a_peer_sends_back_of_our_login_is_hidden(bench, peer, cut):
    async def serve(reader, writer):
        writer.write(b'INFO {"headers":true,"auth_required":true}\r\n')
        line = await reader.readuntil(b"PING\r\n")
        secret = line.index(b"hunter22")
        echo = line[: secret + cut].splitlines()[0]
        writer.write(b"-ERR 'Authorization Violation: %b'\r\n" % echo)
        await writer.drain()

    async with peer(serve) as url:
        reason = await refusal(bench(url=url, user="me", password="hunter22-and-more"))
    assert "transport.password" in reason
    assert "hunter22" not in reason
    assert "***" in reason or cut < 6


async def test_a_peer_that_only_echoes_does_not_show_our_login(bench, peer):
    async def serve(reader, writer):
        writer.write(b'INFO {"headers":true,"auth_required":true}\r\n')
        line = await reader.readuntil(b"PING\r\n")
        writer.write(line[line.index(b"hunter22") - 9 :])
        await writer.drain()

    async with peer(serve) as url:
        run = bench(url=url, user="me", password="hunter22-and-more")
        await run.transport.open()
        assert "does not speak the NATS protocol" in run.transport.health().reason
        assert "hunter22" not in run.transport.health().reason


async def test_certificates_are_read_beside_the_event_loop(
    make_server, bench, make_trades, authority, monkeypatch
):
    threads = []

    def load(config):
        threads.append(threading.current_thread())
        return load_tls(config)

    cert, key = authority.issue("server")
    server = make_server(f'tls {{ cert_file: "{cert}", key_file: "{key}" }}')
    run = bench(url=server.url, create_stream=True, tls={"ca": authority.file})
    monkeypatch.setattr("ssmd_sink_nats.cluster.load_tls", load)
    assert await publishes(run, make_trades)
    assert threads
    assert threading.main_thread() not in threads


async def test_no_password_is_sent_to_a_bus_that_offers_no_encryption(bench, peer, authority):
    heard = bytearray()

    async def serve(reader, writer):
        writer.write(b'INFO {"headers":true,"auth_required":true}\r\n')
        while data := await reader.read(1_000):
            heard.extend(data)

    async with peer(serve) as url:
        run = bench(
            url=url,
            user="me",
            password="hunter2",
            tls={"ca": authority.file},
        )
        assert "offers no TLS" in await refusal(run)
    assert not heard
