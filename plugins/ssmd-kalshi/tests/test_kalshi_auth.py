"""Credentials: where they come from, what is wrong with them, and what they sign."""

import base64
import traceback

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from ssmd_core.errors import CredentialError
from ssmd_kalshi.auth import load_signer
from ssmd_kalshi.credentials import read_credentials, read_demo_switch

KEY_ID = "11111111-2222-4333-8444-555555555555"
RSA = rsa.generate_private_key(public_exponent=65537, key_size=2048)
ED25519 = ed25519.Ed25519PrivateKey.generate()
NOW_MS = 1795000000123
URL = "wss://example.com/trade-api/ws/v2?token=1"
SIGNED = b"1795000000123GET/trade-api/ws/v2"


def pem(key, form=PrivateFormat.PKCS8, encryption=None):
    return key.private_bytes(Encoding.PEM, form, encryption or NoEncryption()).decode()


PKCS1, PKCS8, ED = pem(RSA, PrivateFormat.TraditionalOpenSSL), pem(RSA), pem(ED25519)


def environ(private_key=PKCS8, **more):
    return {"KALSHI_API_KEY": KEY_ID, "KALSHI_PRIVATE_KEY": private_key, **more}


def signer(private_key=PKCS8, **more):
    return load_signer(read_credentials(environ(private_key, **more), {}))


def refusal(variables, keys=None):
    with pytest.raises(CredentialError) as refused:
        load_signer(read_credentials(variables, keys or {}))
    shown = "".join(traceback.format_exception(refused.value))
    for secret in variables.values():
        for line in secret.split("\n"):
            assert len(line) < 8 or line not in shown
    return str(refused.value)


def verify(headers):
    signature = base64.b64decode(headers["KALSHI-ACCESS-SIGNATURE"], validate=True)
    pss = padding.PSS(mgf=padding.MGF1(hashes.SHA256()), salt_length=32)
    RSA.public_key().verify(signature, SIGNED, pss, hashes.SHA256())


# ── signatures ───────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("key", [PKCS1, PKCS8], ids=["pkcs1", "pkcs8"])
def test_an_rsa_signature_is_verified_by_the_public_key(key):
    headers = signer(key).headers(URL, NOW_MS)
    assert headers["KALSHI-ACCESS-KEY"] == KEY_ID
    assert headers["KALSHI-ACCESS-TIMESTAMP"] == str(NOW_MS)
    verify(headers)


def test_an_ed25519_signature_is_verified_by_the_public_key():
    headers = signer(ED).headers(URL, NOW_MS)
    signature = base64.b64decode(headers["KALSHI-ACCESS-SIGNATURE"], validate=True)
    ED25519.public_key().verify(signature, SIGNED)


def test_each_attempt_is_signed_anew():
    key = signer()
    first, second = key.headers(URL, NOW_MS), key.headers(URL, NOW_MS + 1)
    assert first["KALSHI-ACCESS-TIMESTAMP"] != second["KALSHI-ACCESS-TIMESTAMP"]
    assert first["KALSHI-ACCESS-SIGNATURE"] != second["KALSHI-ACCESS-SIGNATURE"]


def test_nothing_shows_a_secret():
    credentials = read_credentials(environ(), {})
    for thing in (credentials, load_signer(credentials)):
        shown = f"{thing!r} {thing!s}"
        assert KEY_ID not in shown
        assert "PRIVATE KEY" not in shown
        assert "RSAPrivateKey" not in shown


# ── where they come from ─────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "text",
    [
        PKCS1.replace("\n", "\\n"),
        f"  \n{PKCS1}\n  ",
        PKCS1.replace("\n", "\r\n"),
        PKCS1.replace("\n", "\\r\\n"),
    ],
    ids=["literal newlines", "blanks around", "crlf", "literal crlf"],
)
def test_the_pem_text_may_have_been_through_a_shell_or_an_editor(text):
    verify(signer(text).headers(URL, NOW_MS))


def test_blanks_around_the_key_id_are_cut_off():
    headers = signer(KALSHI_API_KEY=f" {KEY_ID}\n").headers(URL, NOW_MS)
    assert headers["KALSHI-ACCESS-KEY"] == KEY_ID


def test_the_key_may_stand_in_a_file(tmp_path):
    (tmp_path / "key.pem").write_text(f"{PKCS8}\n")
    verify(signer("", KALSHI_PRIVATE_KEY_PATH=f"{tmp_path}/key.pem\n").headers(URL, NOW_MS))


def test_the_text_wins_over_the_file():
    signer(PKCS8, KALSHI_PRIVATE_KEY_PATH="/nowhere/key.pem")


def test_keys_name_other_variables_and_win_over_the_defaults():
    variables = environ(ED, MY_ID="my-id", MY_KEY=PKCS8)
    keys = {"api_key": "MY_ID", "private_key": "MY_KEY", "passphrase": "OTHER"}
    headers = load_signer(read_credentials(variables, keys)).headers(URL, NOW_MS)
    assert headers["KALSHI-ACCESS-KEY"] == "my-id"
    verify(headers)


def test_a_named_variable_that_is_empty_does_not_fall_back_to_the_default():
    text = refusal(environ(), {"private_key": "MY_KEY"})
    assert "MY_KEY is not set" in text
    assert "KALSHI" not in text


# ── what is wrong with them ──────────────────────────────────────────────────────


@pytest.mark.parametrize("value", [None, "", "  \n"])
def test_a_missing_key_id_names_its_variable(value):
    variables = environ() if value is None else environ(KALSHI_API_KEY=value)
    if value is None:
        del variables["KALSHI_API_KEY"]
    assert "KALSHI_API_KEY is not set" in refusal(variables)


@pytest.mark.parametrize("value", ["a b", "a\nX-Evil: 1", "\u00e9t\u00e9", "a\x00b"])
def test_a_key_id_that_no_header_can_carry_is_refused(value):
    assert "KALSHI_API_KEY" in refusal(environ(KALSHI_API_KEY=value))


@pytest.mark.parametrize("value", ["", "   "])
def test_a_missing_private_key_names_both_variables(value):
    text = refusal(environ(value))
    assert "KALSHI_PRIVATE_KEY is not set" in text
    assert "KALSHI_PRIVATE_KEY_PATH is not set" in text


@pytest.mark.parametrize(
    "text",
    [
        "secret-but-no-pem",
        PKCS8[:200],
        PKCS8.replace("A", "B"),
        pem(ec.generate_private_key(ec.SECP256R1())),
        pem(RSA, encryption=BestAvailableEncryption(b"x")),
        RSA.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode(),
    ],
    ids=["no pem", "cut", "damaged", "elliptic curve", "encrypted", "public"],
)
def test_a_key_that_cannot_sign_names_its_variable_and_what_is_expected(text):
    message = refusal(environ(text))
    assert message.startswith("KALSHI_PRIVATE_KEY is ")
    assert "RSA or Ed25519" in message


def test_a_key_file_that_is_missing_is_not_named(tmp_path):
    path = f"{tmp_path}/nowhere.pem"
    text = refusal({"KALSHI_API_KEY": KEY_ID, "KALSHI_PRIVATE_KEY_PATH": path})
    assert "KALSHI_PRIVATE_KEY_PATH" in text
    assert "No such file" in text


@pytest.mark.parametrize("content", [b"", b"\xff\xfe", b"x" * 100_000])
def test_a_key_file_without_a_key_is_refused(content, tmp_path):
    (tmp_path / "key.pem").write_bytes(content)
    variables = {"KALSHI_API_KEY": KEY_ID, "KALSHI_PRIVATE_KEY_PATH": f"{tmp_path}/key.pem"}
    assert "KALSHI_PRIVATE_KEY_PATH" in refusal(variables)


def test_a_key_in_place_of_a_path_is_told_apart():
    with pytest.raises(CredentialError, match="KALSHI_PRIVATE_KEY_PATH holds a key"):
        read_credentials({"KALSHI_API_KEY": KEY_ID, "KALSHI_PRIVATE_KEY_PATH": PKCS8}, {})


@pytest.mark.parametrize("path", [PKCS8, "a\x00b", "."])
def test_a_path_that_is_none_is_refused(path):
    variables = {"KALSHI_API_KEY": KEY_ID, "KALSHI_PRIVATE_KEY_PATH": path}
    with pytest.raises(CredentialError, match="KALSHI_PRIVATE_KEY_PATH") as refused:
        read_credentials(variables, {})
    assert "PRIVATE KEY-" not in str(refused.value)


# ── the demo switch ──────────────────────────────────────────────────────────────


@pytest.mark.parametrize("value", ["true", "1", "yes", "TRUE", " Yes\n"])
def test_the_demo_switch_is_on(value):
    assert read_demo_switch({"KALSHI_USE_DEMO": value}, {}) == (True, "")


@pytest.mark.parametrize("value", [None, "", "false", "0", "no", "False"])
def test_the_demo_switch_is_off(value):
    variables = {} if value is None else {"KALSHI_USE_DEMO": value}
    assert read_demo_switch(variables, {}) == (False, "")


def test_a_demo_switch_that_says_neither_is_off_with_a_warning():
    switch = read_demo_switch({"KALSHI_USE_DEMO": "ture"}, {})
    assert not switch.on
    assert "KALSHI_USE_DEMO" in switch.warning
