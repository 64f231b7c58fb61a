"""Who we are to the bus: reads the secrets and answers the server's challenge."""

from __future__ import annotations

import base64
import enum
import re
import ssl
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from ssmd_core.errors import CredentialError
from ssmd_sink_nats.config import NatsConfig, TlsConfig

__all__ = [
    "Login",
    "Method",
    "connect_fields",
    "load_login",
    "load_tls",
    "secrets_of",
    "sign_nonce",
]

_BLOCK = re.compile(r"-{3,}\s*BEGIN ([A-Z ]+?)\s*-{3,}\s+(\S+)\s+-{3,}\s*END")


class Method(enum.Enum):
    """How to log in; the value is the key of the section to look at when it fails."""

    NONE = "user"
    PASSWORD = "password"  # noqa: S105  the name of a key
    TOKEN = "token"  # noqa: S105  the name of a key
    NKEY = "nkey_seed_path"
    CREDENTIALS = "credentials"


@dataclass(frozen=True, slots=True)
class Login:
    """The secrets of one way to log in; none of them shows in a repr."""

    method: Method = Method.NONE
    user: str = ""
    secret: str = field(default="", repr=False)
    """The password or the token."""
    jwt: str = field(default="", repr=False)
    seed: str = field(default="", repr=False)


def load_login(config: NatsConfig) -> Login:
    """Read the secrets that ``config`` names. Done anew for each connection: they rotate.

    Raises:
        CredentialError: a file is missing, unreadable or holds no such secret.
    """
    if config.user is not None:
        secret = _secret(config.password, config.password_file, "password_file")
        return Login(Method.PASSWORD, user=config.user, secret=secret)
    if config.token or config.token_file:
        return Login(Method.TOKEN, secret=_secret(config.token, config.token_file, "token_file"))
    if config.nkey_seed_path is not None:
        seed = _seed(_read(config.nkey_seed_path, "nkey_seed_path"), "nkey_seed_path")
        return Login(Method.NKEY, seed=seed)
    if config.credentials is not None:
        text = _read(config.credentials, "credentials")
        blocks: dict[str, str] = dict(_BLOCK.findall(text))
        jwt = blocks.get("NATS USER JWT")
        if jwt is None:
            raise CredentialError(
                f"transport.credentials: {config.credentials} holds no NATS USER JWT block; "
                "a .creds file is what `nsc generate creds` writes"
            )
        seed = _seed(blocks.get("USER NKEY SEED", ""), "credentials")
        return Login(Method.CREDENTIALS, jwt=jwt, seed=seed)
    return Login()


def connect_fields(login: Login, nonce: str) -> dict[str, str]:
    """Return what CONNECT must say to log in; ``nonce`` is the server's challenge."""
    match login.method:
        case Method.NONE:
            return {}
        case Method.PASSWORD:
            return {"user": login.user, "pass": login.secret}
        case Method.TOKEN:
            return {"auth_token": login.secret}
        case Method.NKEY:
            return {"nkey": _public_key(login.seed), "sig": sign_nonce(login.seed, nonce)}
        case Method.CREDENTIALS:
            return {"jwt": login.jwt, "sig": sign_nonce(login.seed, nonce)}


def secrets_of(login: Login) -> tuple[str, ...]:
    """Return what no message may show."""
    return (login.secret, login.jwt, login.seed)


def sign_nonce(seed: str, nonce: str) -> str:
    """Return the URL-safe base64 signature of a server's challenge."""
    import nkeys  # noqa: PLC0415  brings a native library, wanted by few

    signature: bytes = nkeys.from_seed(bytearray(seed.encode())).sign(nonce.encode())
    return base64.urlsafe_b64encode(signature).rstrip(b"=").decode()


def load_tls(config: TlsConfig | None) -> ssl.SSLContext:
    """Build the TLS context, reading its files anew.

    Raises:
        CredentialError: a file is missing or is not what it should be; names the key.
    """
    config = config or TlsConfig()

    def read(key: str, path: Path, load: Callable[[], object]) -> None:
        try:
            load()
        except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
            raise CredentialError(f"transport.tls.{key}: {path} cannot be used: {error}") from error

    context = ssl.create_default_context()
    if (ca := config.ca) is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        read("ca", ca, lambda: context.load_verify_locations(ca))
    if (cert := config.cert) is not None:
        read("cert", cert, lambda: context.load_cert_chain(cert, config.key))
    return context


def _public_key(seed: str) -> str:
    import nkeys  # noqa: PLC0415  brings a native library, wanted by few

    public: bytes = nkeys.from_seed(bytearray(seed.encode())).public_key
    return public.decode()


def _secret(value: object, file: Path | None, key: str) -> str:
    if file is not None:
        return _read(file, key).rstrip("\r\n")
    reveal: Callable[[], str] = getattr(value, "get_secret_value", str)
    return reveal()


def _read(path: Path, key: str) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is not a text file"
        raise CredentialError(f"transport.{key}: {path} cannot be read: {why}") from error


def _seed(text: str, key: str) -> str:
    import nkeys  # noqa: PLC0415  brings a native library, wanted by few

    found = re.search(r"\bSU[A-Z2-7]{56}\b", text)
    try:
        if found:
            nkeys.from_seed(bytearray(found[0].encode()))
            return found[0]
    except Exception:  # noqa: BLE001, S110  nkeys and PyNaCl raise many kinds, with the seed inside
        pass
    raise CredentialError(f"transport.{key}: the file holds no user seed (a line SU…)")
