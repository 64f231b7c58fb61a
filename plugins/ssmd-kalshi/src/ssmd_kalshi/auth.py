"""Decides how a request proves who we are: the key, and a signature for each attempt."""

from __future__ import annotations

import base64
from collections.abc import Callable
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from ssmd_core.errors import CredentialError
from ssmd_kalshi.credentials import KalshiCredentials

__all__ = ["KeySigner", "load_signer"]

_PSS = padding.PSS(mgf=padding.MGF1(hashes.SHA256()), salt_length=padding.PSS.DIGEST_LENGTH)
_WANTED = "expected an unencrypted RSA or Ed25519 private key in PEM (PKCS#1 or PKCS#8)"


@dataclass(frozen=True, slots=True)
class KeySigner:
    """Signs requests with one API key. Holds secrets: shows none."""

    key_id: str = field(repr=False)
    sign: Callable[[bytes], bytes] = field(repr=False)

    def headers(self, url: str, now_ms: int, method: str = "GET") -> dict[str, str]:
        """Return the headers that authenticate one request to ``url`` at ``now_ms``.

        Signed are time, method and path: no host, no query.
        """
        stamp = str(now_ms)
        signature = self.sign(f"{stamp}{method}{urlsplit(url).path}".encode())
        return {
            "KALSHI-ACCESS-KEY": self.key_id,
            "KALSHI-ACCESS-TIMESTAMP": stamp,
            "KALSHI-ACCESS-SIGNATURE": base64.b64encode(signature).decode(),
        }


def load_signer(credentials: KalshiCredentials) -> KeySigner:
    """Return the signer of a key.

    Raises:
        CredentialError: the PEM text is no private key that Kalshi takes.
    """
    variable = credentials.private_key_variable
    pem = credentials.private_key.get_secret_value().encode()
    # The causes are cut off: what cryptography says may quote the text it was given.
    try:
        key = load_pem_private_key(pem, password=None)
    except TypeError:
        raise CredentialError(f"{variable} is an encrypted key: {_WANTED}") from None
    except (ValueError, UnsupportedAlgorithm):
        raise CredentialError(f"{variable} is not readable as a key: {_WANTED}") from None
    match key:
        case RSAPrivateKey():
            rsa = key
            sign = lambda data: rsa.sign(data, _PSS, hashes.SHA256())  # noqa: E731
        case Ed25519PrivateKey():
            sign = key.sign
        case _:
            raise CredentialError(f"{variable} is a key of another type: {_WANTED}")
    return KeySigner(credentials.api_key.get_secret_value(), sign)
