from __future__ import annotations

import socket

import pytest

from ssmd_core.errors import BindError
from ssmd_core.service.address import bind


def test_a_bound_port_accepts_connections_before_anything_serves():
    with bind("127.0.0.1", 0) as sock, socket.create_connection(sock.getsockname(), timeout=5):
        pass


def test_localhost_is_reached_over_ipv4():
    with bind("localhost", 0) as sock:
        port = sock.getsockname()[1]
        with socket.create_connection(("127.0.0.1", port), timeout=5):
            pass


def test_an_ipv6_address_is_bound():
    with socket.socket(socket.AF_INET6) as probe:
        try:
            probe.bind(("::1", 0))
        except OSError:
            pytest.skip("this machine has no IPv6 loopback")
    with bind("::1", 0) as sock, socket.create_connection(sock.getsockname()[:2], timeout=5):
        pass


def test_a_taken_port_is_a_bind_error_with_exit_code_2_that_names_address_and_remedy():
    with bind("127.0.0.1", 0) as first:
        port = first.getsockname()[1]
        with pytest.raises(BindError, match=rf"127\.0\.0\.1:{port}: the port is taken") as caught:
            bind("127.0.0.1", port)
    assert caught.value.exit_code == 2
    assert "--health-addr" in str(caught.value)


def test_a_port_is_free_again_as_soon_as_its_holder_is_gone():
    with bind("127.0.0.1", 0) as first:
        address = first.getsockname()
        with socket.create_connection(address, timeout=5):
            first.settimeout(5)
            first.accept()[0].close()
    bind(*address).close()


def test_an_address_of_no_interface_is_a_bind_error_that_says_so():
    with pytest.raises(BindError, match=r"192\.0\.2\.1:0: no interface of this machine"):
        bind("192.0.2.1", 0)


def test_an_unknown_host_is_a_bind_error_that_names_it():
    with pytest.raises(BindError, match=r"no\.such\.host\.invalid:1: the host is not known"):
        bind("no.such.host.invalid", 1)


def test_a_host_that_no_encoding_takes_is_a_bind_error():
    with pytest.raises(BindError, match="the host is not known"):
        bind("a" * 70 + ".example", 1)
