"""Which server comes next, and how long to wait."""

from __future__ import annotations

import socket
from types import SimpleNamespace

import pytest

from ssmd_sink_nats.cluster import Cluster, backoff_seconds, discovered, explain
from ssmd_sink_nats.config import NatsConfig, Server
from ssmd_sink_nats.protocol import Info


@pytest.fixture
def cluster():
    return Cluster(NatsConfig.model_validate({"url": "nats://a,nats://b,nats://c"}), "test")


def test_the_order_given_is_the_order_tried(cluster):
    assert [server.host for server in cluster.candidates()] == ["a", "b", "c"]


def test_after_a_loss_the_next_server_is_tried_first_and_the_lost_one_last(cluster):
    cluster.learn(SimpleNamespace(server=Server("b"), info=Info()))
    assert [server.host for server in cluster.candidates()] == ["c", "a", "b"]


def test_servers_that_a_server_named_are_tried_too(cluster):
    info = Info(connect_urls=("d:4333", "[::1]:4222", "junk", "e:port"))
    cluster.learn(SimpleNamespace(server=Server("c"), info=info))
    assert [server.host for server in cluster.candidates()] == ["d", "::1", "a", "b", "c"]


def test_a_named_server_is_verified_by_the_name_it_was_found_through():
    server = Server("bus.example", tls=True)
    (member,) = discovered(server, Info(connect_urls=("10.0.0.1:4222",)))
    assert member == Server("10.0.0.1", 4222, tls=True, certificate_name="bus.example")
    (again,) = discovered(member, Info(connect_urls=("10.0.0.2:4222",)))
    assert again.certificate_name == "bus.example"


def test_a_member_that_is_named_by_name_is_verified_by_that():
    (member,) = discovered(Server("bus.example", tls=True), Info(connect_urls=("n2.example:4222",)))
    assert member == Server("n2.example", 4222, tls=True)


def test_a_server_that_is_configured_and_named_is_tried_once():
    config = NatsConfig.model_validate({"url": "tls://10.0.0.1,tls://10.0.0.2"})
    cluster = Cluster(config, "test")
    info = Info(connect_urls=("10.0.0.2:4222", "10.0.0.3:4222"))
    cluster.learn(SimpleNamespace(server=Server("10.0.0.1", tls=True), info=info))
    hosts = [server.host for server in cluster.candidates()]
    assert hosts == ["10.0.0.2", "10.0.0.3", "10.0.0.1"]
    assert all(server.certificate_name is None for server in cluster.candidates()[::2])


def test_no_server_can_name_others_without_end():
    named = tuple(f"h{number}:1" for number in range(1_000))
    assert len(discovered(Server("a"), Info(connect_urls=named))) == 32


def test_backoff_doubles_up_to_its_cap_with_jitter():
    for attempt in range(2_000):
        most = min(10.0, 0.25 * 2.0 ** min(attempt, 40))
        assert most / 2 <= backoff_seconds(attempt, least=0.25, most=10.0) <= most


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (TimeoutError(), "no answer in time"),
        (ConnectionRefusedError(111, "Connect call failed ('127.0.0.1', 1)"), "refused"),
        (socket.gaierror(-2, "Name or service not known"), "the name is not known"),
        (ConnectionError("the server closed the connection"), "the server closed the connection"),
    ],
)
def test_a_failure_is_told_in_plain_words(error, words):
    assert words in explain(error)
