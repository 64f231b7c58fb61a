"""Decides whether a handshake on loopback is signed as Kalshi demands, and makes keys for it."""

from __future__ import annotations

import base64
import binascii
import enum
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ed25519, padding, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

__all__ = ["Fault", "KeyPair", "PublicKey", "known_key", "new_key", "signature_fault"]

PublicKey = rsa.RSAPublicKey | ed25519.Ed25519PublicKey

_PSS = padding.PSS(mgf=padding.MGF1(hashes.SHA256()), salt_length=padding.PSS.DIGEST_LENGTH)


class Fault(enum.StrEnum):
    """What is wrong with a handshake, in the words of the 401 body."""

    MISSING = "MISSING_HEADERS"
    UNKNOWN_KEY = "NOT_FOUND"
    SKEWED = "TIMESTAMP_OUT_OF_RANGE"
    SIGNATURE = "INVALID_SIGNATURE"


@dataclass(frozen=True, slots=True)
class KeyPair:
    """An API key of a loopback venue: what the client keeps, and what the venue knows."""

    key_id: str
    pem: str = field(repr=False)
    """The private key, as a download from the venue has it."""
    public: PublicKey = field(repr=False)

    @property
    def environ(self) -> dict[str, str]:
        """The variables that hand the key to the feed."""
        return {"KALSHI_API_KEY": self.key_id, "KALSHI_PRIVATE_KEY": self.pem}


def new_key(*, ed25519_key: bool = False) -> KeyPair:
    """Make a fresh key: RSA of 2048 bits in PKCS#1, or Ed25519 in PKCS#8."""
    key_id = str(uuid.uuid4())
    if ed25519_key:
        edwards = ed25519.Ed25519PrivateKey.generate()
        pem = edwards.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        return KeyPair(key_id, pem.decode(), edwards.public_key())
    private = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    pem = private.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption())
    return KeyPair(key_id, pem.decode(), private.public_key())


def known_key(key_id: str, pem: str) -> KeyPair:
    """Return the pair of a private key that was made before.

    Raises:
        ValueError: the text is no RSA or Ed25519 private key in PEM.
    """
    private = load_pem_private_key(pem.encode(), password=None)
    if not isinstance(private, rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey):
        raise ValueError("a key of another type: expected RSA or Ed25519")  # noqa: TRY004  of its text
    return KeyPair(key_id, pem, private.public_key())


def signature_fault(
    headers: Mapping[str, str],
    path: str,
    keys: Mapping[str, PublicKey],
    *,
    now_ms: int,
    tolerance_ms: int,
) -> Fault | None:
    """Return what is wrong with the ``KALSHI-ACCESS-*`` headers of a GET, or None.

    Signed is the timestamp, ``GET`` and the path without its query.
    """
    key_id = headers.get("KALSHI-ACCESS-KEY", "")
    stamp = headers.get("KALSHI-ACCESS-TIMESTAMP", "")
    signature = headers.get("KALSHI-ACCESS-SIGNATURE", "")
    if not (key_id and stamp and signature):
        return Fault.MISSING
    key = keys.get(key_id)
    if key is None:
        return Fault.UNKNOWN_KEY
    if not (stamp.isascii() and stamp.isdigit()) or abs(int(stamp) - now_ms) > tolerance_ms:
        return Fault.SKEWED
    signed = f"{stamp}GET{path.partition('?')[0]}".encode()
    return None if _verifies(key, signature, signed) else Fault.SIGNATURE


def _verifies(key: PublicKey, signature: str, signed: bytes) -> bool:
    try:
        raw = base64.b64decode(signature, validate=True)
        if isinstance(key, rsa.RSAPublicKey):
            key.verify(raw, signed, _PSS, hashes.SHA256())
        else:
            key.verify(raw, signed)
    except (InvalidSignature, binascii.Error, ValueError):
        return False
    return True
