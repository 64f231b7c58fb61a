import signal
import socket
import subprocess
import sys
import time

import anyio
import pytest

from ssmd_core.testing import until
from ssmd_kalshi.auth import load_signer
from ssmd_kalshi.credentials import read_credentials
from ssmd_kalshi.play import KEY_ID, keep_key, main


@pytest.fixture
def anyio_backend():
    return "asyncio"


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def play(port, key_file):
    command = [sys.executable, "-W", "error", "-m", "ssmd_kalshi.play"]
    command += ["--listen", f"127.0.0.1:{port}", "--key-file", str(key_file)]
    return subprocess.Popen(command, stderr=subprocess.PIPE, text=True)


async def handshake(port, key_file):
    """Return the status line of a handshake signed with the key in the file."""
    environ = {"KALSHI_API_KEY": KEY_ID, "KALSHI_PRIVATE_KEY_PATH": str(key_file)}
    url = f"ws://127.0.0.1:{port}/trade-api/ws/v2"
    signed = load_signer(read_credentials(environ, {})).headers(url, time.time_ns() // 1_000_000)
    lines = ["GET /trade-api/ws/v2 HTTP/1.1", "Host: venue", "Upgrade: websocket"]
    lines += ["Connection: Upgrade", "Sec-WebSocket-Version: 13"]
    lines += ["Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="]
    lines += [f"{name}: {value}" for name, value in signed.items()]
    async with await anyio.connect_tcp("127.0.0.1", port) as stream:
        await stream.send("\r\n".join([*lines, "", ""]).encode())
        with anyio.fail_after(10):
            return (await stream.receive()).split(b"\r\n")[0]


@pytest.mark.anyio
async def test_it_plays_alone_to_whoever_holds_the_key_and_ends_on_a_signal(tmp_path):
    port, key_file = free_port(), tmp_path / "key.pem"
    with play(port, key_file) as venue:
        assert "plays kalshi" in await anyio.to_thread.run_sync(venue.stderr.readline)
        assert b"101" in await handshake(port, key_file)
        venue.send_signal(signal.SIGTERM)
        await until(lambda: venue.poll() is not None)
    assert venue.returncode == 0


def test_the_key_is_private_and_survives_a_restart(tmp_path):
    key = keep_key(tmp_path / "key.pem")
    assert (tmp_path / "key.pem").stat().st_mode & 0o777 == 0o600
    assert keep_key(tmp_path / "key.pem").pem == key.pem
    assert [path.name for path in tmp_path.iterdir()] == ["key.pem"]


def test_a_file_that_is_no_key_ends_it_and_stays_as_it_is(tmp_path, capsys):
    (tmp_path / "key.pem").write_text("mine")
    assert main(["--listen", "127.0.0.1:0", "--key-file", str(tmp_path / "key.pem")]) == 2
    assert "key.pem" in capsys.readouterr().err
    assert (tmp_path / "key.pem").read_text() == "mine"


def test_a_port_in_use_ends_it_and_is_named(tmp_path, capsys):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        arguments = ["--listen", f"127.0.0.1:{port}", "--key-file", str(tmp_path / "key.pem")]
        assert main(arguments) == 2
    assert str(port) in capsys.readouterr().err


@pytest.mark.parametrize("address", ["venue", "venue:", ":8900", "venue:65536", "venue:-1"])
def test_an_address_without_a_port_that_there_is_is_refused(address, tmp_path, capsys):
    with pytest.raises(SystemExit):
        main([f"--listen={address}", "--key-file", str(tmp_path / "key.pem")])
    assert "is not HOST:PORT with a port of 0 to 65535" in capsys.readouterr().err
