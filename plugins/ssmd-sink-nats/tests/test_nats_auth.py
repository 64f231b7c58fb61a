"""Secrets from files, and the answer to a server's challenge."""

from __future__ import annotations

import base64
import os

import nkeys
import pytest

from ssmd_core.errors import CredentialError
from ssmd_sink_nats.auth import Login, Method, connect_fields, load_login, load_tls, sign_nonce
from ssmd_sink_nats.config import NatsConfig, TlsConfig


@pytest.fixture
def seed():
    return nkeys.encode_seed(os.urandom(32), nkeys.PREFIX_BYTE_USER).decode()


def load(**section) -> Login:
    return load_login(NatsConfig.model_validate({"url": "nats://h"} | section))


def test_a_password_file_ends_at_its_line_end(tmp_path):
    file = tmp_path / "password"
    file.write_text("s e c\n")
    login = load(user="u", password_file=file)
    assert connect_fields(login, "") == {"user": "u", "pass": "s e c"}
    assert "s e c" not in repr(login)


def test_a_token_is_sent_as_such(tmp_path):
    file = tmp_path / "token"
    file.write_text("tok")
    assert connect_fields(load(token_file=file), "") == {"auth_token": "tok"}
    assert connect_fields(load(token="tok"), "") == {"auth_token": "tok"}


def test_no_login_says_nothing():
    assert connect_fields(load(), "nonce") == {}


def verify(seed: str, nonce: str, signature: str) -> bool:
    raw = base64.urlsafe_b64decode(signature + "=" * (-len(signature) % 4))
    return nkeys.from_seed(bytearray(seed.encode())).verify(nonce.encode(), raw)


def test_an_nkey_signs_the_challenge_and_keeps_its_seed(tmp_path, seed):
    file = tmp_path / "user.nk"
    file.write_text(f"\n{seed}\n")
    login = load(nkey_seed_path=file)
    fields = connect_fields(login, "the-nonce")
    assert fields["nkey"].startswith("U")
    assert verify(seed, "the-nonce", fields["sig"])
    assert seed not in repr(login) + str(fields)


def test_a_creds_file_gives_jwt_and_signature(tmp_path, seed):
    file = tmp_path / "user.creds"
    file.write_text(
        "-----BEGIN NATS USER JWT-----\neyJ0.eyJq-_x.sig\n------END NATS USER JWT------\n\n"
        "************************* IMPORTANT *************************\n"
        f"-----BEGIN USER NKEY SEED-----\n{seed}\n------END USER NKEY SEED------\n"
    )
    login = load(credentials=file)
    fields = connect_fields(login, "abc")
    assert login.method is Method.CREDENTIALS
    assert fields["jwt"] == "eyJ0.eyJq-_x.sig"
    assert verify(seed, "abc", fields["sig"])
    assert seed not in repr(login)


@pytest.mark.parametrize("key", ["nkey_seed_path", "credentials", "token_file"])
def test_a_missing_file_names_its_key(tmp_path, key):
    with pytest.raises(CredentialError, match=rf"transport\.{key}: .*gone cannot be read: No such"):
        load(**{key: tmp_path / "gone"})


@pytest.mark.parametrize("key", ["nkey_seed_path", "credentials"])
def test_a_file_with_something_else_never_shows_it(tmp_path, key, seed):
    file = tmp_path / "wrong"
    file.write_text(seed[:-8])
    with pytest.raises(CredentialError, match=rf"transport\.{key}") as caught:
        load(**{key: file})
    assert seed[:20] not in str(caught.value)
    assert caught.value.__cause__ is None


def test_a_signature_is_url_safe(seed):
    assert not set("+/=") & set("".join(sign_nonce(seed, str(n)) for n in range(20)))


def test_a_certificate_that_cannot_be_used_names_its_key(tmp_path):
    file = tmp_path / "ca.pem"
    file.write_text("nonsense")
    with pytest.raises(CredentialError, match=r"transport\.tls\.ca"):
        load_tls(TlsConfig(ca=file))
    with pytest.raises(CredentialError, match=r"transport\.tls\.cert"):
        load_tls(TlsConfig(cert=tmp_path / "gone"))
