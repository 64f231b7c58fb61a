"""What the entry point registers, and what it does not import."""

from __future__ import annotations

import subprocess
import sys

from ssmd_sink_nats import plugin
from ssmd_sink_nats.config import NatsConfig


def test_the_plugin_registers_one_transport_named_nats():
    (record,) = plugin.ssmd_transports()
    assert (record.name, record.api_version, record.config) == ("nats", 1, NatsConfig)
    assert record.publishes


def test_opening_gives_a_transport_that_takes_nothing_yet(bench):
    context = bench(url="nats://127.0.0.1:1").context
    (record,) = plugin.ssmd_transports()
    transport = record.open(context, NatsConfig.model_validate({"url": "nats://127.0.0.1:1"}))
    assert transport.room() == 0
    assert not transport.connected()
    assert "nats://127.0.0.1:1" in transport.health().reason


def test_importing_the_plugin_brings_no_client_and_no_cryptography():
    heavy = ["nats", "nkeys", "nacl", "ssl", "asyncio", "cryptography", "ssmd_sink_nats.sink"]
    code = (
        "import sys, ssmd_sink_nats.plugin\n"
        f"print([name for name in {heavy!r} if name in sys.modules])"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True)
    assert out.stdout.strip() == "[]"
